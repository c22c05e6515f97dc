"""Executes a RunGraph: executor, devices, training loops, checkpoints, models and data."""
