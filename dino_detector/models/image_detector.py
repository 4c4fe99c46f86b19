"""What everything that detects objects in images can do with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dino_detector.config import ImageSize, TilingConfig
from dino_detector.data.categories import Categories
from dino_detector.data.images import to_rgb_tensor
from dino_detector.detections import ImageDetections
from dino_detector.errors import InputError
from dino_detector.models.tiling import detect_in_views

if TYPE_CHECKING:
    import supervision


class ImageDetector(ABC):
    """Finds the objects of a data set's categories in images of any kind and size."""

    @property
    @abstractmethod
    def categories(self) -> Categories:
        """Ids and names of the classes, from the annotation file that the detector was trained on."""

    @abstractmethod
    def detect(self, images: Sequence[Tensor]) -> list[ImageDetections]:
        """At most 100 detections in each image, or as many as there are queries, whatever their score.

        Args:
            images: uint8 RGB ``[3, H, W]`` each, of any sizes; they run as one batch.
        """

    def detect_each(
        self, images: Iterable[Tensor], *, tiling: TilingConfig, batch_size: int
    ) -> Iterator[ImageDetections]:
        """The detections of each image, whatever their score: as many as `detect` gives of the whole and of each tile.

        Args:
            images: uint8 RGB ``[3, H, W]`` each, of any sizes; each is taken when its turn comes.
            tiling: whether to detect in tiles too.
            batch_size: images, or tiles of them, that run at once.

        Raises:
            InputError: where the tiles are far too many.
        """
        return detect_in_views(self.detect, images, tiling=tiling, batch_size=batch_size)

    def predict(
        self,
        images: Any,
        *,
        threshold: float = 0.5,
        batch_size: int = 8,
        tile_size: int | tuple[int, int] | None = None,
        tile_overlap: float = TilingConfig.tile_overlap,
    ) -> supervision.Detections | list[supervision.Detections]:
        """Detect objects in an image or a list of images.

        Args:
            images: a path, PIL image, numpy array (uint8 ``[H, W, 3]``, RGB, or ``[H, W]``), tensor (``[3, H, W]``,
                uint8 or float in 0..1), or a list of these.
            threshold: detections of a lower score are left out.
            batch_size: images, or tiles, that run at once.
            tile_size: for small objects in large images, detect in tiles of this size too: pixels of the image, a
                number or ``(height, width)``.
            tile_overlap: share of a tile's side that it has in common with the next, 0 to below 1.

        Returns:
            ``supervision.Detections``, one for an image and a list for a list: ``xyxy`` in pixels of the image (of a
            file, as displayed: with its EXIF rotation), ``confidence``, ``class_id`` with the category ids of the
            training annotations, ``data["class_name"]``; by falling score.

        Raises:
            InputError: for an image that can't be used, or such a number, size or overlap.
        """
        tiling = tiling_asked(tile_size, tile_overlap, batch_size=batch_size)
        found = self.detect_each(tensors_of(images), tiling=tiling, batch_size=batch_size)
        results = [detections.above(threshold).to_supervision(self.categories) for detections in found]
        return results if isinstance(images, (list, tuple)) else results[0]


def tensors_of(images: Any) -> Iterator[Tensor]:
    """The pixels of what `ImageDetector.predict` takes, uint8 RGB ``[3, H, W]`` each."""
    return (to_rgb_tensor(image) for image in (images if isinstance(images, (list, tuple)) else [images]))


def tiling_asked(tile_size: int | tuple[int, int] | None, tile_overlap: float, *, batch_size: int) -> TilingConfig:
    """The settings that arguments of `ImageDetector.predict` mean.

    Raises:
        InputError: where one of them can't be.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")
    return TilingConfig(None if tile_size is None else ImageSize.parse(tile_size, "tile_size"), tile_overlap)
