"""Finds the file of each image by its name, or by a name that differs a little, without opening files."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

from dino_detector.data.coco.findings import Finding
from dino_detector.data.pictures.finding import picture_extensions
from dino_detector.plain_text import quoted

ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://|^/?data/local-files/\?d=")
"""addresses of a server, such as https://..., s3://..., and Label Studio's own"""
NO_EXTENSION = "/"
"""suffix of a name whose extension was removed; no file name contains it"""


class ImageFiles(NamedTuple):
    """The path of each image's file, relative to the folder, None if it was not found; and findings about the names."""

    names: list[str | None]
    findings: list[Finding]


def find_image_files(names: Sequence[str | None], folder: Path, *, split: str) -> ImageFiles:
    """Find the file of each image in a folder.

    If no file has the exact name, a file is taken whose name differs only in separators, letter case, Unicode form,
    percent encoding, surrounding spaces or extension, if exactly one file fits and no other image has it. The name or
    the disk may lack leading folders, but folders may not differ: ``v2/0001.jpg`` is not ``v3/0001.jpg``. Folders of
    another machine, as in ``C:\\data\\v2\\0001.jpg``, are ignored.

    Args:
        names: file names in the annotations; None for an image without one.
        folder: the folder of the files.
        split: name of the split in the findings.
    """
    names_of = cache(lambda inside: names_in(folder / inside))  # a system call per file would be slow

    def exists(name: str) -> bool:
        inside, slash, base = name.rpartition("/")
        return base in names_of(inside or slash)

    found: list[str | None] = [name if name is not None and exists(name) else None for name in names]
    addresses: dict[int, str] = {}
    wanted: dict[int, str] = {}
    for row, name in enumerate(names):
        if name is not None and found[row] is None:
            (addresses if ADDRESS.match(name) else wanted)[row] = name
    near, likely = _nearly(wanted, folder, taken=set(found)) if wanted else ({}, "")
    for row, name in near.items():
        found[row] = name
    missing = [name for row, name in wanted.items() if row not in near]
    pairs = [f"{quoted(wanted[row])} = {quoted(name)}" for row, name in near.items()]
    differing = {what for row, name in near.items() for what in differences(wanted[row], name)}
    kinds = (
        ("file_name_near", pairs, ", ".join(sorted(differing))),
        ("file_name_url", [*addresses.values()], ""),
        ("image_missing", missing, f"not in {folder}{likely}"),
    )
    return ImageFiles(
        found, [Finding(kind, split, len(ids), len(names), "images", ids, note) for kind, ids, note in kinds if ids]
    )


def _nearly(wanted: dict[int, str], folder: Path, *, taken: set[str | None]) -> tuple[dict[int, str], str]:
    """Return the files with similar names by row, and a hint for the first image without a file."""
    index = _Index(folder)
    fitting = {row: index.fitting(name) for row, name in wanted.items()}
    single = {row: candidates[0] for row, candidates in fitting.items() if len(candidates) == 1}
    uses = Counter(single.values())
    near = {row: file for row, file in single.items() if uses[file] == 1 and file not in taken}
    unfound = next((row for row in wanted if row not in near), None)
    return near, "" if unfound is None else _likeness(wanted[unfound], fitting[unfound], index.by_base)


class _Index:
    """Finds the files below a folder by the last parts of their paths, ignoring letter case and Unicode form.

    Attributes:
        by_base: files by their name without folders.
    """

    def __init__(self, folder: Path) -> None:
        self.by_base: dict[str, list[str]] = defaultdict(list)
        self._by_end: dict[tuple[str, ...], list[str]] = defaultdict(list)
        self._by_path: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for name in _all_files(folder):
            parts = tuple(_folded(name).split("/"))
            self.by_base[parts[-1]].append(name)
            self._add(parts, name)
            stem, dot, extension = parts[-1].rpartition(".")
            if stem and dot + extension in picture_extensions():
                self._add((*parts[:-1], stem + NO_EXTENSION), name)

    def _add(self, parts: tuple[str, ...], name: str) -> None:
        self._by_path[parts].append(name)
        for start in range(len(parts)):
            self._by_end[parts[start:]].append(name)

    def fitting(self, name: str) -> list[str]:
        """Return the files whose path ends with the name, or whose path is the longest ending of the name.

        If there are none, extensions are ignored: first the file's, then also the name's.
        """
        given = _folded(_cleaned(name)).split("/")
        parts = tuple(part for part in given if part not in ("", ".", ".."))
        if not parts:
            return []
        elsewhere = given[0] in ("", "~") or given[0].endswith(":") or ".." in given
        stem = parts[-1].rpartition(".")[0]
        for base in (parts[-1], parts[-1] + NO_EXTENSION, stem + NO_EXTENSION):
            form = (*parts[:-1], base)
            if form in self._by_end:
                return self._by_end[form]
            shorter = next((form[start:] for start in range(len(form)) if form[start:] in self._by_path), None)
            if shorter is not None:
                return self._by_path[shorter]
            if elsewhere and (base,) in self._by_end:
                return self._by_end[base,]
        return []


def _likeness(name: str, candidates: list[str], by_base: Mapping[str, list[str]]) -> str:
    """Return a hint with the most similar files and the differences."""
    base = _folded(PurePosixPath(_cleaned(name)).name)
    candidates = candidates or by_base.get(base, [])
    if not candidates:
        same_numbers = [one for one in by_base if re.findall("[0-9]+", one) == re.findall("[0-9]+", base)]
        close = difflib.get_close_matches(base, same_numbers[:10_000], n=1)
        return f"; {quoted(name)} is most like {quoted(by_base[close[0]][0])}" if close else ""
    shown = " and ".join(
        f"{quoted(one)} ({', '.join(differences(name, one)) or 'which another image has'})" for one in candidates[:2]
    )
    return f"; {quoted(name)} is like {shown}"


def differences(name: str, file: str) -> list[str]:
    """Return the differences between a name in the annotations and the name of the file."""
    found = []
    plain = name
    for what, change in (
        ("backslashes", lambda text: text.replace("\\", "/")),
        ("percent encoding", unquote),
        ("spaces", lambda text: text.strip()),
        ("Unicode form", lambda text: unicodedata.normalize("NFC", text)),
    ):
        changed = change(plain)
        if changed != plain:
            found.append(what)
        plain = changed
    composed = unicodedata.normalize("NFC", file)
    if composed != file and "Unicode form" not in found:
        found.append("Unicode form")
    file = composed
    one, other = PurePosixPath(plain), PurePosixPath(file)
    if _folded(one.name) != _folded(other.name):
        found.append("extension")
    elif one.name != other.name:
        found.append("letter case")
    if one.parent != other.parent:
        found.append("folder")
    return found


def _cleaned(name: str) -> str:
    """Return a name with slashes, without percent encoding and surrounding spaces."""
    return unquote(name.replace("\\", "/")).strip()


def _folded(name: str) -> str:
    """Return a form that is equal for names that differ only in letter case or Unicode form."""
    return unicodedata.normalize("NFC", name).casefold()


def _all_files(folder: Path) -> Iterator[str]:
    """Yield the paths of all files below a folder, relative to it."""
    for inside, folders, files in os.walk(folder):
        folders.sort()
        relative = Path(inside).relative_to(folder)
        yield from ((relative / name).as_posix() for name in sorted(files))


def names_in(folder: Path) -> set[str]:
    """Return the names of the files in a folder; none if the folder can't be read."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.is_dir()}
    except (OSError, ValueError):  # a name that no file can have
        return set()


def find_extra_files(splits: Sequence[tuple[str, Path | None, ImageFiles]]) -> list[Finding]:
    """Find pictures that no split lists, in the folders of listed pictures.

    Args:
        splits: the name of each split, the folder of its images (None if unknown), and its image files.
    """
    listed = [
        {Path(os.path.normpath(folder / name)) for name in files.names if name is not None} if folder else set()
        for _, folder, files in splits
    ]
    used, claimed, findings = set().union(*listed), set(), []
    for (split, _, _), paths in zip(splits, listed, strict=True):
        folders = {path.parent for path in paths} - claimed
        claimed |= folders
        extra = [
            str(folder / name)
            for folder in sorted(folders)
            for name in sorted(names_in(folder))
            if Path(name).suffix.lower() in picture_extensions()
            and not name.startswith("._")
            and folder / name not in used
        ]
        findings.append(Finding("image_extra", split, len(extra), len(extra) + len(paths), "files", extra))
    return findings
