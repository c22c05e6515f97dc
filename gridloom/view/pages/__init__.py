"""Data of each page of the viewer, read from the ledger."""
