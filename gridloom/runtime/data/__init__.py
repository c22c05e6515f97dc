"""Datasets: tasks, views, tokens, and the readers of source files."""
