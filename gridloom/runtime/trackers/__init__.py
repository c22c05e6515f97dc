"""Trackers outside of the ledger that figures are sent to as well: Weights & Biases, TensorBoard."""
