"""Pydantic models of a spec, one module per section, and the recipes `library/*.yaml`."""
