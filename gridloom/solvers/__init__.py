"""The solver: a LangGraph state machine plan -> reason -> adapt -> propose -> verify -> record, its nodes and judges."""
