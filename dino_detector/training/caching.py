"""The trunk cache of a run: keys of its entries, its plan, and the computation of missing entries."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dino_detector.config import Config
from dino_detector.data.augmentation.pipeline import Augmentation
from dino_detector.data.coco.images import CocoImages
from dino_detector.data.dataset import CocoDetection, Sample, SampleKey
from dino_detector.data.loading import Batch
from dino_detector.data.trunk_cache import CachedView, TrunkCache, digest_of, halved
from dino_detector.download.disk import as_size, require_space
from dino_detector.errors import InputError
from dino_detector.inference.detector import Detector
from dino_detector.models.dinov2_backbone import Tokens
from dino_detector.plain_text import counted
from dino_detector.storage.output_folder import make_output_dir

log = logging.getLogger(__name__)

MIN_HIT_RATE = 0.25
"""fraction of an epoch's images that must be in the cache before the cache saves time"""

View = Callable[[CocoImages, SampleKey], Sample]


class TrunkCaching:
    """Read and fill the trunk cache of a run, in the precision ``32``, ``bf16`` or ``16``.

    Raises:
        InputError: No layer is frozen, no image is seen twice, or the folder is not writable.
    """

    def __init__(self, config: Config, detector: Detector, *, precision: str) -> None:
        backbone = detector.backbone
        self.config = config
        self.folder: Path = config.cache.cache_trunk
        if detector.header.base_fingerprint is None:
            raise InputError(
                "cache_trunk caches the output of frozen layers of a pretrained backbone, and this run has none; "
                "leave it out, or give --train_backbone lora or none and a number of --lora_layers"
            )
        if not backbone.trunk_depth:
            raise InputError(
                f"cache_trunk caches the output of frozen layers, and all {backbone.depth} layers of "
                f"{config.backbone.dino_model!r} have adapters; leave it out, or give fewer than {backbone.depth} "
                "--lora_layers, or --train_backbone none"
            )
        if config.augmentation.augmentation and config.augmentation.multi_scale:
            raise InputError(
                "multi_scale shows no image twice in the same size, which cache_trunk needs; give one only"
            )
        make_output_dir(self.folder, flag="--cache_trunk")
        self.backbone = backbone
        last = backbone.trunk_depth - 1
        self.layers = sorted({layer for layer in backbone.feature_layers if layer < last} | {last})
        height, width = config.data.image_size
        self.grid = (height // backbone.patch_size, width // backbone.patch_size)
        self.cache = TrunkCache(
            self.folder,
            made_by={
                "base": detector.header.base_fingerprint,
                "layers": self.layers,
                "precision": precision,
                "image_size": list(config.data.image_size),
                "normalisation": [detector.header.mean, detector.header.std],
                "white_level": config.data.white_level,
            },
        )
        self._disk_full = False

    def training_view(self, view: View, images: CocoImages) -> CachedView:
        """Return the cached view of training images; an `Augmentation` gets a fixed number of views."""
        settings = self.config.augmentation
        if not isinstance(view, Augmentation):
            return self.whole_view(view)
        shown = dataclasses.asdict(settings)
        for name in ("multi_scale", "no_augment_fraction", "repeat_threshold"):  # do not change a view
            del shown[name]
        shown |= {"resize_mode": self.config.data.resize_mode, "seed": self.config.training.seed}
        if settings.mosaic_probability or settings.copy_paste_probability:
            shown["data"] = digest_of(images)
        epochs = self.config.training.epochs
        plain = settings.no_augment_from(epochs)
        views, view_id = self.config.cache.views_of(plain or epochs), view.view_id
        shown = json.dumps(shown, sort_keys=True)
        return CachedView(view, cache=self.cache, shown=shown, view_id=view_id, views=views, no_augment_from=plain)

    def whole_view(self, view: View) -> CachedView:
        """Return the cached view of images without augmentation."""
        shown = json.dumps({"resize_mode": self.config.data.resize_mode})
        return CachedView(view, cache=self.cache, shown=shown, view_id=_whole_view_id, views=1, no_augment_from=0)

    def tokens(self, batch: Batch) -> Tokens:
        """Return the trunk's output for a batch; compute and store the missing entries."""
        part = batch.cached
        if part is None:
            return self.backbone.trunk(batch.pixel_values)
        rows = dict(zip(part.having, part.hidden.float(), strict=True))  # [M, 1+R+h*w, D] by position
        if part.lacking:
            tokens = self.backbone.trunk(batch.pixel_values)
            outputs = tokens.earlier | {self.layers[-1]: tokens.hidden}
            computed = [halved(row) for row in torch.stack([outputs[layer].float() for layer in self.layers], dim=1)]
            self._store(batch, computed)
            rows |= {position: row.float() for position, row in zip(part.lacking, computed, strict=True)}
        ordered = torch.stack([rows[position] for position in range(len(rows))])
        layers = dict(zip(self.layers, ordered.unbind(1), strict=True))
        earlier = {layer: layers[layer] for layer in self.layers if layer in self.backbone.feature_layers}
        return Tokens(layers[self.layers[-1]], earlier, self.grid)

    def log_plan(self, train: CocoDetection, val: CocoDetection | None, *, max_repeats: np.ndarray) -> None:
        """Log the size of the cache and the epoch from which it saves time.

        ``max_repeats`` ``[I]`` is the largest number of times that each training image comes in an epoch. Raise
        `InputError` if the disk has too little room.
        """
        settings, epochs = self.config.augmentation, self.config.training.epochs
        shown = train.view.views_shown(epochs)
        no_augment_from = settings.no_augment_from(epochs) if settings.augmentation else 0
        views = len({view for view in shown if view < no_augment_from or not no_augment_from})
        entries = train.view.entries(train.images, epochs=epochs, times=max_repeats)
        whole = " and whole" if 0 < no_augment_from < epochs else ""
        content = f"{counted(len(train), 'training image')} in {counted(views, 'view')}{whole}"
        if val is not None:
            entries += val.view.entries(val.images, epochs=1, times=np.ones(len(val), np.int64))
            content += f"{',' if whole else ''} and {counted(len(val), 'validation image')}"
        missing = sum(entry not in self.cache for entry in entries)
        tokens = self.backbone.num_prefix_tokens + self.grid[0] * self.grid[1]
        each = 2 * len(self.layers) * tokens * self.backbone.hidden_size  # bytes without boxes
        total, needed = len(entries) * each, missing * each
        remedy = "choose another --cache_trunk" + (", or lower --cache_views" if views > 1 else "")
        require_space(self.folder.resolve(), needed, f"the trunk cache of {content}", remedy=remedy)
        found = "none of it is there yet" if missing == len(entries) else f"{as_size(total - needed)} of it is there"
        when, seen_before = "", train.view.seen_before(train.images, epochs=epochs)
        pays_from = next((epoch for epoch, share in enumerate(seen_before, 1) if share > MIN_HIT_RATE), None)
        if missing and pays_from is not None:
            when = f"; training fills it, and it saves time from epoch {pays_from} on"
        elif missing:
            what = "no view" if missing == len(entries) else "no missing view"
            when = f"; this run shows {what} twice, so the cache saves time in later runs only"
            if no_augment_from > 1:
                when += f", or with less than {no_augment_from} --cache_views"
        sizes = f"{as_size(each)} each, take {as_size(total)}"
        log.info("trunk cache %s: %s, %s, %s%s", self.folder, content, sizes, found, when)

    def _store(self, batch: Batch, computed: Sequence[Tensor]) -> None:
        """Store computed entries; a full disk ends the filling, but not the run."""
        for row, position, key in zip(computed, batch.cached.lacking, batch.cached.entry_keys, strict=True):
            if not key or self._disk_full:
                continue
            boxes_cxcywh, labels, valid = (column[position] for column in batch.targets)
            try:
                self.cache.write(key, hidden=row, boxes_cxcywh=boxes_cxcywh[valid], labels=labels[valid])
            except OSError as error:
                self._disk_full = True
                text = "%s: can't be written (%s); training goes on without filling it"
                log.warning(text, self.folder, error.strerror)


def _whole_view_id(images: CocoImages, key: SampleKey) -> str:
    return "whole"
