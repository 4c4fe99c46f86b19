"""The command ``data``: checks a data set before training."""

from __future__ import annotations

import json
import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from dino_detector.commands.frame import command
from dino_detector.config.commands import DataCheckSettings
from dino_detector.errors import InputError
from dino_detector.plain_text import plain
from dino_detector.storage.files import read_json, write_whole
from dino_detector.terminal import with_headings

if TYPE_CHECKING:
    from collections.abc import Callable

    from dino_detector.data.formats.splits import AnnotationFile
    from dino_detector.data_check.check import Check, Loaded

MANY_IMAGES = 2_000
"""number of images from which the check announces that opening them takes minutes"""


@command(DataCheckSettings, usage="DATA")
def main(settings: DataCheckSettings) -> None:
    """Check a data set before training, and name the three things most worth fixing.

    The check covers counts, box sizes against the patch grid, class balance, duplicates, boxes outside their image, the
    same picture in two splits, and mistakes in COCO files. It changes no file of the data set.
    """
    from tqdm import tqdm

    from dino_detector.data.coco.findings import ranked
    from dino_detector.data_check.report import report_text, sources_text

    loaded, opened = load_data(settings)
    unreadable = [one for one in loaded.findings if one.kind == "file_unreadable"]
    print(sources_text(loaded.splits, loaded.files, unreadable), end="\n\n", flush=True)
    if opened >= MANY_IMAGES:
        print(f"Opening {opened:,} images, which takes some minutes; --skip_images leaves that out\n", flush=True)
    with tqdm(total=opened, unit=" images", disable=None if opened else True, leave=False, file=sys.stderr) as bar:
        result = check_loaded(loaded, settings, advance=bar.update if opened else None)
    print(with_headings(report_text(result), sys.stdout))
    if settings.output is not None:
        print(f"\nAll findings with all their ids are in {settings.output}")
    if unreadable:
        names = ", ".join(plain(one.split) for one in unreadable)
        raise InputError(f"{settings.data}: can't read the annotations of {names}: {unreadable[0].note}")
    stops = [problem.kind.title for problem in ranked(result.findings) if problem.stops]
    if stops:
        raise InputError(f"{settings.data}: training does not start before these are corrected: {'; '.join(stops)}")


def load_data(settings: DataCheckSettings) -> tuple[Loaded, int]:
    """Read the annotations and find the images; return them with the number of images to open.

    Raises:
        InputError: a setting is wrong, or none of the annotations can be read.
    """
    _require_paths(settings)
    from dino_detector.data.pictures.opening import allow_megapixels
    from dino_detector.data_check.check import load

    allow_megapixels(settings.max_megapixels)
    loaded = load(*_sources(settings))
    names = () if settings.skip_images else chain.from_iterable(files.names for files in loaded.files)
    return loaded, sum(name is not None for name in names)


def check_loaded(loaded: Loaded, settings: DataCheckSettings, *, advance: Callable[[], object] | None) -> Check:
    """Check data, and write the findings to the file of the settings; ``advance`` is called after each opened image."""
    from dino_detector.data_check.check import check
    from dino_detector.data_check.patches import PatchGrid
    from dino_detector.data_check.report import payload

    grid = PatchGrid(settings.image_size, settings.resize_mode)
    result = check(loaded, grid=grid, num_queries=settings.num_queries, advance=advance)
    if settings.output is not None:
        write_whole(settings.output, json.dumps(payload(result), indent=1))
    return result


def _require_paths(settings: DataCheckSettings) -> None:
    """Raise `InputError` for wrong settings, before any file is read."""
    from dino_detector.data.layouts import annotations_exist
    from dino_detector.data_check.patches import PATCH

    if not annotations_exist(settings.data):
        raise InputError(f"{settings.data}: no such folder or annotation file; correct the path")
    if any(side % PATCH for side in settings.image_size):
        raise InputError(f"--image_size {settings.image_size} is not a multiple of the patch size {PATCH}; change it")
    for name in ("images", "val_images"):
        folder = getattr(settings, name)
        if folder is not None and not folder.is_dir():
            raise InputError(f"{folder}: no such folder; correct --{name}")
    if settings.val_images is not None and settings.val_annotations is None:
        raise InputError("--val_images needs --val_annotations; see --help")
    if settings.data.is_dir() and (settings.images or settings.val_annotations):
        given = "images" if settings.images else "val_annotations"
        raise InputError(f"--{given} needs one annotation file, but {settings.data} is a folder; give the file")
    if settings.output is not None and settings.output.is_dir():
        raise InputError(f"{settings.output}: is a folder; give a file as --output")
    if settings.output is not None and settings.output.exists() and not _is_ours(settings.output):
        raise InputError(f"{settings.output}: is no list of findings and would be replaced; change --output")


def _is_ours(path: Path) -> bool:
    """Return whether a file holds the findings of an earlier check."""
    try:
        content = read_json(path)
    except InputError:
        return False
    return isinstance(content, dict) and {"splits", "findings"} <= content.keys()


def _sources(settings: DataCheckSettings) -> tuple[list[AnnotationFile], Path, list[Path | None]]:
    """Return the annotation files, the folder to search for images, and the given folders of images."""
    from dino_detector.data.layouts import find_sources, source_of

    given = settings.data
    if settings.val_annotations is None:
        sources = find_sources(given)
        return sources, given if given.is_dir() else given.parent, [settings.images] * len(sources)
    named = {"train": given, "val": settings.val_annotations}
    sources = [source_of(path)._replace(name=name) for name, path in named.items()]
    return sources, given.parent, [settings.images, settings.val_images]
