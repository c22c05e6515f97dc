"""Evaluation of checkpoints: voting over views, counting, comparison with answers, intervals."""
