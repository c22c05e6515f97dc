"""LangGraph checkpoints in the ledger: threads in memory, the checkpointer."""
