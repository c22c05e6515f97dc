"""The networks: TRM, LLaMA, the adapters between them, and the checkpoint bundle that carries them."""
