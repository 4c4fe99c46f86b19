"""The numbers of a data set and of a machine that a recommendation rests on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from dino_detector.data.coco.columns import Split
from dino_detector.data_check.boxes import fingerprints
from dino_detector.data_check.classes import FEW_BOXES
from dino_detector.data_check.patches import PatchGrid

GIB = 2**30


class Hardware(NamedTuple):
    """The machine of a run.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``.
        name: name of the device for people.
        memory: bytes of the GPU, or of the machine if it trains on the processor.
        cores: processor cores that this process may use.
        precision: ``32``, ``bf16`` or ``16``, the precision of a run on this device.
        free_disk: bytes that are free in the current folder.
    """

    device: str
    name: str
    memory: int
    cores: int
    precision: str
    free_disk: int

    def __str__(self) -> str:
        cores = f"{self.cores} core{'s' * (self.cores != 1)}"
        return f"{self.name}, {cores}, {self.memory / GIB:.1f} GiB, precision {self.precision}"


class RareClass(NamedTuple):
    """The class with the fewest boxes: its name, the share of images that have it, and boxes of the largest class
    divided by its boxes.
    """

    name: str
    image_share: float
    imbalance: float


@dataclass(frozen=True)
class Facts:
    """Numbers of a data set: of its training split, and of the ``labelled`` splits of a run, the training split too.

    ``names`` are the names of all splits, unreadable and unlabelled ones too.
    """

    train: Split
    labelled: Sequence[Split]
    names: frozenset[str] = frozenset()

    @cached_property
    def images(self) -> int:
        """Number of training images."""
        return len(self.train.images.ids)

    @cached_property
    def val_images(self) -> int:
        """Number of validation images."""
        return sum(len(split.images.ids) for split in self.labelled if split.name == "val")

    @cached_property
    def classes(self) -> int:
        """Number of classes with a training box."""
        return len(np.unique(self.train.boxes.category[self.train.trained]))

    @cached_property
    def most_boxes(self) -> int:
        """Most objects in an image of a labelled split."""
        return max(_largest_count(split.boxes.image[split.trained]) for split in self.labelled)

    @cached_property
    def most_of_a_class(self) -> int:
        """Most objects of one class in an image of a labelled split."""
        return max(
            _largest_count(fingerprints(split.boxes.image[rows], split.boxes.category[rows]))
            for split in self.labelled
            for rows in [split.trained]
        )

    @cached_property
    def aspects(self) -> np.ndarray:
        """``[K]`` width divided by height of each training image of known size."""
        sizes = self.train.images.sizes
        with np.errstate(invalid="ignore", divide="ignore"):
            aspects = sizes[:, 0] / sizes[:, 1]
        return aspects[np.isfinite(aspects) & (aspects > 0)]

    def sides(self, grid: PatchGrid) -> np.ndarray:
        """Return the side ``[N]`` of each training box in patches, the square root of its area after the resize."""
        sides = grid.sides(self.train)[self.train.trained]
        return sides[np.isfinite(sides)]

    def share_below_patch(self, grid: PatchGrid) -> float:
        """Return the share of the training boxes with a side below one patch."""
        return float((self.sides(grid) < 1).mean())

    @cached_property
    def small_side(self) -> float:
        """Side in pixels of the image, the square root of the area, below which 5 % of the training boxes are."""
        xyxy = self.train.clipped_xyxy[self.train.trained]
        return float(np.quantile(np.sqrt((xyxy[:, 2:] - xyxy[:, :2]).prod(axis=1)), 0.05))

    @cached_property
    def rare_class(self) -> RareClass | None:
        """The rarest class of `FEW_BOXES` boxes or more; None with fewer than two such classes."""
        rows, split = self.train.trained, self.train
        boxes = np.bincount(split.boxes.category[rows], minlength=len(split.categories.ids))
        enough = np.flatnonzero(boxes >= FEW_BOXES)
        if len(enough) < 2:
            return None
        rarest = enough[boxes[enough].argmin()]
        share = len(np.unique(split.boxes.image[rows & (split.boxes.category == rarest)])) / self.images
        return RareClass(split.categories.names[rarest], share, boxes.max() / boxes[rarest])


def find_hardware(device: str = "auto", precision: str = "auto") -> Hardware:
    """Return the facts of this machine; ``device`` and ``precision`` are the settings of a run.

    Raises:
        InputError: the machine lacks the device, or the device does not support the precision.
    """
    import torch

    from dino_detector.models.device import resolve_device, resolve_precision

    found = resolve_device(device)
    name, memory = "the processor", psutil.virtual_memory().total
    if found.type == "cuda":
        properties = torch.cuda.get_device_properties(found)
        name, memory = properties.name, properties.total_memory
    elif found.type == "mps":
        name, memory = "Apple's GPU", torch.mps.recommended_max_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    precision = resolve_precision(precision, found)
    return Hardware(found.type, name, memory, cores, precision, shutil.disk_usage(Path.cwd()).free)


def _largest_count(values: np.ndarray) -> int:
    return int(np.unique(values, return_counts=True)[1].max(initial=0))
