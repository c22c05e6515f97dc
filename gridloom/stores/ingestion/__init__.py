"""Ingestion of many records at once: blocks of journal lines as Arrow tables."""
