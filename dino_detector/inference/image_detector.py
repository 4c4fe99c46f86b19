"""The interface of everything that detects objects in images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dino_detector.config import ImageSize, TilingConfig
from dino_detector.data.pictures.reading import to_rgb_tensor
from dino_detector.errors import InputError
from dino_detector.inference.tiling import Found, detect_in_views
from dino_detector.structures.categories import Categories
from dino_detector.structures.detections import ImageDetections

if TYPE_CHECKING:
    import supervision


class ImageDetector(ABC):
    """Finds the objects of a data set's categories in images of any kind and size."""

    @property
    @abstractmethod
    def categories(self) -> Categories:
        """Ids and names of the classes, from the annotation file that the detector was trained on."""

    @property
    def white_level(self) -> float | None:
        """Value that is white in pictures of more than 8 bits; None takes each picture's own."""
        return None

    @abstractmethod
    def detect(self, images: Sequence[Tensor]) -> list[ImageDetections]:
        """Return the detections of each image with any score: at most 100, or the number of queries if it is larger.

        Args:
            images: uint8 RGB ``[3, H, W]`` each, of any sizes; all of them form one batch.
        """

    def detect_each(
        self, images: Iterable[Tensor], *, tiling: TilingConfig, batch_size: int
    ) -> Iterator[ImageDetections]:
        """Yield the detections of each image with any score, merged over the whole image and its tiles.

        Args:
            images: uint8 RGB ``[3, H, W]`` each, of any sizes; read one by one.
            tiling: size and overlap of the tiles.
            batch_size: number of images, or of tiles, in a batch.

        Raises:
            InputError: an image would have more than 10,000 tiles.
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
            threshold: lowest score of a returned detection.
            batch_size: number of images, or of tiles, in a batch.
            tile_size: detect in tiles of this size too, for small objects in large images: pixels, as one number or
                ``(height, width)``.
            tile_overlap: share of a tile's side that the next tile covers too, 0 to below 1.

        Returns:
            ``supervision.Detections``, one for an image and a list for a list: ``xyxy`` in pixels of the image (of a
            file, as displayed: with its EXIF rotation), ``confidence``, ``class_id`` with the category ids of the
            training annotations, ``data["class_name"]``; by falling score.

        Raises:
            InputError: an image can't be read, or another argument is out of range.
        """
        return predict_images(
            images,
            detect_each=self.detect_each,
            show=lambda detections, threshold: detections.above(threshold).to_supervision(self.categories),
            white_level=self.white_level,
            threshold=threshold,
            batch_size=batch_size,
            tile_size=tile_size,
            tile_overlap=tile_overlap,
        )


def predict_images(
    images: Any,
    *,
    detect_each: Callable[..., Iterator[Found]],
    show: Callable[[Found, float], Any],
    white_level: float | None,
    threshold: float,
    batch_size: int,
    tile_size: int | tuple[int, int] | None,
    tile_overlap: float,
) -> Any:
    """Check the arguments of `ImageDetector.predict`, detect, and return a result for an image, a list for a list.

    Args:
        images: see `ImageDetector.predict`, also for the arguments that are not listed here.
        detect_each: see `ImageDetector.detect_each`.
        show: turns the detections of an image and the threshold into a result.
        white_level: see `ImageDetector.white_level`.
        threshold: lowest score.
        batch_size: number of images or tiles.
        tile_size: pixels.
        tile_overlap: share.

    Raises:
        InputError: an image can't be read, or another argument is out of range.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold must be between 0 and 1, not {threshold}")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")
    tiling = TilingConfig(None if tile_size is None else ImageSize.parse(tile_size, "tile_size"), tile_overlap)
    several = isinstance(images, (list, tuple))
    pixels = (to_rgb_tensor(image, white_level=white_level) for image in (images if several else [images]))
    results = [show(found, threshold) for found in detect_each(pixels, tiling=tiling, batch_size=batch_size)]
    return results if several else results[0]
