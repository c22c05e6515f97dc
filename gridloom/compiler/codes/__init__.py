"""Diagnostic codes: meaning, reason, a refused example and its corrected form."""
