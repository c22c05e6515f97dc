"""Readers of data files: JSON, arrays, grids. Errors name the location of the damage."""
