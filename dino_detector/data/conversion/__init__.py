"""Writes a data set in the format of another labelling tool."""
