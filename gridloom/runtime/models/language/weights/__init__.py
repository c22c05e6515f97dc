"""Weights of language models: download, conversion, digests."""
