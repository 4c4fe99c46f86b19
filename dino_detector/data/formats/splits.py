"""Names of splits, and the annotation files of a data set by the names of files and folders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from dino_detector.data.formats.recognition import format_of_file
from dino_detector.errors import InputError
from dino_detector.plain_text import listed

SPELLINGS = {
    "train": ("train", "train2017", "train2014", "training"),
    "val": ("val", "valid", "val2017", "val2014", "validation"),
    "test": ("test", "test2017", "test2014", "testing"),
}
"""names of the folders of each split, in the order of the splits"""


class AnnotationFile(NamedTuple):
    """The annotations of a split.

    Attributes:
        name: name of the split: train, val, test, or the name of the file or folder.
        path: a file, or one of the other paths of `dino_detector.data.formats.reading`.
        images: folder of the images, if the format tells it.
        format: key of `dino_detector.data.formats.reading.FORMATS`.
    """

    name: str
    path: Path
    images: Path | None = None
    format: str = "COCO"


def role_of(path: Path, folder: Path) -> str | None:
    """Return train, val or test by the words in the name of a file, or else of its folders below ``folder``."""
    parents = path.parent.relative_to(folder).parts if path.is_relative_to(folder) else ()
    for part in (path.stem, *reversed(parents)):
        for word in reversed(re.findall("[a-z]+", part.lower())):
            for role, spellings in SPELLINGS.items():
                if word in spellings:
                    return role
    return None


def name_sources(paths: Sequence[Path], folder: Path, kind: str) -> list[AnnotationFile]:
    """Name each file of a format by its split, in the order train, val, test, others."""
    roles = [role_of(path, folder) for path in paths]
    sources: dict[str, AnnotationFile] = {}
    for path, role in zip(paths, roles, strict=True):
        name = role if role is not None and roles.count(role) == 1 else path.stem
        if name in sources:
            name = path.relative_to(folder).with_suffix("").as_posix()
        sources[name] = AnnotationFile(name, path, format=kind)
    return in_order(sources)


def in_order(sources: dict[str, AnnotationFile]) -> list[AnnotationFile]:
    """Return sources by their names in the order train, val, test, others."""
    order = [name for name in SPELLINGS if name in sources]
    return [sources[name] for name in (*order, *sorted(sources.keys() - SPELLINGS.keys()))]


def files_of(kind: str, folder: Path, *forms: str) -> Iterator[Path]:
    """Yield the files of a format that match glob patterns in a folder, in order."""
    found = chain.from_iterable(sorted(folder.glob(form)) for form in forms)
    return (path for path in found if format_of_file(path) == kind)


def by_role(paths: Sequence[Path], folder: Path) -> dict[str, Path]:
    """Return the subfolders of ``folder`` that are train, val or test, in this order; raise `InputError` for two."""
    with_role = [path for path in paths if role_of(path, folder)]
    roles = {role_of(path, folder): path for path in with_role}
    if len(roles) < len(with_role):
        names = listed([path.name for path in with_role])
        raise InputError(f"{folder}: several folders of one split ({names}); join them")
    return {role: roles[role] for role in SPELLINGS if role in roles}


def folders_of(kind: str, folder: Path, form: str) -> list[AnnotationFile]:
    """Return the folders of files that belong to one picture each: train, val and test below, or the folder itself."""

    def holds_some(place: Path) -> bool:
        return bool(list(islice(files_of(kind, place, form, f"*/{form}"), 1)))

    below = [path for path in sorted(folder.iterdir()) if path.is_dir() and holds_some(path)]
    roles = by_role(below, folder)
    others = [path for path in below if path not in roles.values()]
    if roles and "train" not in roles and others:
        if len(others) > 1:
            names = listed([path.name for path in below])
            raise InputError(
                f"{folder}: has the folders {names}, and none is called train; name the training set train"
            )
        roles = {"train": others[0]} | roles
    if roles:
        return [AnnotationFile(role, path, path, kind) for role, path in roles.items()]
    return [AnnotationFile(folder.resolve().name, folder, folder, kind)] if below or holds_some(folder) else []
