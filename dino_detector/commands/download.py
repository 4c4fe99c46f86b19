"""The command ``download``, also ``python3 download_coco.py``: downloads COCO 2017."""

from __future__ import annotations

from dino_detector.commands.frame import command
from dino_detector.config import DownloadConfig
from dino_detector.config.commands import DownloadSettings
from dino_detector.errors import InputError, StoppedByUser


@command(DownloadSettings, DownloadConfig, usage="[--download_train] [--download_val] [--download_test]")
def main(settings: DownloadSettings, config: DownloadConfig) -> None:
    """Download COCO 2017: images to DATA_DIR/train2017, val2017 and test2017, annotations to DATA_DIR/annotations.

    Files on disk are not fetched again. To resume an interrupted download, run the same command again.
    """
    from dino_detector.download import check_source, download_split

    splits = [split for split in ("train", "val", "test") if getattr(settings, f"download_{split}")]
    if not splits:
        raise InputError("give at least one of --download_train, --download_val, --download_test; see --help")
    check_source(config)
    try:
        for split in splits:
            download_split(split, config)
    except KeyboardInterrupt:
        kept = f"{config.data_dir} keeps the bytes that have arrived"
        raise StoppedByUser(f"stopped; {kept}, and the same command goes on from there") from None
