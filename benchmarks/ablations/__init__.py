"""Ablations of a training recipe, on several seeds."""
