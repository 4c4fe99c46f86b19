"""The data set of the network: samples of COCO images by key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.ops import box_convert

from dino_detector.config import ImageSize
from dino_detector.data.coco.images import CocoImages, first_readable
from dino_detector.data.windows import ResizeMode, map_window, resize_to_input, whole_window
from dino_detector.errors import InputError

SKIPS = ", or leave it out of the evaluation with --skip_unreadable"
"""a remedy for an unreadable image of an evaluation"""


class SampleKey(NamedTuple):
    """Key of a sample: the image at ``index`` of the annotation file, augmented for ``epoch``, from 0.

    ``repeat`` is the number of earlier appearances of this image in the epoch. ``image_size`` is the input size of
    augmented views; views of whole images have a fixed size.
    """

    epoch: int
    index: int
    repeat: int = 0
    image_size: ImageSize | None = None


@dataclass
class Sample:
    """One image at the size of the network's input, with its boxes in the same pixels.

    Attributes:
        image: ``[3, H, W]`` uint8 RGB.
        boxes_xyxy: ``[N, 4]`` float32 pixels of ``image``.
        labels: ``[N]`` int64 contiguous labels.
        image_id: id in the annotation file.
        original_size: ``(height, width)`` of the image before it is resized, in pixels.
        skipped: one line for each unreadable image that another image replaces.
        entry_key: key under which the trunk cache stores the trunk's output; empty to store nothing.
    """

    image: Tensor
    boxes_xyxy: Tensor
    labels: Tensor
    image_id: int
    original_size: tuple[int, int]
    skipped: tuple[str, ...] = ()
    entry_key: str = ""

    @property
    def boxes_cxcywh(self) -> Tensor:
        """Boxes ``[N, 4]``, centre and size as fractions of ``image``."""
        height, width = self.image.shape[-2:]
        return box_convert(self.boxes_xyxy, "xyxy", "cxcywh") / torch.tensor([width, height, width, height])


@dataclass
class CachedSample:
    """A sample with the trunk's output in place of the pixels; `Sample` describes the other attributes.

    Attributes:
        hidden: ``[M, 1+R+h*w, D]`` half precision, the outputs of M trunk layers in ascending order.
    """

    hidden: Tensor
    boxes_cxcywh: Tensor
    labels: Tensor
    image_id: int
    original_size: tuple[int, int]
    skipped: tuple[str, ...] = ()


def full_size_sample(images: CocoImages, key: SampleKey) -> Sample:
    """Return the whole image of a key in its original size; raise `InputError` if the image can't be read."""
    objects = images.objects(key.index)
    return Sample(
        image=images.read(key.index),
        boxes_xyxy=torch.tensor(objects.boxes_xyxy),
        labels=torch.tensor(objects.labels),
        image_id=images.records[key.index].image_id,
        original_size=images.size(key.index),
    )


@dataclass(frozen=True)
class WholeImages:
    """Makes samples of whole images at the size of the network's input."""

    image_size: ImageSize
    resize_mode: ResizeMode

    def __call__(self, images: CocoImages, key: SampleKey) -> Sample:
        """Return the sample of a key; raise `InputError` if the image can't be read."""
        sample = full_size_sample(images, key)
        size, place = sample.original_size, whole_window(self.image_size)
        piece = map_window(whole_window(size), size, place=place, resize_mode=self.resize_mode)
        return replace(
            sample,
            image=resize_to_input(sample.image, image_size=self.image_size, resize_mode=self.resize_mode),
            boxes_xyxy=torch.from_numpy(piece.move(sample.boxes_xyxy.numpy())),
        )


@dataclass(eq=False)
class CocoDetection(Dataset[Sample | CachedSample]):
    """A map-style data set of samples by key.

    Attributes:
        view: makes the sample of a key, and raises `InputError` if its image can't be read.
        on_bad_image: "skip" replaces an unreadable image by the next readable one; "raise" raises `InputError`.
    """

    images: CocoImages
    _: KW_ONLY
    view: Callable[[CocoImages, SampleKey], Sample | CachedSample]
    on_bad_image: Literal["skip", "raise"]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey | int) -> Sample | CachedSample:
        """Return the sample of a key or of an index; raise `InputError` if an image, or every image, can't be read."""
        key = key if isinstance(key, SampleKey) else SampleKey(0, key)
        images = self.images.snapshot()
        if self.on_bad_image == "raise":
            try:
                return self.view(images, key)
            except InputError as error:
                raise InputError(f"{error}{SKIPS}") from error
        skipped: list[str] = []
        sample = first_readable(images, key.index, lambda index: self.view(images, key._replace(index=index)), skipped)
        return replace(sample, skipped=(*skipped, *sample.skipped))

    def check_readable(self) -> None:
        """Raise `InputError` for the first image that can't be read; decodes every image, on all cores."""
        for reason in self._problems():
            if reason is not None:
                raise InputError(f"{reason}{SKIPS}")

    def unreadable(self) -> dict[int, str]:
        """Return the index of each image that can't be read, and the reason; decodes every image, on all cores."""
        return {index: reason for index, reason in enumerate(self._problems()) if reason is not None}

    def _problems(self) -> Iterator[str | None]:
        """Yield the reason why an image can't be read, or None, image by image."""

        def problem(index: int) -> str | None:
            try:
                self.images.check(index)
            except InputError as error:
                return str(error)

        with ThreadPoolExecutor() as pool:
            yield from pool.map(problem, range(len(self)))
