"""Specs of commands that are given none: `evaluate CHECKPOINT DATA`, `solve` of a file or folder of tasks."""
