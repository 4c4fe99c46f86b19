"""Checks a data set before training: its contents, its mistakes, and the mistakes most worth fixing."""
