"""YAML text to one tree of values with places: loading, extends, overrides, variables."""
