"""Maintenance tools. Each runs from the repository root as ``python -m tools.NAME``."""
