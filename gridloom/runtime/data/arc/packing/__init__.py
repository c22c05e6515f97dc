"""Packed rows of ARC tasks: their sizes, and the stream of training rows that have them."""
