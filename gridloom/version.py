"""The version of gridloom, in a module of its own so that no layer imports the package's public names for it."""

__version__ = "0.1.0"
