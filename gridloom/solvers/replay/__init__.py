"""Replay of recorded attempts: re-execution, comparison, forks with a changed plan."""
