"""Training loops, losses, optimisers and resumable state."""
