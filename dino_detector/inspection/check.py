"""The whole check, from what the user names to findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dino_detector.errors import InputError
from dino_detector.inspection.box_format import in_coco_format
from dino_detector.inspection.box_pairs import check_pairs
from dino_detector.inspection.box_places import check_places
from dino_detector.inspection.classes import ClassRow, check_classes, class_rows
from dino_detector.inspection.copies import check_copies
from dino_detector.inspection.findings import Finding
from dino_detector.inspection.image_files import ImageFiles, find_files
from dino_detector.inspection.layouts import Source, find_images_dir
from dino_detector.inspection.patches import PatchGrid, check_queries, check_shapes, check_sizes
from dino_detector.inspection.pictures import open_pictures
from dino_detector.inspection.reading import read_split
from dino_detector.inspection.split import Split

EMPTY_SHARE = 0.2
"""share of images without boxes from which it is worth a look"""


@dataclass(frozen=True)
class Loaded:
    """The data as read, before it is looked at.

    Attributes:
        splits: what could be read, train first.
        files: the image files of each split.
        findings: mistakes of form, missing files, formats of boxes.
    """

    splits: list[Split]
    files: list[ImageFiles]
    findings: list[Finding]

    @property
    def files_found(self) -> int:
        """Image files that are there to be opened."""
        return sum(path is not None for files in self.files for path in files.paths)


@dataclass(frozen=True)
class Check:
    """What the check has to tell.

    Attributes:
        splits: the splits, train first.
        grid: the patch grid they are held against.
        sides: for each split ``[M]`` sides of the boxes in patches.
        classes: the classes of all splits.
        kinds: for each split how many images there are of each kind, such as 16-bit; None where none was opened.
        findings: everything wrong.
    """

    splits: list[Split]
    grid: PatchGrid
    sides: list[np.ndarray]
    classes: list[ClassRow]
    kinds: list[Counter[str]] | None
    findings: list[Finding]


def load(sources: Sequence[Source], folder: Path, images_dirs: Sequence[Path | None]) -> Loaded:
    """Read annotation files and list the images.

    Args:
        sources: the annotation files.
        folder: where to look for images.
        images_dirs: for each file the folder that the user names, or None to look for one.

    Raises:
        InputError: none of the files can be read.
    """
    splits: list[Split] = []
    findings: list[Finding] = []
    errors: list[InputError] = []
    for source, images_dir in zip(sources, images_dirs, strict=True):
        try:
            split, mistakes = read_split(source.path, source.name)
        except InputError as error:
            errors.append(error)
            findings.append(Finding("file_unreadable", source.name, 1, 1, "files", [str(source.path)], str(error)))
            continue
        split = replace(split, images_dir=images_dir or find_images_dir(source, split.images.names, folder))
        split, formats = in_coco_format(split)
        splits.append(split)
        findings += [*mistakes, *formats]
    if not splits:
        raise errors[0]
    files = find_files(splits)
    return Loaded(splits, files, [*findings, *(finding for found in files for finding in found.findings)])


def check(loaded: Loaded, *, grid: PatchGrid, num_queries: int, advance: Callable[[], None] | None) -> Check:
    """Look at everything; the images are opened where ``advance``, called after each, is given."""
    splits, findings = loaded.splits, list(loaded.findings)
    sides = [grid.sides(split) for split in splits]
    for split, lengths in zip(splits, sides, strict=True):
        if not split.labelled:
            continue
        findings += check_places(split, grid)
        findings += check_sizes(split, grid, lengths)
        findings += check_queries(split, num_queries)
        findings += check_pairs(split)
        findings += check_shapes(split, grid)
        findings += _check_empty(split)
    findings += check_classes(splits)
    opened = None
    if advance is not None:
        opened, wrong = open_pictures(splits, [files.paths for files in loaded.files], advance=advance)
        findings += wrong
        seen = {finding.split for finding in wrong if finding.kind == "image_size_swapped" and finding.count}
        findings = [one for one in findings if one.kind != "image_sides_swapped" or one.split not in seen]
    findings += check_copies(splits, opened)
    return Check(
        splits,
        grid,
        sides,
        class_rows(splits, sides),
        opened.kinds if opened else None,
        [finding for finding in findings if finding.count],
    )


def _check_empty(split: Split) -> list[Finding]:
    """Images without boxes, where they are many, and a split that has none to learn from."""
    total = len(split.images.ids)
    if not split.trained.any():
        return [Finding("no_boxes", split.name, total, total, "images", [], f"{len(split.boxes.ids):,} annotations")]
    empty = np.setdiff1d(np.arange(total), split.boxes.image)
    if len(empty) < EMPTY_SHARE * total:
        return []
    names = [split.images.label(index) for index in empty.tolist()]
    return [Finding("images_without_boxes", split.name, len(names), total, "images", names)]
