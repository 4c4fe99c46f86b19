"""Pretraining of the demo backbone: `shapes` defines outlines, `scenes` draws scenes of them."""
