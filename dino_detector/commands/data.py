"""The command ``data``: checks a data set before training."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dino_detector.commands.arguments import parse_settings
from dino_detector.commands.frame import configure_logging, run_command
from dino_detector.config.commands import DataCheckSettings
from dino_detector.errors import InputError
from dino_detector.storage.files import write_whole

if TYPE_CHECKING:
    from dino_detector.data_check.check import Check, Loaded
    from dino_detector.data_check.layouts import Source
    from dino_detector.data_check.patches import PatchGrid

MANY_IMAGES = 2_000
"""number of images from which the check announces that opening them takes minutes"""


def main(argv: Sequence[str], *, prog: str = "dino-detector data") -> int:
    """Check a data set and print the findings; mistakes in the data are no error of the command.

    Args:
        argv: the command line without the command.
        prog: the command as the user types it.
    """

    def command() -> None:
        values, _ = parse_settings(
            [DataCheckSettings],
            argv,
            prog=prog,
            description="Check a data set before it is trained on: counts, box sizes against the patch grid, class "
            "balance, duplicates, boxes outside their image, the same picture in two splits, mistakes in COCO files. "
            "Ends with the three things most worth fixing; nothing is changed.",
            usage="DIR_OR_JSON",
        )
        settings = DataCheckSettings(**values)
        _check(settings)
        configure_logging()
        _inspect(settings)

    return run_command(command)


def _check(settings: DataCheckSettings) -> None:
    """Raise `InputError` for wrong settings, before any file is read."""
    from dino_detector.data_check.patches import PATCH

    if not settings.dir_or_json.exists():
        raise InputError(f"{settings.dir_or_json}: no such folder or annotation file; correct the path")
    if any(side % PATCH for side in settings.image_size):
        raise InputError(f"--image_size {settings.image_size} is not a multiple of the patch size {PATCH}; change it")
    for name in ("images", "val_images"):
        folder = getattr(settings, name)
        if folder is not None and not folder.is_dir():
            raise InputError(f"{folder}: no such folder; correct --{name}")
    if settings.val_images is not None and settings.val_annotations is None:
        raise InputError("--val_images needs --val_annotations; see --help")
    if settings.dir_or_json.is_dir() and (settings.images or settings.val_annotations):
        given = "images" if settings.images else "val_annotations"
        raise InputError(f"--{given} needs one JSON, but {settings.dir_or_json} is a folder; give the JSON")
    if settings.output is not None and settings.output.is_dir():
        raise InputError(f"{settings.output}: is a folder; give a file as --output")


def _inspect(settings: DataCheckSettings) -> None:
    from dino_detector.data.pictures.files import allow_megapixels
    from dino_detector.data_check.check import load
    from dino_detector.data_check.patches import PatchGrid
    from dino_detector.data_check.report import payload, report_text, sources_text

    allow_megapixels(settings.max_megapixels)
    sources, folder, images_dirs = _sources(settings)
    loaded = load(sources, folder, images_dirs)
    print(sources_text(loaded.splits, loaded.files), end="\n\n", flush=True)
    result = _run(loaded, PatchGrid(settings.image_size, settings.resize_mode), settings)
    print(report_text(result))
    if settings.output is not None:
        write_whole(settings.output, json.dumps(payload(result), indent=1))
        print(f"\nAll findings with all their ids are in {settings.output}")


def _sources(settings: DataCheckSettings) -> tuple[list[Source], Path, list[Path | None]]:
    """Return the annotation files, the folder to search for images, and the given folders of images."""
    from dino_detector.data_check.layouts import Source, find_sources, name_sources

    given = settings.dir_or_json
    if given.is_dir():
        sources = find_sources(given)
        return sources, given, [None] * len(sources)
    if settings.val_annotations is None:
        sources = name_sources([given], given.parent)
        return sources, given.parent, [settings.images]
    sources = [Source("train", given), Source("val", settings.val_annotations)]
    return sources, given.parent, [settings.images, settings.val_images]


def _run(loaded: Loaded, grid: PatchGrid, settings: DataCheckSettings) -> Check:
    """Run all checks, with a progress bar on a terminal while images are opened."""
    from tqdm import tqdm

    from dino_detector.data_check.check import check

    number = loaded.files_found
    if settings.skip_images or not number:
        return check(loaded, grid=grid, num_queries=settings.num_queries, advance=None)
    if number >= MANY_IMAGES:
        print(f"Opening {number:,} images, which takes some minutes; --skip_images leaves that out\n", flush=True)
    with tqdm(total=number, unit=" images", disable=None, leave=False, file=sys.stderr) as bar:
        return check(loaded, grid=grid, num_queries=settings.num_queries, advance=bar.update)
