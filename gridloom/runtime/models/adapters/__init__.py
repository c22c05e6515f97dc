"""Adapters between a language model's hidden states and a two-state network's latent."""
