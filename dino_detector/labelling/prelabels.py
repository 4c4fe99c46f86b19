"""Pre-labels: detections in pictures without labels, as files that a labelling tool imports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from dino_detector.config.commands import InferenceSettings
from dino_detector.config.labelling import LabelSettings
from dino_detector.data.conversion.conversion import require_apart, write_labelled
from dino_detector.data.conversion.labelled import Box, Labelled, Picture
from dino_detector.data.pictures.decoding import readable_images
from dino_detector.data.pictures.finding import find_pictures
from dino_detector.errors import InputError
from dino_detector.inference.detector import Detector, load_detector
from dino_detector.labelling.label_studio import Task, write_label_studio
from dino_detector.labelling.labelled_data import LabelledData
from dino_detector.labelling.suggestions import objects_in
from dino_detector.labelling.thresholds import Thresholds, same_for_all, thresholds_beside, thresholds_on
from dino_detector.plain_text import counted
from dino_detector.structures.detections import ImageDetections

ANNOTATIONS = (".json", ".xml", ".csv", ".yaml", ".yml")
"""extensions of files that may be annotations; a folder without any is a folder of pictures"""
STUDIO = "label-studio"


@dataclass(frozen=True)
class PreLabels:
    """Pre-labels that were written.

    Attributes:
        output: the new folder.
        pictures: number of pictures without labels, which are in it.
        labelled: number of pictures with labels, which are not in it.
        boxes: number of boxes by the name of their class.
        thresholds: least score of a box by the name of its class.
        origin: where the thresholds come from.
        unreadable: one line for each picture that can't be read.
        notes: what the format can't hold.
    """

    output: Path
    pictures: int
    labelled: int
    boxes: dict[str, int]
    thresholds: dict[str, float]
    origin: str
    unreadable: tuple[str, ...]
    notes: tuple[str, ...]


def label(settings: LabelSettings, inference: InferenceSettings, *, advance: Callable[[int, int], None]) -> PreLabels:
    """Write the detections in pictures without labels as a new data set; the user's data is not changed.

    ``advance`` takes the numbers of done and of all pictures.

    Raises:
        InputError: the data or the checkpoint is wrong, or every picture has labels.
    """
    data, output = settings.data_or_folder, settings.output_dir
    require_apart(data, output)
    files, with_labels = _without_labels(data)
    detector = load_detector(settings.checkpoint, inference)
    thresholds, origin = _thresholds(detector, settings, inference.batch_size)
    unreadable: list[str] = []
    rows: list[tuple[Path, tuple[int, int], ImageDetections]] = []
    waiting: list[tuple[Path, tuple[int, int]]] = []

    def images() -> Iterator[Tensor]:
        paths = (file for _, file in files)
        for position, image in readable_images(paths, unreadable, white_level=detector.white_level):
            waiting.append((files[position][1], (image.shape[2], image.shape[1])))
            yield image

    limits = np.array(thresholds)
    found = detector.detect_each(images(), tiling=detector.config.tiling, batch_size=inference.batch_size)
    for number, detections in enumerate(found):
        file, size = waiting[number]
        objects = objects_in(detections)
        kept = objects.scores.numpy() >= limits[objects.labels.numpy()]
        rows.append((file, size, ImageDetections(*(column[kept] for column in objects))))
        advance(len(rows) + len(unreadable), len(files))
    if not rows:
        raise InputError(f"{data}: none of {counted(len(files), 'picture')} can be read; the first: {unreadable[0]}")
    names = {file: name for name, file in files}
    notes = _write(detector, rows, names, settings)
    shown = detector.categories.distinct_names
    counts = np.bincount(np.concatenate([one.labels.numpy() for _, _, one in rows]), minlength=len(shown))
    return PreLabels(
        output=output,
        pictures=len(rows),
        labelled=with_labels,
        boxes=dict(zip(shown, counts.tolist(), strict=True)),
        thresholds=dict(zip(shown, thresholds, strict=True)),
        origin=origin,
        unreadable=tuple(unreadable),
        notes=tuple(notes),
    )


def _without_labels(data: Path) -> tuple[list[tuple[str, Path]], int]:
    """Return the names and files of the pictures without labels, and the number of pictures with labels."""
    is_plain = data.is_dir() and not any(path.suffix.lower() in ANNOTATIONS for path in data.rglob("*"))
    if is_plain and not any(data.rglob("classes.txt")):
        pictures = find_pictures(data, recursive=True).pictures
        return [(path.relative_to(data).as_posix(), path) for path in pictures], 0
    if data.is_file() and data.suffix.lower() not in (*ANNOTATIONS, ".txt"):
        return [(data.name, data)], 0
    splits = LabelledData.read(data).splits
    labelled = set()
    listed: dict[Path, str] = {}
    for split in splits:
        having = set(np.unique(split.annotations.entries.image_indices).tolist())
        for row, name in enumerate(split.annotations.images.file_names):
            file = split.folder / name
            listed[file] = f"{split.name}/{name}" if len(splits) > 1 else name
            if row in having:
                labelled.add(file.resolve())
    for split in splits:  # pictures that no file of labels names
        for file in find_pictures(split.folder, recursive=True).pictures:
            name = file.relative_to(split.folder).as_posix()
            listed.setdefault(file, f"{split.name}/{name}" if len(splits) > 1 else name)
    new: dict[Path, tuple[str, Path]] = {}
    for file, name in listed.items():
        if file.resolve() not in labelled:
            new.setdefault(file.resolve(), (name, file))
    if not new:
        raise InputError(f"{data}: all of its {counted(len(labelled), 'picture')} have labels; add pictures")
    return list(new.values()), len(labelled)


def _thresholds(detector: Detector, settings: LabelSettings, batch_size: int) -> Thresholds:
    if settings.threshold is not None:
        return same_for_all(settings.threshold, detector.categories, "--threshold")
    if settings.labelled is not None:
        return thresholds_on(detector, settings.labelled, batch_size=batch_size)
    origin = "no validation was found beside the checkpoint; --labelled DATA measures each class's best"
    return thresholds_beside(settings.checkpoint, detector.categories) or same_for_all(0.5, detector.categories, origin)


def _write(
    detector: Detector,
    rows: list[tuple[Path, tuple[int, int], ImageDetections]],
    names: dict[Path, str],
    settings: LabelSettings,
) -> list[str]:
    """Write the boxes and place the pictures; return what the format can't hold."""
    categories, to, output = detector.categories, settings.to, settings.output_dir
    content = []
    for file, size, found in rows:
        corners = found.boxes_xyxy.double().numpy()
        xywh = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]]).round(3).tolist()
        boxes = [Box(label, *box) for label, box in zip(found.labels.tolist(), xywh, strict=True)]
        content.append(Picture(names[file], file, size, boxes))
    labelled = Labelled({"": content}, list(categories.distinct_names), list(categories.ids))
    form = "coco" if to == STUDIO else to
    source = f"{settings.checkpoint} in {settings.data_or_folder}"
    result = write_labelled(labelled, to=form, output=output, pictures=settings.pictures, source=source)
    if to == STUDIO:
        tasks = []
        for picture, (_, size, found) in zip(content, rows, strict=True):
            scored = zip(picture.boxes, found.scores.tolist(), strict=True)
            tasks.append(
                Task(picture.name, size, [(labelled.classes[box.label], score, box[1:5]) for box, score in scored])
            )
        write_label_studio(tasks, labelled.classes, output, model=settings.checkpoint.stem)
    return [note.line() for note in result.notes]
