"""Reads the annotations of other labelling tools."""
