"""Runs and artifacts that a user names: found by a short name, listed, removed, kept within a size."""
