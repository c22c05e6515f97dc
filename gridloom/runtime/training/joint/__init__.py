"""Joint training of adapters and a network around a frozen language model."""
