"""Worlds without training, for tests and benchmarks of search."""
