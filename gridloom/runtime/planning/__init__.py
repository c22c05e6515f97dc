"""From a spec to a plan on this machine: facts, cached stages, reasons to run, the nearest artifact."""
