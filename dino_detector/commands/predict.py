"""The command ``predict``: detections of a detector in a picture or a folder of pictures."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from contextlib import suppress
from itertools import count, tee
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from dino_detector.commands.arguments import parse_settings
from dino_detector.commands.frame import configure_logging, run_command, signal_of
from dino_detector.config import MAX_DETECTIONS, TilingConfig
from dino_detector.config.commands import PredictSettings
from dino_detector.data.pictures.files import (
    WRITABLE,
    PictureFolder,
    allow_megapixels,
    find_pictures,
    has_several_frames,
    save_picture,
)
from dino_detector.errors import InputError, StoppedByUser
from dino_detector.plain_text import counted, listed, plain
from dino_detector.storage.files import read_json, write_whole
from dino_detector.storage.output_folder import locked, move_aside

if TYPE_CHECKING:
    from torch import Tensor

    from dino_detector.inference.detector import Detector
    from dino_detector.inference.detector_group import DetectorGroup
    from dino_detector.structures.detections import ImageDetections

log = logging.getLogger("dino_detector.commands.predict")

RESULTS = "predictions.json"
LIST = "predictions_images.json"
"""names and ids of the pictures, and the files that a call writes; the next call moves these files aside"""


class Source(NamedTuple):
    """A picture to detect in.

    Attributes:
        image_id: number of the picture, from 1.
        path: file of the picture.
        name: path below the folder that the user named.
        drawn: name of the picture with boxes, below the result folder.
    """

    image_id: int
    path: Path
    name: str
    drawn: str


def main(argv: Sequence[str], *, prog: str = "dino-detector predict") -> int:
    """Detect objects in pictures; write each picture with its boxes, and all detections in COCO's results format.

    Args:
        argv: the command line without the command.
        prog: the command as the user types it.
    """

    def command() -> None:
        values, _ = parse_settings(
            [PredictSettings, TilingConfig],
            argv,
            prog=prog,
            description="Detect objects in a picture or a folder of pictures. Writes each picture with its boxes, and "
            f"{RESULTS} in the COCO results format with the file name of each detection's picture.",
            usage="IMAGE_OR_FOLDER --checkpoint PATH",
        )
        tiling = TilingConfig(**{name: values.pop(name) for name in TilingConfig.__dataclass_fields__})
        settings = PredictSettings(**values)
        allow_megapixels(settings.max_megapixels)
        folders = _folders(settings)
        found = find_pictures(settings.image_or_folder, recursive=settings.recursive, results=LIST)
        sources = _sources(found, settings.image_or_folder)
        _refuse_overwriting(sources, folders)
        with locked(settings.output_dir, "prediction"):
            configure_logging()
            _predict(settings, tiling, found, sources, folders)

    return run_command(command)


def _refuse_overwriting(sources: Sequence[Source], folders: Sequence[Path]) -> None:
    """Raise `InputError` where a picture with boxes would go among the pictures, or take the place of one."""
    pictures = {source.path.resolve() for source in sources}
    parents = {path.parent for path in pictures}
    for folder in (folder.resolve() for folder in folders):
        if folder in parents or any(folder / source.drawn in pictures for source in sources):
            raise InputError(f"{folder}: the pictures are here and would be overwritten; change --output_dir")


def _folders(settings: PredictSettings) -> list[Path]:
    """Return the result folder of each checkpoint.

    Several checkpoints get subfolders, named by the shortest ends of their paths that differ.
    """
    checkpoints = [path.resolve() for path in settings.checkpoint]
    if len(checkpoints) < 2:
        return [settings.output_dir]
    for path, times in Counter(checkpoints).items():
        if times > 1:
            raise InputError(f"--checkpoint has {settings.checkpoint[checkpoints.index(path)]} twice; give it once")
    if all(path.suffix == ".pth" for path in checkpoints):
        checkpoints = [path.with_suffix("") for path in checkpoints]
    by_length = (["_".join(path.parts[-length:]) for path in checkpoints] for length in count(1))
    names = next(names for names in by_length if len(set(names)) == len(names))
    return [settings.output_dir / name for name in names]


def _sources(found: PictureFolder, given: Path) -> list[Source]:
    """Return each picture with the file to draw it to, which has its name, or ``.png`` added to an unwritable name."""
    names = [path.relative_to(given).as_posix() if given.is_dir() else path.name for path in found.pictures]
    taken = {name for name in names if PurePosixPath(name).suffix.lower() in WRITABLE}
    sources = []
    for number, (path, name) in enumerate(zip(found.pictures, names, strict=True), start=1):
        drawn = name
        if PurePosixPath(name).suffix.lower() not in WRITABLE:
            endings = ("".join(["_" * times, ".png"]) for times in count())
            drawn = next(name + ending for ending in endings if name + ending not in taken)
            taken.add(drawn)
        sources.append(Source(number, path, name, drawn))
    return sources


def _predict(
    settings: PredictSettings,
    tiling: TilingConfig,
    pictures: PictureFolder,
    sources: list[Source],
    folders: list[Path],
) -> None:
    from dino_detector.inference.detector_group import DetectorGroup
    from dino_detector.structures.evaluation_files import write_results

    group = DetectorGroup(settings.checkpoint, device=settings.device, dino_model=settings.dino_model)
    group.optimize(precision=settings.precision)
    first = group.detectors[0]
    print(
        f"{counted(len(sources), 'picture')} in {settings.image_or_folder}; on {first.device}, precision "
        f"{first.inference_precision}"
    )
    if left_out := pictures.left_out_line(settings.image_or_folder):
        hint = "; --recursive takes subfolders too" if pictures.nested else ""
        print(f"{plain(left_out, 200)}{hint}")
    for folder, detector in zip(folders, group.detectors, strict=True):
        _make_room(folder, sources)
        _write_list(folder, sources, detector, drawn={source.image_id for source in sources})
    results: list[list[dict[str, Any]]] = [[] for _ in folders]
    broken: list[str] = []
    framed: list[str] = []
    drawn: set[int] = set()
    try:
        for source, found in _detected(group, sources, settings, tiling, broken):
            if has_several_frames(source.path):
                framed.append(source.name)
            _write_picture(source, found, group, folders, results, settings)
            drawn.add(source.image_id)
    except KeyboardInterrupt as stop:
        raise StoppedByUser(
            f"stopped after {len(drawn)} of {counted(len(sources), 'picture')}; {RESULTS} has their detections",
            signal_of(stop),
        ) from None
    finally:
        for folder, detector, rows in zip(folders, group.detectors, results, strict=True):
            write_results(folder / RESULTS, rows)
            if len(drawn) < len(sources):
                _write_list(folder, sources, detector, drawn=drawn)
    print(f"Pictures with boxes and all detections, {RESULTS}, are in {settings.output_dir}")
    if framed:
        have = "has" if len(framed) == 1 else "have"
        print(f"{counted(len(framed), 'picture')} {have} several frames; the first was used: {listed(framed)}")
    for reason in broken[:-1]:
        log.warning("%s", reason)
    if broken:
        of_all = f"{len(broken)} of {counted(len(sources), 'picture')} can't be read"
        raise InputError(f"{broken[-1]}; {of_all}, and the results of the others are complete")


def _detected(
    group: DetectorGroup, sources: Sequence[Source], settings: PredictSettings, tiling: TilingConfig, broken: list[str]
) -> Iterator[tuple[Source, tuple[Tensor, list[ImageDetections]]]]:
    """Yield each readable picture with its pixels ``[3, H, W]`` and the detections of each detector."""
    # The detectors read ahead from `to_detect`; `readable` holds the pictures whose detections are still to come.
    readable, to_detect = tee(_readable(sources, group.detectors[0].white_level, broken))
    images = (image for _, image in to_detect)
    found = group.detect_each(images, tiling=tiling, batch_size=settings.batch_size)
    for of_picture, (source, image) in zip(found, readable, strict=True):
        yield source, (image, of_picture)


def _readable(
    sources: Sequence[Source], white_level: float | None, broken: list[str]
) -> Iterator[tuple[Source, Tensor]]:
    """Yield each readable picture with its pixels ``[3, H, W]``; append the reason of every other one to ``broken``."""
    from dino_detector.data.pictures.reading import read_image

    for source in sources:
        try:
            image = read_image(source.path, white_level=white_level)
        except InputError as error:
            broken.append(str(error))
            continue
        yield source, image


def _write_picture(
    source: Source,
    found: tuple[Tensor, list[ImageDetections]],
    group: DetectorGroup,
    folders: Sequence[Path],
    results: Sequence[list[dict[str, Any]]],
    settings: PredictSettings,
) -> None:
    """Draw a picture for each detector, say what is in it, and add its detections to the results."""
    from dino_detector.structures.detections import coco_results

    image, of_picture = found
    for detections, detector, folder, rows in zip(of_picture, group.detectors, folders, results, strict=True):
        shown = detections.above(settings.threshold)
        _draw(image, shown, detector, folder / source.drawn)
        counts = Counter(shown.labels.tolist())
        objects = ", ".join(f"{counts[label]} {detector.categories.shown[label]}" for label in sorted(counts))
        where = plain((folder / source.drawn).relative_to(settings.output_dir), 200)
        print(f"{where}: {objects or 'nothing'}")
        written = detections.best(max(MAX_DETECTIONS, len(shown.scores)))
        found_rows = coco_results(source.image_id, written, detector.categories)
        rows += [{**row, "file_name": source.name} for row in found_rows]


def _draw(image: Tensor, shown: ImageDetections, detector: Detector, path: Path) -> None:
    """Write a picture with its boxes."""
    from torchvision.transforms.v2.functional import to_pil_image

    from dino_detector.analysis.pictures import draw_detections

    picture = draw_detections(
        to_pil_image(image),
        shown.to_supervision(detector.categories),
        categories=detector.categories,
        scores=True,
    )
    save_picture(picture, path)


def _write_list(folder: Path, sources: Sequence[Source], detector: Detector, *, drawn: Set[int]) -> None:
    """Write the list of pictures, before any other file: the next call reads from it which files to move aside.

    Args:
        folder: the folder of the results.
        sources: the pictures.
        detector: knows the classes.
        drawn: ids of the pictures that are drawn with their boxes; the other pictures have null for the file.
    """
    images = [
        {"id": one.image_id, "file_name": one.name, "drawn": one.drawn if one.image_id in drawn else None}
        for one in sources
    ]
    named = zip(detector.categories.ids, detector.categories.names, strict=True)
    categories = [{"id": number, "name": name} for number, name in named]
    write_whole(folder / LIST, json.dumps({"images": images, "categories": categories}, indent=1) + "\n")


def _make_room(folder: Path, sources: Sequence[Source]) -> None:
    """Move aside what an earlier call wrote to a folder, and whatever else has the name of a file to be written."""
    names = {RESULTS, LIST, *(source.drawn for source in sources)}
    with suppress(OSError, ValueError, LookupError, TypeError):  # no such file, or not one of ours
        names |= {str(image["drawn"]) for image in read_json(folder / LIST)["images"] if image["drawn"]}
    there = [folder / name for name in sorted(names) if ".." not in Path(name).parts and (folder / name).is_file()]
    move_aside([path for path in there if path.is_relative_to(folder)], folder)
