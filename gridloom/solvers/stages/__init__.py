"""Stages of the solver (solve, calibrate, score, ablate) and the artifacts that connect the stages."""
