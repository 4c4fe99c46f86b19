"""Checks a data set: reads it, looks for mistakes of every kind, and collects findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.findings import STOPS, Finding
from dino_detector.data.coco.image_files import ImageFiles, find_extra_files, find_image_files
from dino_detector.data.coco.reader import read_split
from dino_detector.data_check.boxes import check_extents, check_pairs
from dino_detector.data_check.classes import ClassRow, check_classes, class_rows
from dino_detector.data_check.duplicates import check_duplicates
from dino_detector.data_check.layouts import Source, find_images_dir
from dino_detector.data_check.patches import PatchGrid, check_queries, check_shapes, check_sizes
from dino_detector.data_check.pictures import open_pictures
from dino_detector.errors import InputError

EMPTY_SHARE = 0.2
"""share of images without boxes from which they are reported"""


@dataclass(frozen=True)
class Loaded:
    """A data set as read.

    Attributes:
        splits: the readable splits, train first.
        files: the image files of each split.
        findings: mistakes in the annotation files, box formats, missing image files.
    """

    splits: list[Split]
    files: list[ImageFiles]
    findings: list[Finding]

    @property
    def files_found(self) -> int:
        """Number of image files that can be opened."""
        return sum(name is not None for files in self.files for name in files.names)

    @property
    def paths(self) -> list[list[Path | None]]:
        """For each split the file of each image, None if it was not found."""
        return [
            [None if name is None else split.images_dir / name for name in files.names]
            for split, files in zip(self.splits, self.files, strict=True)
        ]


@dataclass(frozen=True)
class Check:
    """Results of the check.

    Attributes:
        splits: the splits, train first.
        grid: the patch grid of the network's input.
        sides: for each split ``[M]`` sides of the boxes in patches.
        classes: the classes of all splits.
        kinds: for each split the number of images of each kind, such as 16-bit; None if no image was opened.
        findings: all mistakes.
    """

    splits: list[Split]
    grid: PatchGrid
    sides: list[np.ndarray]
    classes: list[ClassRow]
    kinds: list[Counter[str]] | None
    findings: list[Finding]


def load(sources: Sequence[Source], folder: Path, images_dirs: Sequence[Path | None]) -> Loaded:
    """Read annotation files and find the image files.

    Args:
        sources: the annotation files.
        folder: the folder to search for images.
        images_dirs: for each file the folder that the user names, or None to search for one.

    Raises:
        InputError: none of the files can be read.
    """
    splits: list[Split] = []
    files: list[ImageFiles] = []
    findings: list[Finding] = []
    of_files: list[Finding] = []
    errors: list[InputError] = []
    for source, given in zip(sources, images_dirs, strict=True):
        find_folder = partial(_find_folder, source=source, folder=folder, given=given)
        try:
            split, mistakes = read_split(source.path, source.name, find_folder=find_folder)
        except InputError as error:
            errors.append(error)
            findings.append(Finding("file_unreadable", source.name, 1, 1, "files", [str(source.path)], str(error)))
            continue
        findings += mistakes
        split = replace(split, images_dir=find_folder(split.images.names))
        found = ImageFiles([None] * len(split.images.ids), [])
        if split.images_dir is not None:
            found = find_image_files(split.images.names, split.images_dir, split=split.name)
        splits.append(split)
        files.append(found)
        of_files += found.findings
    if not splits:
        raise errors[0]
    named = [(split.name, split.images_dir, found) for split, found in zip(splits, files, strict=True)]
    return Loaded(splits, files, [*findings, *of_files, *find_extra_files(named)])


def _find_folder(names: Sequence[str | None], *, source: Source, folder: Path, given: Path | None) -> Path | None:
    return given or find_images_dir(source, names, folder)


def check(loaded: Loaded, *, grid: PatchGrid, num_queries: int, advance: Callable[[], None] | None) -> Check:
    """Run all checks; images are opened if ``advance``, which is called after each image, is given."""
    splits, findings = loaded.splits, list(loaded.findings)
    sides = [grid.sides(split) for split in splits]
    for split, lengths in zip(splits, sides, strict=True):
        if not split.labelled:
            continue
        findings += check_extents(split, grid)
        findings += check_sizes(split, grid, lengths)
        findings += check_queries(split, num_queries)
        findings += check_pairs(split)
        findings += check_shapes(split, grid)
        stopped = any(finding.effect == STOPS and finding.split == split.name for finding in findings)
        findings += _check_empty(split, explained=stopped)
    findings += check_classes(splits)
    opened = None
    if advance is not None:
        opened, wrong = open_pictures(splits, loaded.paths, advance=advance)
        findings += wrong
        seen = {finding.split for finding in wrong if finding.kind == "image_size_swapped" and finding.count}
        findings = [one for one in findings if one.kind != "image_sides_swapped" or one.split not in seen]
    findings += check_duplicates(splits, opened)
    kinds = opened.kinds if opened else None
    found = [finding for finding in findings if finding.count]
    return Check(splits, grid, sides, class_rows(splits, sides), kinds, found)


def _check_empty(split: Split, *, explained: bool) -> list[Finding]:
    """Find images without boxes if they are many, and a split without boxes unless another mistake explains it."""
    total = len(split.images.ids)
    if not split.trained.any():
        note, effect = f"{len(split.boxes.ids):,} annotations", None if split.name == "train" else ""
        found = Finding("no_boxes", split.name, total, total, "images", [], note, training=effect)
        return [] if explained else [found]
    empty = np.setdiff1d(np.arange(total), split.boxes.image)
    return [] if len(empty) < EMPTY_SHARE * total else [split.find_images("images_without_boxes", empty)]
