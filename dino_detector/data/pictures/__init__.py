"""Finds picture files, opens them, and converts them to RGB tensors."""
