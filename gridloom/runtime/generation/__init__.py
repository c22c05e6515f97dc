"""Text from a trained network: sampling, streaming, and a chat session."""
