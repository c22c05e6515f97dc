"""Self-contained HTML files: report of a run, one attempt."""
