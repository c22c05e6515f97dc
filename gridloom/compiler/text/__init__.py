"""YAML text -> one tree of values with positions: loading, extends, overrides, variables."""
