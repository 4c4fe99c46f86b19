"""Which image files there are: found, missing, and without an entry. No file is opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dino_detector.data.picture_files import EXTENSIONS
from dino_detector.inspection.findings import Finding
from dino_detector.inspection.layouts import plain_name
from dino_detector.inspection.split import Split


class ImageFiles(NamedTuple):
    """The file of each image of a split, None where it was not found, and what is wrong."""

    paths: list[Path | None]
    findings: list[Finding]


def find_files(splits: Sequence[Split]) -> list[ImageFiles]:
    """The files of every split, those of one without a folder all None.

    Files without an entry are looked for in the folders that hold those with one; a file that any split lists has one.
    """
    results: list[ImageFiles] = []
    used: dict[Path, set[str]] = {}
    for split in splits:
        if split.images_dir is None:
            results.append(ImageFiles([None] * len(split.images.ids), []))
            continue
        paths, misnamed = _locate(split, split.images_dir)
        for path in paths:
            if path is not None:
                used.setdefault(_folder(path), set()).add(path.name)
        missing = [name for name, path in zip(split.images.names, paths, strict=True) if name and path is None]
        total = len(paths)
        note = f"not in {split.images_dir}"
        findings = [Finding("image_missing", split.name, len(missing), total, "images", missing, note)]
        if misnamed:
            note = f"found in {split.images_dir} without the folders before the name"
            findings.append(Finding("file_name_folder", split.name, len(misnamed), total, "images", misnamed, note))
        results.append(ImageFiles(paths, findings))
    claimed: set[Path] = set()
    for split, files in zip(splits, results, strict=True):
        folders = sorted({_folder(path) for path in files.paths if path is not None} - claimed)
        claimed.update(folders)
        extra = [str(folder / name) for folder in folders for name in _pictures(folder) if name not in used[folder]]
        total = len(extra) + sum(path is not None for path in files.paths)
        files.findings.append(Finding("image_extra", split.name, len(extra), total, "files", extra))
    return results


def _locate(split: Split, images_dir: Path) -> tuple[list[Path | None], list[str]]:
    """The file of each image, and the names that fit only without the folders before them."""
    listings: dict[Path, set[str]] = {}

    def exists(path: Path) -> bool:
        if path.parent not in listings:
            listings[path.parent] = _names(path.parent)
        return path.name in listings[path.parent]

    paths: list[Path | None] = []
    misnamed: list[str] = []
    for name in split.images.names:
        if name is None or "\0" in name:
            paths.append(None)
        elif exists(path := images_dir / name):
            paths.append(path)
        elif exists(path := images_dir / plain_name(name)) and plain_name(name) != name:
            paths.append(path)
            misnamed.append(name)
        else:
            paths.append(None)
    return paths, misnamed


def _folder(path: Path) -> Path:
    """The folder of a file, by one name however the file's name leads to it."""
    return Path(os.path.normpath(path.parent))


def _names(folder: Path) -> set[str]:
    """Names of the files of a folder, of none where it can't be read."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.is_dir()}
    except (OSError, ValueError):  # a name that no file can have
        return set()


def _pictures(folder: Path) -> list[str]:
    return sorted(name for name in _names(folder) if Path(name).suffix.lower() in EXTENSIONS)
