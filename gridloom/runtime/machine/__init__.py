"""The machine's devices: choice, memory, measured speeds."""
