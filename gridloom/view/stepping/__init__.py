"""Checkpoints stepped through item by item: rows of each kind of data, and what the network makes of them."""
