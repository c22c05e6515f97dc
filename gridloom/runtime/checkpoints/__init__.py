"""Checkpoint bundles: files, description, and the stage that takes one from a folder."""
