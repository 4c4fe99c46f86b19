"""Images of a data set in memory: any object with ``len(data)`` and items ``(image, target)``.

Items follow torchvision's detection convention: ``target["boxes"]`` are corners in pixels and ``target["labels"]``
whole numbers. Training fetches an item again for each sample, so that random transforms of the data set's own show in
every epoch.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.images import CocoImages, Objects
from dino_detector.data.pictures.decoding import to_rgb_tensor
from dino_detector.data.windows import Window
from dino_detector.errors import InputError
from dino_detector.structures.categories import Categories

NAMES = {"train": "training", "val": "validation"}


class Item(NamedTuple):
    """An image, uint8 ``[3, H, W]``, and its objects with contiguous labels."""

    image: Tensor
    objects: Objects

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return tuple(self.image.shape[-2:])


class Items:
    """Checked items of a data set.

    Args:
        data: has ``len`` and gives ``(image, target)`` for an index from 0.
        categories: the classes; their ids are the labels in targets.
        split: ``train`` or ``val``, for messages.
    """

    def __init__(self, data: Any, categories: Categories, *, split: str) -> None:
        self.data = data
        self.categories = categories
        self.name = f"the {NAMES[split]} data set"

    def __getitem__(self, index: int) -> Item:
        """Return the item at an index; raise `InputError` if it is no pair of an image and a target."""
        where, item = f"{self.name}, item {index}", self.data[index]
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise InputError(f"{where}: is {type(item).__name__}, and must be a pair (image, target)")
        image, target = item
        if not isinstance(target, Mapping) or not {"boxes", "labels"} <= target.keys():
            has = f"has {', '.join(map(str, target))}" if isinstance(target, Mapping) else f"is {type(target).__name__}"
            raise InputError(f'{where}: its target {has}, and must be a dictionary with "boxes" and "labels"')
        try:
            if isinstance(image, Tensor):  # torchvision's image tensors would pass their own type on
                image = image.detach().cpu().as_subclass(Tensor)
            pixels = to_rgb_tensor(image)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        boxes_xyxy = _boxes(target["boxes"], where)
        labels = self._labels(target["labels"], len(boxes_xyxy), where)
        return Item(pixels, Objects(boxes_xyxy, labels))

    def _labels(self, given: Any, count: int, where: str) -> ndarray:
        """Return contiguous labels ``[N]``."""
        values = as_array(given, where, "labels")
        if values.shape != (count,) or (count and values.dtype.kind not in "iu"):
            shape = f"{values.dtype} {list(values.shape)}"
            raise InputError(f'{where}: "labels" must be whole numbers, one for each of {count} boxes, not {shape}')
        ids = self.categories.ids
        for value in values.tolist():
            if value not in ids:
                remedy = "give all labels in classes"
                if ids == tuple(range(len(ids))) and value == len(ids):
                    names = {number + 1: name for number, name in enumerate(self.categories.names[:2])}
                    more = ", ..." if len(ids) > 2 else ""
                    remedy = f"if labels start at 1, give classes={str(names)[:-1]}{more}}}"
                raise InputError(f"{where}: label {value} is none of the classes, {self.categories.listed()}; {remedy}")
        return np.searchsorted(ids, values.astype(np.int64))

    def annotations(self, path: Path) -> CocoAnnotations:
        """Read every item once, and return sizes and boxes as annotations; an image's id is its index.

        Messages about the boxes name ``path``.
        """
        try:
            count = len(self.data)
        except TypeError:
            kind = type(self.data).__name__
            raise InputError(
                f"{self.name}: {kind} has no length; give a data set with len() and items by index"
            ) from None
        if not count:
            raise InputError(f"{self.name}: has no items; give at least one")
        images, annotations = [], []
        for index in range(count):
            item = self[index]
            height, width = item.size
            images.append({"id": index, "file_name": str(index), "height": height, "width": width})
            for box, label in zip(item.objects.boxes_xyxy.tolist(), item.objects.labels.tolist(), strict=True):
                left, top, right, bottom = box
                entry = {"id": len(annotations) + 1, "image_id": index, "category_id": self.categories.ids[label]}
                annotations.append(entry | {"bbox": [left, top, right - left, bottom - top], "iscrowd": 0})
        content = {"images": images, "annotations": annotations, "categories": self.categories.as_coco()}
        return CocoAnnotations.parse(content, path)


class ItemImages(CocoImages):
    """Images of a data set in memory, in the order of their annotations.

    Args:
        items: the data set.
        annotations: sizes and boxes at the first reading, of all items or of some.
        fixed: whether an item must stay as it was, as metrics require of validation images.
    """

    def __init__(self, items: Items, annotations: CocoAnnotations, *, fixed: bool) -> None:
        super().__init__(annotations.path.parent, annotations)
        self.items = items
        self.fixed = fixed
        self._held: dict[int, Item] = {}

    def snapshot(self) -> ItemImages:
        """Return images that fetch each item once, so that the image and the boxes of a sample fit each other."""
        fresh = copy.copy(self)
        fresh._held = {}
        return fresh

    def size(self, index: int) -> tuple[int, int]:
        """Return the height and width of an image in pixels."""
        return super().size(index) if self.fixed else self._item(index).size

    def objects(self, index: int) -> Objects:
        """Return the objects in an image."""
        return super().objects(index) if self.fixed else self._item(index).objects

    def read(self, index: int) -> Tensor:
        """Return an image ``[3, H, W]`` uint8."""
        return self._item(index).image

    def read_part(self, index: int, crop: Window, size: tuple[int, int]) -> Tensor:
        """Return a part of an image, resized to ``[3, *size]`` uint8."""
        left, top, width, height = crop
        return F.resize(F.crop(self._item(index).image, top, left, height, width), list(size), antialias=True)

    def check(self, index: int) -> None:
        """Do nothing: the first reading has checked every item."""

    def _item(self, index: int) -> Item:
        if index not in self._held:
            item = self.items[self.records[index].image_id]
            height, width = item.size
            boxes_xyxy = item.objects.boxes_xyxy.clip(0, [width, height, width, height]).astype(np.float32)
            objects = Objects(boxes_xyxy, item.objects.labels).at((boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(axis=1))
            if self.fixed and not self._is_as_before(index, item._replace(objects=objects)):
                raise InputError(
                    f"{self.items.name}, item {self.records[index].image_id}: has another size, other boxes or other "
                    "labels than at its first reading; metrics need data without random changes"
                )
            self._held[index] = item._replace(objects=objects)
        return self._held[index]

    def _is_as_before(self, index: int, item: Item) -> bool:
        before = super().objects(index)
        same = item.size == super().size(index) and np.array_equal(before.labels, item.objects.labels)
        return same and np.allclose(before.boxes_xyxy, item.objects.boxes_xyxy, atol=0.01)


def categories_of(classes: Sequence[str] | Mapping[int, str]) -> Categories:
    """Return the classes of a data set in memory: a list for labels from 0, or a mapping from label to name.

    Raises:
        InputError: ``classes`` is something else, or empty.
    """
    wanted = 'a list of names for labels from 0, such as ["cat", "dog"], or a mapping such as {1: "cat", 2: "dog"}'
    if isinstance(classes, str) or not isinstance(classes, (Sequence, Mapping)) or not classes:
        raise InputError(f"classes must be {wanted}, not {classes!r}")
    named = dict(classes) if isinstance(classes, Mapping) else dict(enumerate(classes))
    if not all(isinstance(name, str) and type(number) is int for number, name in named.items()):
        raise InputError(f"classes must be {wanted}, not {classes!r}")
    return Categories(tuple(sorted(named)), tuple(named[number] for number in sorted(named)))


def as_array(given: Any, where: str, name: str) -> ndarray:
    """Return a tensor of any device, an array or nested lists as an array.

    Raises:
        InputError: the rows differ in length, or the value is no array of numbers; the message begins with ``where``.
    """
    try:
        if isinstance(given, Tensor):
            given = given.detach().cpu()
            return (given.float() if given.dtype == torch.bfloat16 else given).numpy()  # numpy has no bfloat16
        if isinstance(given, (list, tuple)):  # boxes may be tensors themselves
            given = [one.detach().cpu().tolist() if isinstance(one, Tensor) else one for one in given]
        return np.asarray(given)
    except (TypeError, ValueError) as error:
        raise InputError(f'{where}: "{name}" is no array of numbers with rows of one length ({error})') from error


def _boxes(given: Any, where: str) -> ndarray:
    """Return boxes ``[N, 4]`` xyxy float64."""
    form = getattr(given, "format", None)  # of torchvision's BoundingBoxes
    if getattr(form, "value", "XYXY") != "XYXY":
        raise InputError(f'{where}: "boxes" are in the format {form.value}; convert them to corners, XYXY')
    boxes = as_array(given, where, "boxes")
    if boxes.dtype.kind not in "fiub":
        raise InputError(f'{where}: "boxes" must be numbers, not {boxes.dtype}')
    boxes = boxes.reshape(0, 4) if not boxes.size else boxes.astype(np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f'{where}: "boxes" must be [N, 4], left, top, right and bottom, not {list(boxes.shape)}')
    if not np.isfinite(boxes).all() or (boxes[:, 2:] < boxes[:, :2]).any():
        wrong = boxes[~(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] >= boxes[:, :2]).all(axis=1))][0]
        wanted = "left, top, right and bottom in pixels"
        raise InputError(f'{where}: "boxes" has {wrong.tolist()}, and must have {wanted}; correct or convert it')
    return boxes
