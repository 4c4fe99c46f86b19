"""Samples of a COCO data set, with augmentation that depends on nothing but the seed, the epoch and the image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from dino_detector.data.coco import CocoAnnotations
from dino_detector.data.images import read_image
from dino_detector.errors import InputError


class SampleKey(NamedTuple):
    """Which sample: the image at ``index``, augmented for ``epoch``."""

    epoch: int
    index: int


@dataclass
class Sample:
    """One image ready for the network, with its boxes in the same pixels.

    Attributes:
        image: ``[3, H, W]`` uint8 RGB.
        boxes_xyxy: ``[N, 4]`` float32 pixels of ``image``.
        labels: ``[N]`` int64 contiguous labels.
        image_id: id in the annotation file.
        original_size: ``(height, width)`` of the image before the transforms, in pixels.
        skipped: one line for each image that could not be read and that this one stands in for.
    """

    image: tv_tensors.Image
    boxes_xyxy: tv_tensors.BoundingBoxes
    labels: Tensor
    image_id: int
    original_size: tuple[int, int]
    skipped: tuple[str, ...]


class CocoDetection(Dataset[Sample]):
    """Images of a COCO data set in the order of the file, also those without annotations.

    Args:
        images_dir: folder that the file names are relative to.
        annotations: the annotation file; its crowd regions are not among the boxes.
        transforms: takes and returns a dict of ``image``, ``boxes`` and ``labels``, as torchvision's v2 transforms do.
        seed: seed of the augmentation.
        on_bad_image: an image that cannot be read is replaced by the next that can, or raises.
    """

    def __init__(
        self,
        *,
        images_dir: Path | str,
        annotations: CocoAnnotations,
        transforms: Callable[[dict[str, Any]], dict[str, Any]],
        seed: int,
        on_bad_image: Literal["skip", "raise"],
    ) -> None:
        self.images_dir = Path(images_dir)
        self.annotations_path = annotations.path
        self.records = annotations.images
        self.boxes = annotations.training
        self.transforms = transforms
        self.seed = seed
        self.on_bad_image = on_bad_image

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: SampleKey | int) -> Sample:
        """The sample of a key; a bare index is epoch 0.

        Raises:
            InputError: the image cannot be read and ``on_bad_image`` is "raise", or no image can be read.
        """
        epoch, index = key if isinstance(key, SampleKey) else SampleKey(0, key)
        skipped: list[str] = []
        for step in range(len(self)):
            candidate = (index + step) % len(self)
            try:
                image = self._read(candidate)
            except InputError as error:
                if self.on_bad_image == "raise":
                    raise
                skipped.append(str(error))
            else:
                return self._sample(image, candidate, epoch, tuple(skipped))
        raise InputError(f"{self.images_dir}: none of the {len(self)} images can be read; the first: {skipped[0]}")

    def check_readable(self) -> None:
        """Raise `InputError` for the first image that cannot be read. Decodes every one, on all cores."""
        with ThreadPoolExecutor() as pool:
            for _ in pool.map(self._read, range(len(self))):
                pass

    def _read(self, index: int) -> Tensor:
        record = self.records[index]
        try:
            return read_image(self.images_dir / record.file_name, expected_size=(record.height, record.width))
        except InputError as error:
            raise InputError(f"{error}, or remove image {record.image_id} from {self.annotations_path}") from error

    def _sample(self, image: Tensor, index: int, epoch: int, skipped: tuple[str, ...]) -> Sample:
        record = self.records[index]
        size = (record.height, record.width)
        boxes, labels = self.boxes.of(index)
        sample = {
            "image": tv_tensors.Image(image),
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
            "labels": labels,
        }
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also reseed the GPUs, which fork_rng does not restore here.
            torch.default_generator.manual_seed(augmentation_seed(self.seed, epoch, record.image_id))
            sample = self.transforms(sample)
        return Sample(sample["image"], sample["boxes"], sample["labels"], record.image_id, size, skipped)


def augmentation_seed(seed: int, epoch: int, image_id: int) -> int:
    """A 64-bit seed that differs with each of the three numbers."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{epoch}/{image_id}".encode(), digest_size=8).digest(), "little")
