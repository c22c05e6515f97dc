"""The solver: a LangGraph state machine that plans, reasons, adapts, proposes, verifies and records; and its judges."""
