"""Packed rows: rectangles of unlike size in one sequence, with attention inside each row and nothing between them."""
