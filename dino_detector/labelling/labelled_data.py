"""All labelled images of a data set as one set, with the split and the ids that each label has in the files."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.formats.reading import FORMATS
from dino_detector.data.layouts import find_sources
from dino_detector.structures.categories import Categories, check_categories


@dataclass(frozen=True)
class LabelledSplit:
    """One split of a data set; file names are relative to ``folder``."""

    name: str
    folder: Path
    annotations: CocoAnnotations


@dataclass(frozen=True)
class LabelledData:
    """The labelled splits of a data set.

    Attributes:
        path: the data set that the user named.
        splits: the splits that have annotations, train first. All have the same classes.
        categories: the classes.
    """

    path: Path
    splits: tuple[LabelledSplit, ...]
    categories: Categories

    @classmethod
    def read(cls, data: Path) -> LabelledData:
        """Read every split of a data set in the format of any labelling tool.

        Raises:
            InputError: there are no annotations, a file is wrong or missing, or the classes of two splits differ.
        """
        splits: list[LabelledSplit] = []
        for source in find_sources(data):
            annotations, folder = CocoAnnotations.read_found(source, data)
            split = LabelledSplit(source.name, folder, annotations.with_files(folder))
            if splits:
                known = splits[0].annotations
                if not FORMATS[source.format].has_class_ids:
                    split = replace(split, annotations=split.annotations.numbered_like(known.categories))
                found = split.annotations
                check_categories(found.categories, known=known.categories, source=found.path, known_source=known.path)
            splits.append(split)
        return cls(data, tuple(splits), splits[0].annotations.categories)

    @property
    def folder(self) -> Path:
        """The deepest folder that holds the images of all splits."""
        return Path(os.path.commonpath([split.folder.resolve() for split in self.splits]))

    def joined(self) -> JoinedData:
        """Return the images and labels of all splits under new ids."""
        root, rows, labels, origins = self.folder, [], [], []
        for split in self.splits:
            place = split.folder.resolve().relative_to(root)
            table, truth = split.annotations.images, split.annotations.ground_truth
            first = len(rows)
            number = {image_id: first + row + 1 for row, image_id in enumerate(table.ids.tolist())}
            rows += [(place / record.file_name, record.height, record.width) for record in table]
            origins += [(split.name, image_id) for image_id in table.ids.tolist()]
            for entry in truth["annotations"]:
                new = {"id": len(labels) + 1, "image_id": number[entry["image_id"]], "original_id": entry["id"]}
                labels.append(entry | new)
        images = [
            {"id": row + 1, "file_name": name.as_posix(), "height": height, "width": width}
            for row, (name, height, width) in enumerate(rows)
        ]
        return JoinedData(root, images, labels, self.splits[0].annotations.categories, tuple(origins))


@dataclass(frozen=True)
class JoinedData:
    """Images and labels of several splits, in COCO's entries.

    Attributes:
        folder: folder of the images.
        images: COCO image entries; ids count from 1.
        labels: COCO annotation entries, with ``original_id``; ids count from 1. Crowd regions are among them.
        categories: the classes.
        origins: split and image id in its file, of each image.
    """

    folder: Path
    images: list[dict[str, Any]]
    labels: list[dict[str, Any]]
    categories: Categories
    origins: tuple[tuple[str, int], ...]

    def part(self, chosen: np.ndarray) -> dict[str, Any]:
        """Return the content of a COCO file with the images of a mask ``[I]`` and their labels."""
        images = [image for image, is_in in zip(self.images, chosen.tolist(), strict=True) if is_in]
        ids = {image["id"] for image in images}
        labels = [
            {name: value for name, value in label.items() if name != "original_id"}
            for label in self.labels
            if label["image_id"] in ids
        ]
        return {"images": images, "annotations": labels, "categories": self.categories.as_coco()}
