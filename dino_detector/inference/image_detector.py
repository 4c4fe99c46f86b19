"""The interface of everything that detects objects in images, and detection in tiles.

Source of the tiles: Akyon et al., "Slicing Aided Hyper Inference", https://arxiv.org/abs/2202.06934, section 3. Each
tile is resized to the network's input size, so that small objects grow. The whole image is another view, for large
objects.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from torch import Tensor

from dino_detector.config import ImageSize, TilingConfig
from dino_detector.data.pictures.decoding import to_rgb_tensor
from dino_detector.data.windows import Window
from dino_detector.errors import InputError
from dino_detector.inference.tiling import merge_views, views_of
from dino_detector.structures.categories import Categories
from dino_detector.structures.detections import ImageDetections

if TYPE_CHECKING:
    import supervision

Found = TypeVar("Found")
"""result of an image: the detections of one detector, or a list with the detections of each detector"""


class ImagePredictor(ABC, Generic[Found]):
    """Detects objects in images of any kind and size; ``Found`` is the type of an image's detections."""

    white_level: float | None = None
    """value that is white in pictures of more than 8 bits; None takes each picture's own"""

    @abstractmethod
    def detect(self, images: Sequence[Tensor]) -> list[Found]:
        """Return the detections of each image with any score: at most 100, or the number of queries if it is larger.

        Args:
            images: uint8 RGB ``[3, H, W]`` each, of any sizes; all of them form one batch.
        """

    @abstractmethod
    def merge_views(self, views: Sequence[Window], found: Sequence[Found]) -> Found:
        """Return the detections of an image from the detections of its views; the whole image comes first."""

    @abstractmethod
    def to_supervision(self, found: Found, threshold: float) -> Any:
        """Return the detections of an image with a score of at least ``threshold``, as supervision's type."""

    def detect_each(self, images: Iterable[Tensor], *, tiling: TilingConfig, batch_size: int) -> Iterator[Found]:
        """Yield the detections of each image with any score, merged over the whole image and its tiles.

        A batch may hold views of several images, and an image is read shortly before its first view runs.

        Args:
            images: uint8 RGB ``[3, H, W]`` each, of any sizes.
            tiling: size and overlap of the tiles.
            batch_size: number of images, or of tiles, in a batch.

        Raises:
            InputError: an image would have more than 10,000 tiles.
        """
        layouts: deque[list[Window]] = deque()

        def crops() -> Iterator[Tensor]:
            for image in images:
                layouts.append(views_of(image.shape[1], image.shape[2], tiling))
                for left, top, width, height in layouts[-1]:
                    yield image[:, top : top + height, left : left + width]

        waiting = crops()
        batches = iter(lambda: list(islice(waiting, batch_size)), [])
        found = (detections for batch in batches for detections in self.detect(batch))
        for whole in found:
            views = layouts.popleft()
            yield self.merge_views(views, [whole, *islice(found, len(views) - 1)])

    def predict(
        self,
        images: Any,
        *,
        threshold: float = 0.5,
        batch_size: int = 8,
        tile_size: int | tuple[int, int] | None = None,
        tile_overlap: float = TilingConfig.tile_overlap,
    ) -> Any:
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
            ``supervision.Detections`` for an image, and a list of them for a list: ``xyxy`` in pixels of the image (of
            a file, as displayed: with its EXIF rotation), ``confidence``, ``class_id`` with the category ids of the
            training annotations, ``data["class_name"]``; by descending score. A `DetectorGroup` returns a list with the
            ``supervision.Detections`` of each detector in place of ``supervision.Detections``.

        Raises:
            InputError: an image can't be read, or another argument is out of range.
        """
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold must be between 0 and 1, not {threshold}")
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        tiling = TilingConfig(None if tile_size is None else ImageSize.parse(tile_size, "tile_size"), tile_overlap)
        several = isinstance(images, (list, tuple))
        pixels = (to_rgb_tensor(image, white_level=self.white_level) for image in (images if several else [images]))
        found = self.detect_each(pixels, tiling=tiling, batch_size=batch_size)
        results = [self.to_supervision(of_image, threshold) for of_image in found]
        return results if several else results[0]


class ImageDetector(ImagePredictor[ImageDetections]):
    """Finds the objects of a data set's categories in images."""

    categories: Categories
    """ids and names of the classes, from the annotation file that the detector was trained on"""

    merge_views = staticmethod(merge_views)

    def to_supervision(self, found: ImageDetections, threshold: float) -> supervision.Detections:
        """Return the detections with a score of at least ``threshold``."""
        return found.above(threshold).to_supervision(self.categories)
