"""Trackers outside of the ledger that figures are sent to while a stage runs: Weights & Biases."""
