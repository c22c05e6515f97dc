"""Mazes and sudokus: generation, storage, training rows."""
