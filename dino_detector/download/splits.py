"""Splits of COCO 2017 on disk: the files that are missing are downloaded, and the others stay."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from filelock import AcquireReturnProxy, FileLock, Timeout

from dino_detector.config import DownloadConfig
from dino_detector.download.archives import ArchiveError, unpack
from dino_detector.download.coco2017 import (
    SPLITS,
    Archive,
    CocoSplit,
    absent,
    annotations_path,
    broken_annotations,
    images_dir,
    listed_images,
    missing_images,
)
from dino_detector.download.transfer import fetch_file, fetch_images
from dino_detector.errors import InputError
from dino_detector.storage.files import explained_writing

log = logging.getLogger(__name__)


def check_source(config: DownloadConfig) -> None:
    """Raise `InputError` unless ``coco_url`` is a URL and the file of checksums can be read."""
    parts = None
    with suppress(ValueError):  # an IPv6 address without its closing bracket
        parts = urlsplit(config.coco_url)
    if not parts or parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InputError(
            f"--coco_url must be an address such as http://host or https://host/folder, not {config.coco_url!r}"
        )
    if config.coco_checksums is not None:
        read_checksums(config.coco_checksums)


def download_annotations(split: CocoSplit, config: DownloadConfig) -> Path:
    """Download the annotation files of a split that are missing or broken, and return the one to evaluate on.

    Raises:
        InputError: they can't be downloaded; the message gives the reason and the remedy.
    """
    if broken_annotations(split, config.data_dir):
        archive = SPLITS[split].info
        folder = config.data_dir / archive.folder
        with _locked(config.data_dir):
            broken = broken_annotations(split, config.data_dir)  # another process may have fixed them
            if broken:
                _fetch_and_unpack(archive, config, only={*broken, *absent(archive.files, folder)})
            for name in broken:
                listed_images(folder / name)
    return annotations_path(split, config.data_dir)


def download_split(split: CocoSplit, config: DownloadConfig) -> None:
    """Download all images of a split and its annotations. Send no request if they are on disk.

    Raises:
        InputError: a file can't be downloaded; the message gives the reason and the remedy. Bytes that have arrived
            are kept.
    """
    annotations = download_annotations(split, config)
    folder, archive = images_dir(split, config.data_dir), SPLITS[split].images
    if missing_images(split, config.data_dir):
        with _locked(config.data_dir):
            if missing_images(split, config.data_dir):
                _fetch_and_unpack(archive, config)
            if lacking := missing_images(split, config.data_dir):
                raise InputError(
                    f"{folder / lacking[0]}: is listed in {annotations.parent}, but {archive.path} does not hold it "
                    f"({len(lacking)} images are missing); use archives that belong together"
                )
    log.info("%s is complete, with its annotations in %s", folder, annotations)


def download_images(split: CocoSplit, file_names: Sequence[str], config: DownloadConfig) -> None:
    """Download the images of a split with these file names, except images that are on disk.

    Raises:
        InputError: an image can't be downloaded, or its name leads out of the folder. Images that have arrived stay.
    """
    folder = images_dir(split, config.data_dir)
    names = list(dict.fromkeys(file_names))
    if absent(names, folder):
        check_source(config)
        with _locked(config.data_dir):
            fetch_images(f"{config.coco_url.rstrip('/')}/{folder.name}", absent(names, folder), folder)


def _fetch_and_unpack(archive: Archive, config: DownloadConfig, *, only: Collection[str] = ()) -> None:
    """Download an archive to a part file, unpack it, and remove it."""
    check_source(config)
    checksum, size = archive.checksum, archive.size
    if config.coco_checksums is not None:
        checksum, size = checksum_of(archive.path, config.coco_checksums), None
    url = f"{config.coco_url.rstrip('/')}/{archive.path}"
    folder = config.data_dir / archive.folder
    part = config.data_dir / f"{Path(archive.path).name}.part"
    log.info("fetching %s", url)
    fetch_file(url, part, checksum=checksum, size=size)
    log.info("unpacking %s to %s", part.stem, folder)
    try:
        unpack(part, folder, inside=archive.folder, only=only)
    except ArchiveError:
        part.unlink()
        raise
    part.unlink()


def read_checksums(path: Path) -> dict[str, str]:
    """Return SHA-256 checksums by file name, from lines of ``sha256sum`` such as ``4f7e...  zips/val2017.zip``.

    Empty lines and lines that begin with # are skipped, and so is a ``*`` or ``./`` before a name.

    Raises:
        InputError: the file can't be read, or a line is malformed or contradicts another.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: the checksums cannot be read ({reason}); correct --coco_checksums") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([0-9a-fA-F]{64})\s+\*?(?:\./)*(\S.*?)\s*", line)
        if not match:
            raise InputError(
                f"{path}: line {number} is not a checksum and a file, as sha256sum prints them; give 64 hexadecimal "
                "digits, two spaces and a file such as zips/val2017.zip"
            )
        checksum, name = match[1].lower(), match[2]
        if found.setdefault(name, checksum) != checksum:
            raise InputError(f"{path}: line {number} gives {name} a second checksum; remove the wrong one")
    return found


def checksum_of(name: str, listing: Path) -> str:
    """Return the checksum that a file lists for ``zips/val2017.zip``, or else for a ``val2017.zip`` elsewhere.

    Raises:
        InputError: the file lists none or several, or can't be read.
    """
    checksums = read_checksums(listing)
    file = PurePosixPath(name).name
    elsewhere = {checksum for listed, checksum in checksums.items() if PurePosixPath(listed).name == file}
    candidates = {checksums[name]} if name in checksums else elsewhere
    if len(candidates) != 1:
        problem = "lists several checksums" if candidates else "lists no checksum"
        raise InputError(f"{listing}: {problem} for {name}; add a line with the checksum, two spaces and {name}")
    return candidates.pop()


def _locked(data_dir: Path) -> AcquireReturnProxy:
    """Return a context manager that holds the lock of a folder. Wait until no other process downloads into it."""
    with explained_writing(data_dir):
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(data_dir / ".download.lock")
        try:
            return lock.acquire(blocking=False)
        except Timeout:
            log.info("another process downloads into %s; waiting until it ends", data_dir)
            return lock.acquire()
