"""Picture files: found, opened, and turned into RGB tensors."""
