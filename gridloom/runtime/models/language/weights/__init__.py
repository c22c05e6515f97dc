"""Weights of language models: fetched, converted, pinned by digest."""
