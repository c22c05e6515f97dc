"""Formats of other projects: TinyRecursiveModels checkpoints and configs, result files, benchmarks."""
