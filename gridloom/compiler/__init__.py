"""Spec text -> RunGraph, by plain functions: load, compose, validate, bind, check, lower, fingerprint."""
