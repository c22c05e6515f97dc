"""Command line: typer commands, and the text that they print."""
