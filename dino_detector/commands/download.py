"""The command ``download_coco.py``: COCO 2017 on disk."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dino_detector.commands.arguments import parse_settings
from dino_detector.commands.frame import configure_logging, run_command
from dino_detector.config import DownloadConfig, DownloadSettings
from dino_detector.errors import InputError, StoppedByUser


def main(argv: Sequence[str] | None = None, *, prog: str = "python3 download_coco.py") -> int:
    """Download parts of COCO 2017, and return the exit code.

    Args:
        argv: the command line without the command; None takes that of the process.
        prog: the command as the user types it.
    """

    def command() -> None:
        values, _ = parse_settings(
            [DownloadSettings, DownloadConfig],
            sys.argv[1:] if argv is None else argv,
            prog=prog,
            description="Download COCO 2017: images to DATA_DIR/train2017, val2017 and test2017, annotations to "
            "DATA_DIR/annotations. What is there is not fetched again, and a download that was stopped or broken off "
            "goes on where it was when the same command is run again.",
            usage="[--download_train] [--download_val] [--download_test]",
        )
        parts = {name: values.pop(f"download_{name}") for name in ("train", "val", "test")}
        if not any(parts.values()):
            raise InputError("give at least one of --download_train, --download_val, --download_test; see --help")
        config = DownloadConfig(**values)
        configure_logging()
        _download([name for name, wanted in parts.items() if wanted], config)

    return run_command(command)


def _download(splits: Sequence[str], config: DownloadConfig) -> None:
    from dino_detector.download import check_source, download_split

    check_source(config)
    try:
        for split in splits:
            download_split(split, config)
    except KeyboardInterrupt:
        raise StoppedByUser(
            f"stopped; what has arrived is kept in {config.data_dir}, and the same command goes on from there"
        ) from None
