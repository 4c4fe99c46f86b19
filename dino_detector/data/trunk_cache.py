"""A disk cache of the frozen trunk's outputs.

The key of an entry contains everything that the entry depends on: the base's weights, its frozen layers, the precision,
input size and augmentation, the image file and its boxes. So no entry ever needs to be invalidated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from torch import Tensor

from dino_detector.data.coco.images import CocoImages
from dino_detector.data.dataset import CachedSample, Sample, SampleKey
from dino_detector.data.record_store import RecordStore

VERSION = 2
"""version of the format and of the augmentation's random draws; entries of other versions are not found"""


class TrunkCache:
    """Hidden states, boxes and labels of views of images, in the records of a folder.

    ``made_by`` holds JSON values of everything that hidden states depend on, except the image and its view.
    """

    def __init__(self, folder: Path, *, made_by: Mapping[str, Any]) -> None:
        self.store = RecordStore(folder)
        self.made_by = json.dumps({"version": VERSION, **made_by}, sort_keys=True)

    def key(self, images: CocoImages, index: int, view: str) -> str:
        """Return the key of an image in a view as hexadecimal digits; ``view`` identifies the view."""
        objects = images.objects(index)
        boxes = _digest(objects.boxes_xyxy.tobytes(), objects.labels.tobytes())
        return _digest(self.made_by.encode(), _file_state(images, index), boxes.encode(), view.encode())

    def __contains__(self, key: str) -> bool:
        return bytes.fromhex(key) in self.store

    def read(self, key: str) -> dict[str, Tensor] | None:
        """Return ``hidden``, ``boxes_cxcywh`` and ``labels`` of a `CachedSample`, or None if there is no entry."""
        contents = self.store.get(bytes.fromhex(key))
        return None if contents is None else safetensors.torch.load(contents)

    def write(self, key: str, *, hidden: Tensor, boxes_cxcywh: Tensor, labels: Tensor) -> None:
        """Store an entry with hidden states ``[M, 1+R+h*w, D]``; raise `OSError` if the disk is full."""
        entry = {"hidden": halved(hidden), "boxes_cxcywh": boxes_cxcywh, "labels": labels}
        contents = safetensors.torch.save({name: value.cpu().contiguous() for name, value in entry.items()})
        self.store.append(bytes.fromhex(key), contents)


@dataclass(eq=False)
class CachedView:
    """Returns the trunk's cached output for an image, or the image if the cache has none.

    Epochs cycle through a fixed number of views of each image.

    Attributes:
        view: makes the sample of a key from the image.
        cache: the cached outputs.
        shown: JSON of everything that the view of an image depends on, except the image and the key.
        view_id: returns a text that two keys of an image share only if their samples are equal.
        views: number of views of each image.
        no_augment_from: first epoch of plain views; an image has ``views`` plain views as well.
    """

    view: Callable[[CocoImages, SampleKey], Sample]
    _: KW_ONLY
    cache: TrunkCache
    shown: str
    view_id: Callable[[CocoImages, SampleKey], str]
    views: int
    no_augment_from: int

    def __call__(self, images: CocoImages, key: SampleKey) -> Sample | CachedSample:
        """Return the sample of a key; raise `InputError` if its image is needed and can't be read."""
        key = self.fixed(key)
        entry_key = self.entry_key(images, key)
        entry = self.cache.read(entry_key)
        if entry is None:
            sample = self.view(images, key)
            sample.entry_key = "" if sample.skipped else entry_key  # another image replaces a part of it
            return sample
        return CachedSample(**entry, image_id=images.records[key.index].image_id, original_size=images.size(key.index))

    def fixed(self, key: SampleKey) -> SampleKey:
        """Return the key of the view that an epoch shows; a repeated image shows the next view."""
        plain = key.epoch >= self.no_augment_from
        first, views = (self.no_augment_from, self.views) if plain else (0, min(self.views, self.no_augment_from))
        return key._replace(epoch=first + (key.epoch - first + key.repeat) % views, repeat=0)

    def entry_key(self, images: CocoImages, key: SampleKey) -> str:
        """Return the cache key of a fixed sample key."""
        return self.cache.key(images, key.index, f"{self.shown} {self.view_id(images, key)}")

    def views_shown(self, epochs: int, *, repeat: int = 0) -> list[int]:
        """Return for each epoch the first epoch that shows the same view; `SampleKey` describes ``repeat``."""
        return [self.fixed(SampleKey(epoch, 0, repeat)).epoch for epoch in range(epochs)]

    def seen_before(self, images: CocoImages, *, epochs: int) -> list[float]:
        """Return for each epoch the share of images whose entry an earlier epoch shows, estimated from 100 images."""
        indices = range(min(len(images), 100))
        counts = np.zeros(epochs)
        for index in indices:
            before: set[str] = set()
            for epoch, view in enumerate(self.views_shown(epochs)):
                key = self.entry_key(images, SampleKey(view, index))
                counts[epoch] += key in before
                before.add(key)
        return (counts / max(1, len(indices))).tolist()

    def entries(self, images: CocoImages, *, epochs: int, times: np.ndarray) -> list[str]:
        """Return the distinct cache keys of a run in which image i appears at most ``times[i]`` times per epoch."""
        shown = {
            most: {view for repeat in range(most) for view in self.views_shown(epochs, repeat=repeat)}
            for most in np.unique(times).tolist()
        }
        keys = (
            self.entry_key(images, SampleKey(view, index))
            for index, most in enumerate(times.tolist())
            for view in shown[most]
        )
        return list(dict.fromkeys(keys))


def halved(hidden: Tensor) -> Tensor:
    """Convert to float16, or to bfloat16 if a value is beyond the range of float16."""
    half = hidden.half()
    return half if bool(half.isfinite().all()) else hidden.bfloat16()


def digest_of(images: CocoImages) -> str:
    """Return a hash of a whole data set, for views that show parts of several images."""
    table = images.table
    boxes = (np.asarray(table.starts).tobytes(), table.boxes_xyxy.tobytes(), table.labels.tobytes())
    return _digest(*boxes, *(_file_state(images, index) for index in range(len(images))))


def _file_state(images: CocoImages, index: int) -> bytes:
    """Return the id, name, size and modification time of an image file; without the last two if it can't be read."""
    record = images.records[index]
    state: list[Any] = [record.image_id, record.file_name]
    try:
        found = (images.folder / record.file_name).stat()
        state += [found.st_size, found.st_mtime_ns]
    except OSError:  # reading the image reports the error
        pass
    return json.dumps(state).encode()


def _digest(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
        digest.update(b"\0")
    return digest.hexdigest()
