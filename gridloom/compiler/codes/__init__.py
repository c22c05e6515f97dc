"""Diagnostic codes: meaning, reason, a refused example and the same one mended."""
