"""Drawings as text: grids for the script and for SVG, line charts, stage graphs, animated pictures."""
