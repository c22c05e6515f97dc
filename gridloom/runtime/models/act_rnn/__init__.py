"""Recurrent networks with adaptive computation time: steps of a cell, weighed by a halting unit."""
