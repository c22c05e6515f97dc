"""Reports over recorded runs: comparison, model cards, published checkpoints."""
