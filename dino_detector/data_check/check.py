"""The whole check, from what the user names to findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.finding_kinds import STOPS
from dino_detector.data.coco.findings import Finding
from dino_detector.data.coco.image_files import ImageFiles, find_extra_files, find_image_files
from dino_detector.data.coco.reader import read_split
from dino_detector.data_check.box_pairs import check_pairs
from dino_detector.data_check.box_positions import check_places
from dino_detector.data_check.classes import ClassRow, check_classes, class_rows
from dino_detector.data_check.copies import check_copies
from dino_detector.data_check.layouts import Source, find_images_dir
from dino_detector.data_check.patches import PatchGrid, check_queries, check_shapes, check_sizes
from dino_detector.data_check.pictures import open_pictures
from dino_detector.errors import InputError

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
        return sum(name is not None for files in self.files for name in files.names)

    @property
    def paths(self) -> list[list[Path | None]]:
        """For each split the file of each image, None where it was not found."""
        return [
            [None if name is None else split.images_dir / name for name in files.names]
            for split, files in zip(self.splits, self.files, strict=True)
        ]


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

        def find_folder(
            names: Sequence[str | None], source: Source = source, given: Path | None = images_dir
        ) -> Path | None:
            return given or find_images_dir(source, names, folder)

        try:
            split, mistakes = read_split(source.path, source.name, find_folder=find_folder)
        except InputError as error:
            errors.append(error)
            findings.append(Finding("file_unreadable", source.name, 1, 1, "files", [str(source.path)], str(error)))
            continue
        splits.append(replace(split, images_dir=find_folder(split.images.names)))
        findings += mistakes
    if not splits:
        raise errors[0]
    files = [
        ImageFiles([None] * len(split.images.ids), [])
        if split.images_dir is None
        else find_image_files(split.images.names, split.images_dir, split=split.name)
        for split in splits
    ]
    named = [(split.name, split.images_dir, found) for split, found in zip(splits, files, strict=True)]
    of_files = [finding for found in files for finding in found.findings]
    return Loaded(splits, files, [*findings, *of_files, *find_extra_files(named)])


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
        stopped = any(finding.effect == STOPS and finding.split == split.name for finding in findings)
        findings += _check_empty(split, explained=stopped)
    findings += check_classes(splits)
    opened = None
    if advance is not None:
        opened, wrong = open_pictures(splits, loaded.paths, advance=advance)
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


def _check_empty(split: Split, *, explained: bool) -> list[Finding]:
    """Images without boxes, where they are many, and a split that has none, unless another mistake explains it."""
    total = len(split.images.ids)
    if not split.trained.any():
        note = f"{len(split.boxes.ids):,} annotations"
        found = Finding(
            "no_boxes", split.name, total, total, "images", [], note, training=None if split.name == "train" else ""
        )
        return [] if explained else [found]
    empty = np.setdiff1d(np.arange(total), split.boxes.image)
    if len(empty) < EMPTY_SHARE * total:
        return []
    names = [split.images.label(index) for index in empty.tolist()]
    return [Finding("images_without_boxes", split.name, len(names), total, "images", names)]
