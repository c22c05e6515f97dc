"""Checkpoint bundles: files, description, and the stage that copies a bundle from a folder."""
