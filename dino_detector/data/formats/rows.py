"""Images, boxes and classes of another labelling format, collected as the entries of a COCO file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dino_detector.data.coco.entries import AnnotationEntry, CategoryEntry, Content, ImageEntry


def files_below(folder: Path, form: str) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders that match a glob pattern, in order, without hidden ones."""
    for path in sorted(folder.rglob(form)):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


STAND_IN_SIZE = (1000.0, 1000.0)
"""width and height that stand in for the size of a picture that can't be read"""


class Reading(NamedTuple):
    """The annotations of a split.

    Attributes:
        content: the entries.
        places: the place of each annotation in the user's files, for messages; None for COCO, which has ids.
        notes: one line for each kind of entry that is left out or changed.
    """

    content: Content
    places: Sequence[str] | None = None
    notes: tuple[str, ...] = ()


class Places(Sequence[str]):
    """The places of annotations, such as ``labels/a.txt, line 3``, made into text only where one is shown."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.found: list[tuple[object, int]] = []

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index: int) -> str:
        """Return the place of the annotation at a position."""
        file, number = self.found[index]
        return f"{file}, {self.unit} {number}"


class Rows:
    """Collects images and boxes, numbered from 1 in the order in which they come.

    Args:
        classes: class names by category id; None numbers the names of the boxes from 1, in alphabetical order.
        unit: the word for a part of a file that holds one box, such as ``line``.
    """

    def __init__(self, classes: Mapping[int, str] | None = None, *, unit: str) -> None:
        self.classes = classes
        self.images: list[ImageEntry] = []
        self.boxes: list[tuple[int, str | int, list[float], bool]] = []
        self.places = Places(unit)

    def image(self, file_name: str, *, width: int | None = None, height: int | None = None) -> None:
        """Begin an image; without a size the reader of COCO files takes the size from the picture."""
        entry = ImageEntry(id=len(self.images) + 1, file_name=file_name)
        if width and height:
            entry.width, entry.height = width, height
        self.images.append(entry)

    def measured(self, file_name: str, width: float, height: float) -> tuple[float, float]:
        """Begin an image whose boxes are fractions; return the factors of x and y to pixels.

        Width and height are NaN for a picture that can't be read; its boxes are given for `STAND_IN_SIZE`.
        """
        size = STAND_IN_SIZE if math.isnan(width) else (width, height)
        self.image(file_name, width=int(size[0]), height=int(size[1]))
        return size

    def box(
        self,
        kind: str | int,
        edges: tuple[float, float, float, float],
        place: tuple[object, int],
        *,
        crowd: bool = False,
    ) -> None:
        """Add a box to the last image.

        Args:
            kind: name of its class, or its id in ``classes``.
            edges: left, top, right and bottom in pixels.
            place: the file, and the number of the box in it, from 1.
            crowd: whether the box is a crowd region.
        """
        left, top, right, bottom = edges
        self.boxes.append((len(self.images), kind, [left, top, right - left, bottom - top], crowd))
        self.places.found.append(place)

    def polygon(self, kind: str | int, points: Iterable[tuple[float, float]], place: tuple[object, int]) -> None:
        """Add the box around points in pixels to the last image."""
        x, y = zip(*points, strict=True)
        self.box(kind, (min(x), min(y), max(x), max(y)), place)

    def reading(self, *notes: str | None) -> Reading:
        """Return the entries, with the notes that are not empty."""
        return Reading(self.content(), self.places, tuple(filter(None, notes)))

    def content(self) -> Content:
        """Return the entries."""
        classes = self.classes
        if classes is None:
            names = sorted({name for _, name, _, _ in self.boxes})
            classes = dict(enumerate(names, start=1))
        numbers = {name: number for number, name in classes.items()}
        annotations = []
        for number, (image, kind, box, crowd) in enumerate(self.boxes, start=1):
            entry = AnnotationEntry(id=number, image_id=image, category_id=numbers.get(kind, kind), bbox=box)
            entry.area, entry.iscrowd = box[2] * box[3], int(crowd)
            annotations.append(entry)
        categories = [CategoryEntry(id=number, name=name) for number, name in classes.items()]
        return Content(self.images, annotations, categories)
