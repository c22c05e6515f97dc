"""Compiler, spec text -> RunGraph, as plain functions: compose, sweep, validate, bind, check, lower, fingerprint."""
