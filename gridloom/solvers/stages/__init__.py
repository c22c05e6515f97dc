"""Stages of the solver: solve, calibrate, score, ablate, and the artifacts between them."""
