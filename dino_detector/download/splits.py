"""Splits of COCO 2017, fetched whole by their archives, or in part by single images. What is there stays."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from dino_detector.config import DownloadConfig
from dino_detector.download.archives import ArchiveError, unpack
from dino_detector.download.checksums import checksum_of, read_checksums
from dino_detector.download.coco2017 import (
    SPLITS,
    Archive,
    Split,
    absent,
    annotations_path,
    images_dir,
    is_complete,
    listed_images,
    listing_path,
    missing_images,
)
from dino_detector.download.disk import written
from dino_detector.download.retry import Patience
from dino_detector.download.single_images import fetch_images
from dino_detector.download.transfer import discard, fetch_file
from dino_detector.errors import InputError

log = logging.getLogger(__name__)

DEFAULT_PATIENCE = Patience()


def check_source(config: DownloadConfig) -> None:
    """Raise `InputError` unless the address can be one and the file of checksums can be read."""
    parts = urlsplit(config.coco_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InputError(
            f"--coco_url must be an address such as http://host or https://host/folder, not {config.coco_url!r}"
        )
    if config.coco_checksums is not None:
        read_checksums(config.coco_checksums)


def download_annotations(split: Split, config: DownloadConfig, *, patience: Patience = DEFAULT_PATIENCE) -> Path:
    """The annotation file of a split, fetched with the archive it is in unless it is there and can be read.

    Raises:
        InputError: it can't be fetched; the message says why and what to do.
    """
    if _broken_annotations(split, config.data_dir):
        with _only_process(config.data_dir):
            _complete_annotations(split, config, patience)
    return annotations_path(split, config.data_dir)


def download_split(split: Split, config: DownloadConfig, *, patience: Patience = DEFAULT_PATIENCE) -> None:
    """All images of a split and its annotations. Sends no request where they are there.

    Raises:
        InputError: something can't be fetched; the message says why and what to do. What has arrived is kept.
    """
    folder = images_dir(split, config.data_dir)
    if is_complete(split, config.data_dir):
        log.info("%s is complete, with its annotations in %s", folder, annotations_path(split, config.data_dir))
        return
    with _only_process(config.data_dir):
        _complete_annotations(split, config, patience)
        if missing_images(split, config.data_dir):
            archive = SPLITS[split].images
            _fetch_and_unpack(archive, folder, config, patience)
            lacking = missing_images(split, config.data_dir)
            if lacking:
                raise InputError(
                    f"{folder / lacking[0]}: is listed in {listing_path(split, config.data_dir)}, but {archive.path} "
                    f"does not hold it ({len(lacking)} images are missing); use archives that belong together"
                )
    log.info("%s and %s are complete", folder, annotations_path(split, config.data_dir))


def download_images(
    split: Split, file_names: Sequence[str], config: DownloadConfig, *, patience: Patience = DEFAULT_PATIENCE
) -> None:
    """Some images of a split, by their file names; those that are there are not fetched again.

    Raises:
        InputError: one can't be fetched, or its name leads out of the folder. Those that have arrived stay.
    """
    folder = images_dir(split, config.data_dir)
    names = list(dict.fromkeys(file_names))
    if not absent(names, folder):
        return
    check_source(config)
    with _only_process(config.data_dir):
        fetch_images(f"{_address(config)}/{folder.name}", absent(names, folder), folder, patience=patience)


def _complete_annotations(split: Split, config: DownloadConfig, patience: Patience) -> None:
    """Fetch the annotation files that are missing or broken, and those of other splits in the same archive."""
    broken = _broken_annotations(split, config.data_dir)
    if not broken:
        return
    archive = SPLITS[split].info
    folder = config.data_dir / archive.folder
    wanted = {*broken, *absent(list(archive.files or ()), folder)}
    _fetch_and_unpack(archive, folder, config, patience, only=wanted)
    for name in broken:
        listed_images(folder / name)


def _broken_annotations(split: Split, data_dir: Path) -> list[str]:
    broken = []
    for path in {listing_path(split, data_dir), annotations_path(split, data_dir)}:
        try:
            listed_images(path)
        except InputError:
            broken.append(path.name)
    return broken


def _fetch_and_unpack(
    archive: Archive, folder: Path, config: DownloadConfig, patience: Patience, *, only: Collection[str] | None = None
) -> None:
    """Fetch an archive, unpack it and remove it. It keeps the name of a part file all along, for no one to mistake."""
    check_source(config)
    checksum, size = archive.checksum, archive.size
    if config.coco_checksums is not None:
        checksum = checksum_of(archive.path, read_checksums(config.coco_checksums), config.coco_checksums)
        size = None
    url = f"{_address(config)}/{archive.path}"
    part = config.data_dir / f"{archive.name}.part"
    log.info("fetching %s", url)
    fetch_file(url, part, checksum=checksum, size=size, copies=2, patience=patience)
    log.info("unpacking %s to %s", archive.name, folder)
    try:
        unpack(part, folder, inside=archive.folder, only=only)
    except ArchiveError:
        discard(part)
        raise
    discard(part)


def _address(config: DownloadConfig) -> str:
    return config.coco_url.rstrip("/")


@contextmanager
def _only_process(data_dir: Path) -> Iterator[None]:
    """Wait until no other process downloads into the folder; the lock ends with its process, however that ends."""
    path = data_dir / ".download.lock"
    with written(data_dir, 0):
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another process downloads into %s; waiting until it ends", data_dir)
            lock.acquire(poll_interval=0.2)
    try:
        yield
    finally:
        lock.release()
