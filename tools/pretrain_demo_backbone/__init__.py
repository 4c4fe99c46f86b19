"""Pretrain the demo backbone on generated scenes of shapes."""
