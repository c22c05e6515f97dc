"""Sequence tasks (parity, addition, copy, ...): rows generated as they are drawn."""
