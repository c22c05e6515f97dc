"""Verifiers that judge an attempt from the demonstrations, the test input and model outputs alone."""

from gridloom.solvers.verifiers.judge import Judge
from gridloom.solvers.verifiers.signals import VERIFIERS, Evidence, verifier

__all__ = ["VERIFIERS", "Evidence", "Judge", "verifier"]
