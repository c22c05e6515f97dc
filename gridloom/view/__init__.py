"""The ledger as web pages, reports and notebooks: data, drawings, templates and a server."""
