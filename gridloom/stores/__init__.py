"""What is kept: the artifact store, the journals and the DuckDB ledger, LangGraph checkpoints."""
