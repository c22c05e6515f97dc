"""Public functions and classes for scripts and notebooks: compile, run, solve, and a workspace's ledger."""
