"""Models of the loop: reasoners, proposers, and the scheduler that runs their calls in shared batches."""
