"""Checks of recipes: build, count, forward, backward, overfit, save and load, generate, without a dataset."""
