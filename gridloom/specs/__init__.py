"""What a user writes: the pydantic models of a spec, one module per section, and `library/*.yaml`, the recipes."""
