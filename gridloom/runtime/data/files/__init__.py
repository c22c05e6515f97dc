"""Files that data comes in: JSON, arrays, grids, each refused with its place when damaged."""
