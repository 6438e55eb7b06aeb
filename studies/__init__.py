"""Experiments: one module asks one question."""
