"""Displays of data: grids as text, SVG and PNG; rows, entries, statistics."""
