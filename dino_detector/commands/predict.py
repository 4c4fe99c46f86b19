"""The command ``predict``: detections in a picture or a folder of pictures."""

from __future__ import annotations

import json
import logging
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from dino_detector.commands.frame import command
from dino_detector.config import MAX_DETECTIONS, TilingConfig
from dino_detector.config.commands import InferenceSettings, PredictSettings
from dino_detector.data.pictures import finding, opening
from dino_detector.errors import InputError, StoppedByUser
from dino_detector.plain_text import counted, listed, plain
from dino_detector.storage.files import read_json, write_whole
from dino_detector.storage.output_folder import locked, move_aside

if TYPE_CHECKING:
    from torch import Tensor

    from dino_detector.inference.detector import Detector
    from dino_detector.inference.detector_group import DetectorGroup
    from dino_detector.structures.detections import ImageDetections

log = logging.getLogger(__name__)

RESULTS = "predictions.json"
LIST = "predictions_images.json"
"""names and ids of the pictures, and the files that a call writes; the next call moves these files aside"""


class Source(NamedTuple):
    """A picture: its number from 1, its file, its path below the folder that the user named, and the drawn file."""

    image_id: int
    path: Path
    name: str
    drawn: str


class Output(NamedTuple):
    """A detector, its result folder, and its detections as rows of the COCO results format."""

    detector: Detector
    folder: Path
    rows: list[dict[str, Any]]


@command(PredictSettings, InferenceSettings, TilingConfig, usage="IMAGE_OR_FOLDER --checkpoint PATH")
def main(settings: PredictSettings, inference: InferenceSettings, tiling: TilingConfig) -> None:
    """Detect objects in a picture or a folder of pictures.

    Writes each picture with its boxes, and predictions.json in the COCO results format with the file name of each
    detection's picture.
    """
    done, unread = predict(settings, inference, tiling, Printed(settings))
    print(f"Pictures with boxes and all detections, {RESULTS}, are in {settings.output_dir}")
    if framed := [source.name for source in done if opening.has_several_frames(source.path)]:
        have = "has" if len(framed) == 1 else "have"
        print(f"{counted(len(framed), 'picture')} {have} several frames; the first was used: {listed(framed)}")
    for reason in unread[:-1]:
        log.warning("%s", reason)
    if unread:
        total = counted(len(done) + len(unread), "picture")
        raise InputError(
            f"{unread[-1]}; {len(unread)} of {total} can't be read, and the results of the others are complete"
        )


class Predicted(NamedTuple):
    """Pictures with results, and a line for each picture that can't be read."""

    done: list[Source]
    unreadable: list[str]


class Watcher(Protocol):
    """Follows a prediction."""

    def begin(self, group: DetectorGroup, sources: Sequence[Source], left_out: str) -> None:
        """Begin, with a line about files that are left out, which may be empty."""

    def found(self, source: Source, output: Output, shown: ImageDetections) -> None:
        """Take the detections of a detector in a picture, which score at least the threshold."""


class Printed(NamedTuple):
    """Prints a line for each picture."""

    settings: PredictSettings

    def begin(self, group: DetectorGroup, sources: Sequence[Source], left_out: str) -> None:
        """Print the number of pictures, the device, and what is left out."""
        device, precision = group.detectors[0].device, group.detectors[0].inference_precision
        pictures = f"{counted(len(sources), 'picture')} in {self.settings.image_or_folder}"
        print(f"{pictures}; on {device}, precision {precision}")
        if left_out:
            print(left_out)

    def found(self, source: Source, output: Output, shown: ImageDetections) -> None:
        """Print the objects by class."""
        counts = Counter(shown.labels.tolist())
        objects = ", ".join(f"{counts[label]} {output.detector.categories.shown[label]}" for label in sorted(counts))
        path = (output.folder / source.drawn).relative_to(self.settings.output_dir)
        print(f"{plain(path, 200)}: {objects or 'nothing'}")


def predict(
    settings: PredictSettings,
    inference: InferenceSettings,
    tiling: TilingConfig,
    watcher: Watcher,
    *,
    pictures: Sequence[Path] | None = None,
) -> Predicted:
    """Detect objects in the pictures, and write the results of each detector to its folder.

    ``pictures`` replace the picture or the folder of the settings.

    Raises:
        InputError: a setting or a checkpoint is wrong.
        StoppedByUser: the user interrupted the work; the results of finished pictures are written.
    """
    opening.allow_megapixels(inference.max_megapixels)
    folders = _folders(settings)
    given = settings.image_or_folder
    if pictures is None:
        found = finding.find_pictures(given, recursive=settings.recursive, results=LIST)
    else:
        if missing := [path for path in pictures if not path.is_file()]:
            raise InputError(f"{missing[0]}: no such picture; correct the path, or give a folder alone")
        found = finding.PictureFolder([*pictures], [], 0, [])
    sources = _sources(found, given)
    _refuse_overwriting(sources, folders)
    from dino_detector.inference.detector_group import DetectorGroup

    with locked(settings.output_dir, "prediction"):
        group = DetectorGroup(settings.checkpoint, device=inference.device, dino_model=inference.dino_model)
        group.optimize(precision=inference.precision)
        left_out = plain(found.left_out_line(given) or "", 200)
        hint = "; --recursive takes subfolders too" if found.nested and left_out else ""
        watcher.begin(group, sources, left_out + hint)
        outputs = [Output(detector, folder, []) for detector, folder in zip(group.detectors, folders, strict=True)]
        detect = partial(group.detect_each, tiling=tiling, batch_size=inference.batch_size)
        return _predict(detect, outputs, sources, settings.threshold, watcher, white_level=group.white_level)


def _folders(settings: PredictSettings) -> list[Path]:
    """Return the result folder of each checkpoint.

    Several checkpoints get subfolders, named by the shortest ends of their paths that differ.
    """
    checkpoints = [path.resolve() for path in settings.checkpoint]
    if len(checkpoints) < 2:
        return [settings.output_dir]
    for number, path in enumerate(checkpoints):
        if path in checkpoints[:number]:
            raise InputError(f"--checkpoint has {settings.checkpoint[number]} twice; give it once")
    if all(path.suffix == ".pth" for path in checkpoints):
        checkpoints = [path.with_suffix("") for path in checkpoints]
    parts = [path.relative_to(path.anchor).parts for path in checkpoints]  # "/" would make the joined name absolute
    by_length = (["_".join(part[-length:]) for part in parts] for length in count(1))
    names = next(names for names in by_length if len(set(names)) == len(names))
    return [settings.output_dir / name for name in names]


def _sources(found: finding.PictureFolder, given: Path) -> list[Source]:
    """Return each picture with the file to draw it to, which has its name, or ``.png`` added to an unwritable name."""
    sources = []
    names = [path.relative_to(given).as_posix() if given.is_dir() else path.name for path in found.pictures]
    if len(set(names)) < len(names):  # files of several folders
        names = [f"{number}_{name}" for number, name in enumerate(names, start=1)]
    taken = set(names)
    for number, (path, name) in enumerate(zip(found.pictures, names, strict=True), start=1):
        drawn = name
        if PurePosixPath(name).suffix.lower() not in finding.WRITABLE:
            candidates = (f"{name}{'_' * times}.png" for times in count())
            drawn = next(candidate for candidate in candidates if candidate not in taken)
            taken.add(drawn)
        sources.append(Source(number, path, name, drawn))
    return sources


def _refuse_overwriting(sources: Sequence[Source], folders: Sequence[Path]) -> None:
    """Raise `InputError` where a picture with boxes would go among the pictures, or take the place of one."""
    pictures = {source.path.resolve() for source in sources}
    parents = {path.parent for path in pictures}
    for folder in (folder.resolve() for folder in folders):
        if folder in parents or any(folder / source.drawn in pictures for source in sources):
            raise InputError(f"{folder}: the pictures are here and would be overwritten; change --output_dir")


def _predict(
    detect_each: Callable[[Iterator[Tensor]], Iterator[Sequence[ImageDetections]]],
    outputs: list[Output],
    sources: list[Source],
    threshold: float,
    watcher: Watcher,
    *,
    white_level: float | None,
) -> Predicted:
    """Detect in each picture and write the results."""
    from dino_detector.data.pictures.decoding import readable_images
    from dino_detector.structures.evaluation_files import write_results

    for output in outputs:
        _make_room(output.folder, sources)
        _write_list(output, sources, set(sources))  # before any other file: the next call moves aside what it names
    number = counted(len(sources), "picture")
    waiting: deque[tuple[Source, Tensor]] = deque()  # pictures that the detectors have read ahead
    broken: list[str] = []
    done: list[Source] = []

    def images() -> Iterator[Tensor]:
        for position, image in readable_images((one.path for one in sources), broken, white_level=white_level):
            waiting.append((sources[position], image))
            yield image

    try:
        for found in detect_each(images()):
            source, image = waiting.popleft()
            for output, detections in zip(outputs, found, strict=True):
                shown = detections.above(threshold)
                _write_picture(output, source, image, detections, shown)
                watcher.found(source, output, shown)
            done.append(source)
    except KeyboardInterrupt as stop:
        message = f"stopped after {len(done)} of {number}; {RESULTS} has their detections"
        raise StoppedByUser(message, getattr(stop, "number", signal.SIGINT)) from None
    finally:
        for output in outputs:
            write_results(output.folder / RESULTS, output.rows)
            _write_list(output, sources, set(done))
    return Predicted(done, broken)


def _write_picture(
    output: Output, source: Source, image: Tensor, detections: ImageDetections, shown: ImageDetections
) -> None:
    """Draw the ``shown`` detections in a picture ``[3, H, W]``, and add all detections to the results."""
    from torchvision.transforms.v2.functional import to_pil_image

    from dino_detector.analysis.drawing import draw_detections
    from dino_detector.structures.detections import coco_results

    path, categories = output.folder / source.drawn, output.detector.categories
    boxes = shown.to_supervision(categories)
    finding.save_picture(draw_detections(to_pil_image(image), boxes, categories=categories, scores=True), path)
    written = detections.best(max(MAX_DETECTIONS, len(shown.scores)))
    output.rows.extend(row | {"file_name": source.name} for row in coco_results(source.image_id, written, categories))


def _write_list(output: Output, sources: Sequence[Source], drawn: Set[Source]) -> None:
    """Write the list of pictures; a picture that is not ``drawn`` has null for its drawn file."""
    images = [
        {"id": one.image_id, "file_name": one.name, "drawn": one.drawn if one in drawn else None} for one in sources
    ]
    content = {"images": images, "categories": output.detector.categories.as_coco()}
    write_whole(output.folder / LIST, json.dumps(content, indent=1) + "\n")


def _make_room(folder: Path, sources: Sequence[Source]) -> None:
    """Move aside the files of an earlier call in a folder, and other files with the names of files to be written."""
    names = {RESULTS, LIST, *(source.drawn for source in sources)}
    with suppress(OSError, ValueError, LookupError, TypeError):  # no such file, or not one of ours
        names |= {str(image["drawn"]) for image in read_json(folder / LIST)["images"] if image["drawn"]}
    there = [folder / name for name in sorted(names) if ".." not in Path(name).parts and (folder / name).is_file()]
    move_aside([path for path in there if path.is_relative_to(folder)], folder)
