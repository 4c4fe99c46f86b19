"""Code that several benchmarks share.

The environment of RF-DETR imports `command_line` too, so that module needs the standard library alone.
"""
