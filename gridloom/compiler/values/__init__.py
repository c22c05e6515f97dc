"""Refused values of a spec: where they are, and what is reported of them."""
