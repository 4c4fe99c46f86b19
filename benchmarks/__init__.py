"""Benchmarks. Each runs from the repository root as a module, for example ``python -m benchmarks.speed``."""
