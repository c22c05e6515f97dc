"""Model engine: a recursive core with switchable parts: vision, capsules, planning, memory, concepts, halting."""
