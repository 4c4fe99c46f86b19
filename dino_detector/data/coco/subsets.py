"""Subsets of a data set that anyone can select again: by size, seed and image ids alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.errors import InputError
from dino_detector.storage.files import read_json, write_whole

FORMAT = 1


@dataclass(frozen=True)
class Source:
    """What a subset was selected from, so that it is not taken for a subset of something else.

    Attributes:
        file: name of the annotation file, for messages; a copy of another name is the same source.
        images: number of its images.
        annotations: number of its annotations, crowds too.
        sha256: of the ids and names of the images, the ids and names of the categories, and of each annotation the
            image, the category and the box. The order in the file does not count.
    """

    file: str
    images: int
    annotations: int
    sha256: str

    @classmethod
    def of(cls, annotations: CocoAnnotations) -> Source:
        """Of checked annotations."""
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


@dataclass(frozen=True)
class Subset:
    """Some images of a split.

    Attributes:
        name: what it is, such as ``coco_mini_1k_seed42``; names its file.
        split: ``train``, ``val`` or ``test``.
        size: as its setting gives it, such as ``1k``; the file is known by it again.
        seed: of the selection.
        image_ids: ascending.
        source: what it was selected from; None for images without annotations.
        boxes: number of boxes to train on of each class by name, with those that have none.
    """

    name: str
    split: str
    size: str
    seed: int
    image_ids: tuple[int, ...]
    source: Source | None = None
    boxes: dict[str, int] | None = None

    @classmethod
    def of(
        cls, part: CocoAnnotations, whole: CocoAnnotations, *, name: str, split: str, size: str, seed: int
    ) -> Subset:
        """The images of ``part``, which have been selected from ``whole``."""
        chosen = tuple(sorted(part.images.ids.tolist()))
        boxes = dict(zip(part.categories.distinct_names, class_counts(part).tolist(), strict=True))
        return cls(name, split, size, seed, chosen, Source.of(whole), boxes)

    @property
    def file_name(self) -> str:
        """``NAME_indices.json``; of validation images ``NAME_val_indices.json``."""
        return f"{self.name}{'_val' if self.split == 'val' else ''}_indices.json"

    def write(self, folder: Path) -> Path:
        """Write the file that reproduces this subset; returns its path."""
        content: dict[str, Any] = {
            "format": FORMAT,
            "name": self.name,
            "split": self.split,
            "size": self.size,
            "seed": self.seed,
            "source": None if self.source is None else vars(self.source),
            "boxes": self.boxes,
        }
        head = json.dumps({key: value for key, value in content.items() if value is not None}, indent=1)
        path = folder / self.file_name
        write_whole(path, f'{head[:-2]},\n "image_ids": {json.dumps(self.image_ids)}\n}}\n')
        return path

    @classmethod
    def read(cls, path: Path) -> Subset:
        """Read a file that `write` wrote.

        Raises:
            InputError: the file is missing, is no such file, or was damaged.
        """

        def fail(problem: str) -> NoReturn:
            raise InputError(f"{path}: {problem}; correct --coco_mini_indices_file, or leave it out to select anew")

        try:
            content = read_json(path)
        except FileNotFoundError:
            fail("no such indices file")
        except (OSError, ValueError) as error:
            fail(f"not a readable indices file ({error})")
        kinds = {"name": str, "split": str, "size": str, "seed": int, "source": dict, "image_ids": list}
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            fail("not an indices file of a subset")
        for key, kind in kinds.items():
            if type(content.get(key)) is not kind:
                fail(f"its {key!r} is missing or damaged")
        source, ids = content["source"], content["image_ids"]
        if source.keys() != Source.__dataclass_fields__.keys():
            fail("its 'source' is missing or damaged")
        if not ids or any(type(image_id) is not int for image_id in ids) or ids != sorted(set(ids)):
            fail("its 'image_ids' are not ascending whole numbers")
        return cls(content["name"], content["split"], content["size"], content["seed"], tuple(ids), Source(**source))

    def require_source(self, annotations: CocoAnnotations, *, path: Path, split: str) -> None:
        """Raise `InputError`, naming the mismatch, unless the subset was made from these annotations.

        Args:
            annotations: what it is to be used on.
            path: its file, for the message.
            split: which part of the data the annotations are.
        """
        found = Source.of(annotations)
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
                f"was made from, or leave it out to select anew"
            )


def select(image_ids: Iterable[int], *, size: int, seed: int) -> tuple[int, ...]:
    """``size`` of the ids, ascending; for one seed a smaller selection lies within every larger one.

    Ids are ranked by a hash of the seed and the id, so the order of the file, the Python version and the platform do
    not matter, and an image that is added to the data set displaces at most one other.
    """

    def rank(image_id: int) -> bytes:
        return hashlib.blake2b(f"{seed}/{image_id}".encode(), digest_size=16).digest()

    ids = sorted(image_ids)
    assert size <= len(ids)
    return tuple(sorted(sorted(ids, key=rank)[:size]))


def class_counts(annotations: CocoAnnotations) -> np.ndarray:
    """Boxes to train on of each class, ``[C]`` int64."""
    return np.bincount(annotations.training.labels, minlength=len(annotations.categories))


def class_balance(whole: CocoAnnotations, part: CocoAnnotations) -> str:
    """One line on the classes of a subset: how many are there, and how far their shares are from those of the whole.

    The distance is the total variation of the two distributions of boxes over classes: the share of boxes, 0 to 1,
    that would have to change class to make them equal.
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
