"""Language models: local LLaMA weights run by transformers, or a server; prompts to text and hidden states."""
