"""Benchmarks of the toolkit; each runs from the repository root as ``python -m benchmarks.NAME``."""
