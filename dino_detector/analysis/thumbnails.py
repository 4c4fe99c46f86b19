"""Thumbnails of images as JPEG data URLs, within a budget of characters."""

from __future__ import annotations

import base64
import io
import logging
from pathlib import Path

from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from dino_detector.analysis.result_files import ImageList, file_inside
from dino_detector.data.pictures.reading import read_image
from dino_detector.errors import InputError
from dino_detector.plain_text import counted

log = logging.getLogger(__name__)

PREFIX = "data:image/jpeg;base64,"
STEPS = ((480, 82), (480, 70), (480, 55), (360, 55), (240, 50), (120, 40))
"""longest side in pixels and JPEG quality, from the best to the smallest"""


class Thumbnails:
    """Make thumbnails one after the other; each gets an equal part of the characters that are left.

    An absent or unreadable image, or one whose size differs from the list, gives None. `warn` logs them.
    """

    def __init__(self, images: ImageList, folder: Path, *, count: int, budget: int) -> None:
        """Make ``count`` data URLs with ``budget`` characters together."""
        self.images, self.folder = images, folder
        self.left, self.budget = count, budget
        self.failures: list[str] = []

    def __call__(self, image_id: int) -> str | None:
        """Return the data URL of an image, upright as `read_image` reads it; its longest side is at most 480 pixels."""
        name, size = self.images.files[image_id]
        limit = self.budget // max(1, self.left)
        self.left -= 1
        path = file_inside(self.folder, name)
        try:
            if path is None:
                raise InputError(f"{self.folder}: {name!r}, image {image_id}, is not there")
            url = _within(to_pil_image(read_image(path, expected_size=size)), limit)
            if url is None:
                raise InputError(f"{path}: there is no room for it; show fewer with --gallery_images")
        except InputError as error:
            self.failures.append(str(error))
            return None
        self.budget -= len(url)
        return url

    def warn(self) -> None:
        """Log the number of images without a thumbnail, and the first reason."""
        if self.failures:
            log.warning(
                "the report lacks the picture of %s: %s", counted(len(self.failures), "image"), self.failures[0]
            )


def _within(picture: Image.Image, limit: int) -> str | None:
    """Return the best data URL with at most ``limit`` characters; None if none is small enough."""
    for side, quality in STEPS:
        scale = min(1.0, side / max(picture.size))
        small = picture.resize([max(1, round(length * scale)) for length in picture.size], reducing_gap=2.0)
        content = io.BytesIO()
        small.save(content, "JPEG", quality=quality, optimize=True)
        url = PREFIX + base64.b64encode(content.getvalue()).decode("ascii")
        if len(url) <= limit:
            return url
    return None
