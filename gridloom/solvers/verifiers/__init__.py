"""Verifiers that judge an attempt from the demonstrations, the test input and model outputs alone."""
