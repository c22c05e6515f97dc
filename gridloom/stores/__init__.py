"""Storage: the artifact store, the journals, the DuckDB ledger, and LangGraph checkpoints."""
