"""ARC: sources, tasks up to symmetry, views, tokens, training rows, prompts, and grids read from text."""
