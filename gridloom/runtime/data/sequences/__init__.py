"""Sequence tasks (parity, addition, copy, ...): rows generated on demand."""
