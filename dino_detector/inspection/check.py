"""The whole check of a data set, from what the user names to findings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dino_detector.config import DataCheckSettings
from dino_detector.errors import InputError
from dino_detector.files import paused_collection, write_whole
from dino_detector.inspection.box_format import in_coco_format
from dino_detector.inspection.box_pairs import check_pairs
from dino_detector.inspection.box_places import check_places
from dino_detector.inspection.classes import check_classes
from dino_detector.inspection.copies import check_copies
from dino_detector.inspection.findings import Finding, Problem, ranked
from dino_detector.inspection.image_files import find_files
from dino_detector.inspection.layouts import Source, find_images_dir, find_sources, name_sources
from dino_detector.inspection.patches import PatchGrid, check_queries, check_shapes, check_sizes
from dino_detector.inspection.pictures import Opened, open_pictures
from dino_detector.inspection.reading import read_split
from dino_detector.inspection.split import Split


class Checked(NamedTuple):
    """A data set that has been checked.

    Attributes:
        splits: what was read, train first.
        sides: for each, ``[M]`` side of its boxes in patches.
        grid: the input of the training.
        problems: what was found, the most harmful first.
        kinds: pictures of each kind by split; None where they were not opened.
    """

    splits: list[Split]
    sides: list[np.ndarray]
    grid: PatchGrid
    problems: list[Problem]
    kinds: list[Counter[str]] | None

    def write(self, path: Path) -> None:
        """Write every finding with all its ids as JSON."""
        content = [
            {
                "kind": finding.kind,
                "title": problem.kind.title,
                "split": finding.split,
                "count": finding.count,
                "of": finding.total,
                "unit": finding.unit,
                "ids": list(finding.ids),
                "note": finding.note,
                "fix": finding.fix or problem.kind.fix,
                "harm": round(problem.harm, 4),
            }
            for problem in self.problems
            for finding in problem.findings
        ]
        write_whole(path, json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n")


def check(settings: DataCheckSettings, *, progress: Callable[[int], Callable[[], None]]) -> Checked:
    """Read all annotation files and look for every kind of mistake.

    Args:
        settings: what to check.
        progress: called with the number of images before they are opened; returns what is called after each.

    Raises:
        InputError: nothing can be read, or a path is wrong.
    """
    with paused_collection():
        splits, findings = _read(settings)
    grid = PatchGrid(settings.image_size, settings.resize_mode)
    sides = [grid.sides(split) for split in splits]
    files = find_files(splits)
    findings += [finding for found in files for finding in found.findings]
    for split, lengths in zip(splits, sides, strict=True):
        if split.labelled:
            findings += check_places(split, grid)
            findings += check_pairs(split)
            findings += check_sizes(split, grid, lengths)
            findings += check_queries(split, settings.num_queries)
            findings += _without_boxes(split)
        findings += check_shapes(split, grid)
    findings += check_classes(splits)
    opened = None
    count = sum(path is not None for found in files for path in found.paths)
    if count and not settings.skip_images:
        opened, more = open_pictures(splits, [found.paths for found in files], advance=progress(count))
        findings += more
    findings += check_copies(splits, opened)
    return Checked(splits, sides, grid, ranked(findings), _kinds(opened))


def _read(settings: DataCheckSettings) -> tuple[list[Split], list[Finding]]:
    place = settings.dir_or_json
    given = [path for path in (settings.images, settings.val_images) if path is not None]
    for path in given:
        if not path.is_dir():
            raise InputError(f"{path}: no such folder of images; correct the path")
    if place.is_dir():
        if given or settings.val_annotations is not None:
            raise InputError(
                f"{place}: is a folder, whose parts are found; give a JSON with --images or --val_annotations"
            )
        sources, folder = find_sources(place), place
    else:
        sources, folder = _named(settings), place.parent
    folders = {"train": settings.images, "val": settings.val_images} if settings.val_annotations else {}
    splits: list[Split] = []
    findings: list[Finding] = []
    for source in sources:
        try:
            split, found = read_split(source.path, source.name)
        except InputError as error:
            if len(sources) == 1:
                raise
            findings.append(Finding("file_unreadable", source.name, 1, 1, "files", [str(error)]))
            continue
        chosen = folders.get(source.name) or (settings.images if len(sources) == 1 else None)
        split.images_dir = chosen or find_images_dir(source, split.images.names, folder)
        formatted = in_coco_format(split)
        splits.append(formatted.split)
        findings += [*found, *formatted.findings]
    if not splits:
        raise InputError(f"{place}: none of its annotation files can be read; the first: {findings[0].ids[0]}")
    return splits, findings


def _named(settings: DataCheckSettings) -> list[Source]:
    path, other = settings.dir_or_json, settings.val_annotations
    if other is not None:
        return [Source("train", path), Source("val", other)]
    if settings.val_images is not None:
        raise InputError("--val_images are those of --val_annotations, which is not given")
    return name_sources([path], path.parent)


def _without_boxes(split: Split) -> list[Finding]:
    counts = np.bincount(split.boxes.image[split.usable], minlength=len(split.images.ids))
    names = [split.images.label(row) for row in np.flatnonzero(counts == 0).tolist()]
    return [Finding("images_without_boxes", split.name, len(names), len(counts), "images", names)]


def _kinds(opened: Opened | None) -> list[Counter[str]] | None:
    return None if opened is None else opened.kinds
