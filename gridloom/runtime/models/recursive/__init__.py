"""Recursive networks with ACT halting: the TRM and its relatives."""
