"""Text for a terminal: tables, grids, progress, changes and results."""
