"""Faster equivalents of the network's modules for a CPU, behind `optimize_for_cpu`."""

from dino_detector.models.cpu.optimize import optimize_for_cpu

__all__ = ["optimize_for_cpu"]
