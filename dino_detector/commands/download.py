"""The command ``download_coco.py``: download COCO 2017."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dino_detector.commands.arguments import parse_settings
from dino_detector.commands.frame import configure_logging, run_command
from dino_detector.config import DownloadConfig
from dino_detector.config.commands import DownloadSettings
from dino_detector.errors import InputError, StoppedByUser


def main(argv: Sequence[str] | None = None, *, prog: str = "python3 download_coco.py") -> int:
    """Download parts of COCO 2017, and return the exit code.

    Args:
        argv: the arguments; None takes the arguments of the process.
        prog: the command as the user types it.
    """

    def command() -> None:
        values, _ = parse_settings(
            [DownloadSettings, DownloadConfig],
            sys.argv[1:] if argv is None else argv,
            prog=prog,
            description="Download COCO 2017: images to DATA_DIR/train2017, val2017 and test2017, annotations to "
            "DATA_DIR/annotations. Files on disk are not fetched again. A download that was interrupted goes on when "
            "the same command is run again.",
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
            f"stopped; {config.data_dir} keeps the bytes that have arrived, and the same command goes on from there"
        ) from None
