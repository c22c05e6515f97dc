"""Planning of a spec on this machine: facts, cached stages, reasons to run, the nearest artifact."""
