"""Runs and attempts: their ids and names, the processes of a run, and clashes of ids."""
