"""The solver's state machine: graph, nodes, planning policies, selection, records."""
