"""Recurrent networks with adaptive computation time: steps of a cell, weighted by a halting unit."""
