"""``dino-detector <command>``: runs the commands of the toolkit."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from dino_detector import __version__
from dino_detector.commands.frame import run_command
from dino_detector.errors import InputError, did_you_mean

PROG = "dino-detector"
COMMANDS = {
    "data": "check a data set before training: what it holds, and what is most worth fixing",
    "convert": "write a data set in the format of another labelling tool",
    "recommend": "choose settings for a data set and this machine, with the reasons, as a config.yaml",
    "train": "train a detector on labelled images",
    "evaluate": "COCO metrics of a checkpoint on validation images, and detections for test-dev",
    "predict": "detect objects in a picture or a folder of pictures",
    "suggest": "which pictures to label next",
    "doubts": "labels that are probably wrong",
    "label": "pre-labels for pictures without labels, for a labelling tool",
    "export": "write a detector for ONNX Runtime or OpenVINO",
    "analyze": "report, tables, charts and pictures of metrics and detections",
    "download": "fetch COCO 2017",
    "demo": "generate a small data set, train on it, and show what comes out",
}
HELP = f"""usage: {PROG} COMMAND [--SETTING VALUE ...]

Object detection on a frozen DINOv2 backbone, with data of any labelling tool.

commands:
{chr(10).join(f"  {name:10}{summary}" for name, summary in COMMANDS.items())}

{PROG} COMMAND --help lists the settings of a command; {PROG} --version prints the version."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: the command and its flags; None takes the arguments of the process.
    """
    argv = sys.argv[1:] if argv is None else argv
    return run_command(lambda: _dispatch(list(argv)))


def _dispatch(argv: list[str]) -> int:
    if not argv:
        raise InputError(f"give a command: {', '.join(COMMANDS)}; see {PROG} --help")
    name, *rest = argv
    if name in ("-h", "--help"):
        print(HELP)
        return 0
    if name == "--version":
        print(f"{PROG} {__version__}")
        return 0
    if name not in COMMANDS:
        kind = "flag" if name.startswith("-") else "command"
        raise InputError(f"unknown {kind} {name}{did_you_mean(name, [*COMMANDS, '--help', '--version'])}")
    return importlib.import_module(f"dino_detector.commands.{name}").main(rest, prog=f"{PROG} {name}")


if __name__ == "__main__":
    sys.exit(main())
