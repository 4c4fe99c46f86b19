"""The command line of a benchmark."""

from __future__ import annotations

import argparse


def command_parser(module: str, description: str) -> argparse.ArgumentParser:
    """Return a parser for ``python -m MODULE`` whose help keeps the line breaks of the description."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
