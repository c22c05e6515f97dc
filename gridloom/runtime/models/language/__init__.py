"""Language models: a local LLaMA through transformers, or a server; prompts in, text and states out."""
