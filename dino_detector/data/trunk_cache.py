"""What the frozen trunk makes of images, kept on disk: which entry belongs to which view, and how it is stored.

An entry is found again only where everything that it depends on is the same: the base's weights, its frozen layers,
the precision, input size and augmentation, the image file and the boxes in it. All of that is in its key, so there is
nothing to invalidate.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from torch import Tensor

from dino_detector.data.coco.images import CocoImages
from dino_detector.data.dataset import CachedSample, Sample, SampleKey
from dino_detector.data.record_store import RecordStore

VERSION = 2
"""of the format, and of what augmentation draws from a seed; entries of another version are not found"""


class TrunkCache:
    """Entries by key: hidden states, boxes and labels of a view of an image.

    Args:
        folder: of the records.
        made_by: all that hidden states depend on beside the image and how it is shown, as JSON knows it.
    """

    def __init__(self, folder: Path, *, made_by: Mapping[str, Any]) -> None:
        self.store = RecordStore(folder)
        self.made_by = json.dumps({"version": VERSION, **made_by}, sort_keys=True)

    def key(self, images: CocoImages, index: int, view: str) -> str:
        """Of the entry of an image, shown in a way that ``view`` tells apart from all others, in hexadecimal digits."""
        record, objects = images.records[index], images.objects(index)
        boxes = hashlib.blake2b(objects.boxes_xyxy.tobytes() + objects.labels.tobytes(), digest_size=16).hexdigest()
        image = [record.image_id, record.file_name, *_state_of(images.folder / record.file_name), boxes]
        return _digest(self.made_by, json.dumps(image), view)

    def __contains__(self, key: str) -> bool:
        return bytes.fromhex(key) in self.store

    def read(self, key: str) -> dict[str, Tensor] | None:
        """An entry, or None: ``hidden``, ``boxes_cxcywh`` and ``labels`` of a `CachedSample`."""
        contents = self.store.get(bytes.fromhex(key))
        return None if contents is None else safetensors.torch.load(bytes(contents))

    def write(self, key: str, *, hidden: Tensor, boxes_cxcywh: Tensor, labels: Tensor) -> None:
        """Store an entry, with hidden states ``[M, 1+R+h*w, D]``; raises `OSError` where the disk is full."""
        entry = {"hidden": halved(hidden), "boxes_cxcywh": boxes_cxcywh, "labels": labels}
        contents = safetensors.torch.save({name: value.cpu().contiguous() for name, value in entry.items()})
        self.store.append(bytes.fromhex(key), contents)


class CachedView:
    """Shows what the trunk made of an image where the cache has it, and elsewhere the image.

    Epochs show a fixed number of views in turn: augmentation, which draws by the epoch, draws for as many epochs only.

    Args:
        view: makes the sample of a key from the image.
        cache: of what the trunk made of them.
        shown: all that the view of an image depends on beside the image and the key.
        view_id: a text for each key of an image, the same for those that show the same.
        views: of each image.
        plain_from: the epoch from which on images are shown in another way, in as many views again.
    """

    def __init__(
        self,
        view: Callable[[CocoImages, SampleKey], Sample],
        *,
        cache: TrunkCache,
        shown: Mapping[str, Any],
        view_id: Callable[[CocoImages, SampleKey], str],
        views: int,
        plain_from: int,
    ) -> None:
        self.view = view
        self.cache = cache
        self.shown = json.dumps(dict(shown), sort_keys=True)
        self.view_id = view_id
        self.views = views
        self.plain_from = plain_from

    def __call__(self, images: CocoImages, key: SampleKey) -> Sample | CachedSample:
        """The sample of a key; raises `InputError` where its image is needed and can't be read."""
        key = self.fixed(key)
        entry_key = self.entry_key(images, key)
        entry = self.cache.read(entry_key)
        if entry is None:
            sample = self.view(images, key)
            sample.entry_key = "" if sample.skipped else entry_key  # where another image stands in for one of its parts
            return sample
        return CachedSample(**entry, image_id=images.records[key.index].image_id, original_size=images.size(key.index))

    def fixed(self, key: SampleKey) -> SampleKey:
        """The key whose view an epoch shows; an image that comes again in an epoch shows the next."""
        plain = key.epoch >= self.plain_from
        first, views = (self.plain_from, self.views) if plain else (0, min(self.views, self.plain_from))
        return key._replace(epoch=first + (key.epoch - first + key.repeat) % views, repeat=0)

    def entry_key(self, images: CocoImages, key: SampleKey) -> str:
        """Of the entry of a fixed key."""
        return self.cache.key(images, key.index, f"{self.shown} {self.view_id(images, key)}")

    def views_shown(self, epochs: int, *, repeat: int = 0) -> list[int]:
        """Of each epoch of a run the view that it shows, as a number: the first epoch that shows it.

        ``repeat`` counts how often an image has come in the epoch before.
        """
        return [self.fixed(SampleKey(epoch, 0, repeat)).epoch for epoch in range(epochs)]

    def seen_before(self, images: CocoImages, *, epochs: int) -> list[float]:
        """Of each epoch of a run the share of its images whose entry an earlier one shows, estimated from a few."""
        shown = self.views_shown(epochs)
        counts = np.zeros(epochs)
        some = range(min(len(images), 100))
        for index in some:
            keys = {view: self.entry_key(images, SampleKey(view, index)) for view in set(shown)}
            before: set[str] = set()
            for epoch, view in enumerate(shown):
                counts[epoch] += keys[view] in before
                before.add(keys[view])
        return (counts / max(1, len(some))).tolist()

    def entries(self, images: CocoImages, *, epochs: int, times: np.ndarray) -> list[str]:
        """The keys of all entries of a run, each once, whose images come at most so many ``times`` ``[I]`` an epoch."""
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
    """In float16, or in bfloat16 where a value is beyond its range."""
    half = hidden.half()
    return half if bool(half.isfinite().all()) else hidden.bfloat16()


def digest_of(images: CocoImages) -> str:
    """Of a whole data set, for views that show parts of several images."""
    states = [
        (record.image_id, record.file_name, *_state_of(images.folder / record.file_name)) for record in images.records
    ]
    table = images.table
    boxes = hashlib.blake2b(np.asarray(table.starts).tobytes() + table.boxes_xyxy.tobytes() + table.labels.tobytes())
    return _digest(json.dumps(states), boxes.hexdigest())


def _state_of(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change of a file; zeros where it can't be read, which its reader reports."""
    try:
        state = path.stat()
    except OSError:
        return 0, 0
    return state.st_size, state.st_mtime_ns


def _digest(*texts: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()
