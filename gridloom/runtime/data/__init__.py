"""Datasets: tasks, views, tokens, and the readers that bring them in."""
