"""Checks a data set: reads it, looks for mistakes of every kind, and collects findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from dino_detector.data.coco.columns import Split
from dino_detector.data.coco.findings import Finding
from dino_detector.data.coco.image_files import ImageFiles, find_extra_files, find_image_files
from dino_detector.data.coco.reader import read_entries
from dino_detector.data.formats.reading import read_annotations
from dino_detector.data.formats.splits import AnnotationFile
from dino_detector.data.layouts import find_images_dir
from dino_detector.data_check.boxes import check_empty, check_extents, check_pairs
from dino_detector.data_check.classes import ClassRow, check_classes, class_rows
from dino_detector.data_check.duplicates import check_duplicates
from dino_detector.data_check.patches import PatchGrid, check_grid
from dino_detector.data_check.pictures import open_pictures
from dino_detector.errors import InputError


@dataclass(frozen=True)
class Loaded:
    """The readable splits, train first, the image files of each, and the mistakes that reading them found."""

    splits: list[Split]
    files: list[ImageFiles]
    findings: list[Finding]


@dataclass(frozen=True)
class Check:
    """Results of the check; ``sides`` ``[M]`` are the sides of the boxes of each split in patches.

    ``kinds`` counts the images of each kind, such as 16-bit, in each split; it is None if no image was opened.
    """

    splits: list[Split]
    grid: PatchGrid
    sides: list[np.ndarray]
    classes: list[ClassRow]
    kinds: list[Counter[str]] | None
    findings: list[Finding]


def load(sources: Sequence[AnnotationFile], folder: Path, images_dirs: Sequence[Path | None]) -> Loaded:
    """Read annotation files, and find their images: in ``images_dirs``, or near the file or in ``folder`` for None.

    Raises:
        InputError: none of the files can be read.
    """
    loaded = Loaded([], [], [])
    errors: list[InputError] = []
    for source, given in zip(sources, images_dirs, strict=True):
        find_folder = partial(find_images_dir, source=source, folder=folder, given=given)
        try:
            reading = read_annotations(source._replace(images=given or source.images))
            split, mistakes = read_entries(
                reading.content, source.path, source.name, find_folder=find_folder, places=reading.places
            )
        except InputError as error:
            errors.append(error)
            mistakes = [Finding("file_unreadable", source.name, 1, 1, "files", [str(source.path)], str(error))]
        else:
            images_dir, files = find_folder(split.images.names), ImageFiles([None] * len(split.images.ids), [])
            if images_dir is not None:
                files = find_image_files(split.images.names, images_dir, split=split.name)
            loaded.splits.append(replace(split, images_dir=images_dir, format=source.format))
            loaded.files.append(files)
        loaded.findings.extend(mistakes)
    if not loaded.splits:
        raise errors[0]
    named = [(split.name, split.images_dir, files) for split, files in zip(loaded.splits, loaded.files, strict=True)]
    for files in loaded.files:
        loaded.findings.extend(files.findings)
    loaded.findings.extend(find_extra_files(named))
    return loaded


def check(loaded: Loaded, *, grid: PatchGrid, num_queries: int, advance: Callable[[], None] | None) -> Check:
    """Run all checks; images are opened if ``advance``, which is called after each image, is given."""
    splits, findings = loaded.splits, list(loaded.findings)
    sides = [grid.sides(split) for split in splits]
    for split, lengths in zip(splits, sides, strict=True):
        if split.labelled:
            findings += check_extents(split, grid)
            findings += check_grid(split, grid, lengths, num_queries)
            findings += check_pairs(split)
            findings += check_empty(split, findings)
    classes = class_rows(splits, sides)
    findings += check_classes(splits, classes)
    pictures, kinds = [{} for _ in splits], None
    if advance is not None:
        names = [files.names for files in loaded.files]
        pictures, kinds, wrong = open_pictures(splits, names, advance=advance)
        findings += wrong
        seen = {finding.split for finding in wrong if finding.kind == "image_size_swapped"}
        findings = [one for one in findings if one.kind != "image_sides_swapped" or one.split not in seen]
    findings += check_duplicates(splits, pictures)
    # Training does not read the test split, so no finding there keeps it from starting.
    findings = [replace(one, training="") if one.split == "test" else one for one in findings if one.count]
    return Check(splits, grid, sides, classes, kinds, findings)
