"""Universal Transformers: one shared block over several hops, which halts separately at every position."""
