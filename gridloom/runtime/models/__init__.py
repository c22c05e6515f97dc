"""Models by family: recursive networks, language models, adapters between the two, ACT-RNN; registry of model kinds."""
