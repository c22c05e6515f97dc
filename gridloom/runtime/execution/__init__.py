"""Execution of a plan: executor, locks, stop signal, outcomes."""
