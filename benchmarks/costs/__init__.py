"""Time, memory and size of parts of the toolkit: ``python -m benchmarks.costs.NAME``."""
