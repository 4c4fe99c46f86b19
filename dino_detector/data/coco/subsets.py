"""Subsets of a data set that can be reproduced from size, seed and image ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct

from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.errors import InputError
from dino_detector.storage.files import parse_json, write_whole


class SubsetSource(Struct, frozen=True):
    """The data set that a subset was selected from.

    Attributes:
        file: name of the annotation file, for messages; a copy with another name is the same source.
        images: number of its images.
        annotations: number of its annotations, crowds too.
        sha256: hash of the ids and names of images and categories, and of the image, category and box of each
            annotation. The order in the file does not matter.
    """

    file: str
    images: int
    annotations: int
    sha256: str

    @classmethod
    def of(cls, annotations: CocoAnnotations) -> SubsetSource:
        """Describe checked annotations."""
        images, entries = annotations.images, annotations.entries
        category_ids = np.array(annotations.categories.ids, "<i8")
        ids = np.stack([images.ids[entries.image_indices], category_ids[entries.labels]], axis=1).astype("<i8")
        boxes = entries.boxes_xywh.astype("<f8")
        order = np.lexsort((*boxes.T[::-1], *ids.T[::-1]))
        names = sorted(zip(images.ids.tolist(), images.file_names, strict=True))
        classes = list(zip(annotations.categories.ids, annotations.categories.names, strict=True))
        digest = hashlib.sha256(json.dumps([names, classes]).encode())
        digest.update(ids[order].tobytes())
        digest.update(boxes[order].tobytes())
        return cls(annotations.path.name, len(images), len(entries), digest.hexdigest())


class Subset(Struct, frozen=True):
    """Some images of a split.

    Attributes:
        name: name such as ``coco_mini_1k_seed42``, also of its file.
        split: ``train``, ``val`` or ``test``.
        size: size as in the setting, such as ``1k``.
        seed: seed of the selection.
        image_ids: ascending ids.
        source: the whole data set; None for images without annotations.
        boxes: number of boxes to train on by class name, also 0.
        format: version of the file.
    """

    name: str
    split: str
    size: str
    seed: int
    image_ids: tuple[int, ...]
    source: SubsetSource | None = None
    boxes: dict[str, int] | None = None
    format: Literal[1] = 1

    @classmethod
    def of(
        cls, part: CocoAnnotations, whole: CocoAnnotations, *, name: str, split: str, size: str, seed: int
    ) -> Subset:
        """Describe the images of ``part``, which were selected from ``whole``."""
        chosen = tuple(sorted(part.images.ids.tolist()))
        boxes = dict(zip(part.categories.distinct_names, class_counts(part).tolist(), strict=True))
        return cls(name, split, size, seed, chosen, SubsetSource.of(whole), boxes)

    @property
    def file_name(self) -> str:
        """``NAME_indices.json``, or ``NAME_val_indices.json`` for validation images."""
        return f"{self.name}{'_val' if self.split == 'val' else ''}_indices.json"

    def write(self, folder: Path) -> Path:
        """Write the file that reproduces this subset; return its path."""
        content = {key: value for key, value in msgspec.to_builtins(self).items() if value is not None}
        ids = json.dumps(content.pop("image_ids"))
        path = folder / self.file_name
        write_whole(path, f'{json.dumps(content, indent=1)[:-2]},\n "image_ids": {ids}\n}}\n')
        return path

    @classmethod
    def read(cls, path: Path) -> Subset:
        """Read a file of `write`.

        Raises:
            InputError: the file is missing, damaged or of another kind.
        """
        try:
            subset = msgspec.convert(parse_json(path.read_bytes()), cls)
            if subset.source is None:
                raise ValueError("it has no `source`")
            if not subset.image_ids or list(subset.image_ids) != sorted(set(subset.image_ids)):
                raise ValueError("its `image_ids` do not ascend")
        except (OSError, ValueError) as error:
            reason = "no such indices file" if isinstance(error, FileNotFoundError) else f"no indices file ({error})"
            raise InputError(
                f"{path}: {reason}; correct --coco_mini_indices_file, or leave it out to select new images"
            ) from None
        return subset

    def require_source(self, annotations: CocoAnnotations, *, path: Path, split: str) -> None:
        """Raise `InputError`, naming the mismatch, unless the subset was made from these annotations.

        Args:
            annotations: the annotations to use the subset on.
            path: the file of the subset, for the message.
            split: the split of the annotations.
        """
        found = SubsetSource.of(annotations)
        mismatch = None
        if self.split != split:
            mismatch = f"of the {self.split} split, but this is the {split} split"
        elif self.source.images != found.images:
            mismatch = f"of {self.source.images:,} images, but here are {found.images:,}"
        elif self.source.annotations != found.annotations:
            mismatch = f"with {self.source.annotations:,} annotations, but here are {found.annotations:,}"
        elif absent := set(self.image_ids) - set(annotations.images.ids.tolist()):
            mismatch = f"with an image {min(absent)}, which is not here"
        elif self.source.sha256 != found.sha256:
            mismatch = "of as many images and annotations, but images, categories or boxes differ"
        if mismatch:
            raise InputError(
                f"{path}: was made from {self.source.file} {mismatch} ({annotations.path}); give the annotations it "
                f"was made from, or leave it out to select new images"
            )


def select(image_ids: Iterable[int], *, size: int, seed: int) -> tuple[int, ...]:
    """Select ``size`` ids, ascending; with one seed a smaller selection is part of every larger one.

    Ids are ranked by a hash of the seed and the id, so the order of the file, the Python version and the platform do
    not matter, and a new image in the data set displaces at most one other.
    """

    def rank(image_id: int) -> bytes:
        return hashlib.blake2b(f"{seed}/{image_id}".encode(), digest_size=16).digest()

    ids = sorted(image_ids)
    assert size <= len(ids)
    return tuple(sorted(sorted(ids, key=rank)[:size]))


def class_counts(annotations: CocoAnnotations) -> np.ndarray:
    """Return the number of boxes to train on of each class, ``[C]`` int64."""
    return np.bincount(annotations.training.labels, minlength=len(annotations.categories))


def class_balance(whole: CocoAnnotations, part: CocoAnnotations) -> str:
    """Describe the classes of a subset in one line: their number, and how far their shares differ from the whole.

    The distance is the total variation of the two distributions of boxes over classes: the share of boxes, 0 to 1,
    that would have to change class to make the distributions equal.
    """
    names = whole.categories.shown
    all_counts, counts = class_counts(whole), class_counts(part)
    boxes = int(counts.sum())
    if boxes == 0:
        return "no boxes"
    shares, all_shares = counts / boxes, all_counts / all_counts.sum()
    present, there = int((counts > 0).sum()), int((all_counts > 0).sum())
    most = int(np.argmax(counts))
    missing = [names[label] for label in np.flatnonzero((counts == 0) & (all_counts > 0))]
    listed = f" (none of {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''})" if missing else ""
    return (
        f"{boxes:,} boxes of {present} of {there} classes{listed}; most are {names[most]} with {shares[most]:.1%}, "
        f"{all_shares[most]:.1%} in the whole; class shares differ by {np.abs(shares - all_shares).sum() / 2:.1%}"
    )
