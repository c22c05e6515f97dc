"""What the loop calls: reasoners, proposers, and the hub that batches their calls."""
