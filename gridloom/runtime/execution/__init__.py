"""Execution of a plan: stages in order, locks, the stop signal, outcomes."""
