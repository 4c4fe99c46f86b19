"""Maintenance tools; each runs from the repository root as ``python -m tools.NAME``."""
