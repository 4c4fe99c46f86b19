"""Settings of the trunk cache."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CacheConfig:
    """What the frozen layers make of each image, computed once and kept on disk."""

    cache_trunk: Path | None = None
    """folder to keep it in, for this run and later ones with the same base model, frozen layers, image size and
    augmentation; how much disk it takes is said before training. From when an image is there, it is not read again"""
    cache_views: int | None = None
    """augmented views of each training image that are kept: epochs show them in turn, so that the first so many epochs
    fill the cache and the others read it; null means one for every four of the epochs that are not plain, at most 8"""

    def views_of(self, epochs: int) -> int:
        """How many views so many epochs show in turn."""
        return self.cache_views or min(8, math.ceil(epochs / 4))
