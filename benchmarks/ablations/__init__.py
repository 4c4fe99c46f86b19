"""Ablations of a training recipe: one run for each changed setting and seed."""
