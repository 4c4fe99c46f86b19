"""The command line of a benchmark."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path


def command_parser(module: str, description: str) -> argparse.ArgumentParser:
    """Return a parser for ``python -m MODULE`` whose help keeps the line breaks of the description."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def run_in_folder(module: str, description: str, run: Callable[[Path], None], *, files: str) -> None:
    """Run a benchmark in the folder that the command line names, or in a temporary one.

    Args:
        module: see `command_parser`.
        description: see `command_parser`.
        run: the benchmark.
        files: the benchmark's files in the folder, for the help.
    """
    parser = command_parser(module, description)
    parser.add_argument("folder", type=Path, nargs="?", help=f"folder for {files} (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run(options.folder or Path(temporary))
