"""Devices of the machine: selection, memory, measured speeds."""
