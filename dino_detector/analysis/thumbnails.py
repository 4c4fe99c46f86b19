"""Small pictures for a page: JPEG in data URLs, as many as asked for in as many bytes as there are."""

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
"""longest side in pixels and JPEG quality, from the best to what fits any budget that makes sense"""


class Thumbnails:
    """Makes the pictures of images one after the other, each with its share of the bytes that are left.

    An image that is not there, can't be read or has another size than the list states gives None; `warn` tells of all.
    """

    def __init__(self, images: ImageList, folder: Path, *, count: int, budget: int) -> None:
        """``budget`` is the length of ``count`` data URLs together, in characters."""
        self.images, self.folder = images, folder
        self.left, self.budget = count, budget
        self.absent: list[str] = []

    def __call__(self, image_id: int) -> str | None:
        """The data URL of an image, upright as `read_image` gives it; its longest side has at most 480 pixels."""
        name, size = self.images.files[image_id]
        share = self.budget // max(1, self.left)
        self.left -= 1
        path = file_inside(self.folder, name)
        try:
            if path is None:
                raise InputError(f"{self.folder}: {name!r}, image {image_id}, is not there")
            picture = to_pil_image(read_image(path, expected_size=size))
        except InputError as error:
            self.absent.append(str(error))
            return None
        url = _within(picture, share)
        if url is None:
            self.absent.append(f"{path}: there is no room for it; show fewer with --gallery_images")
        self.budget -= len(url or "")
        return url

    def warn(self) -> None:
        """Log how many images the page lacks, and the first of them."""
        if self.absent:
            log.warning("the report lacks the picture of %s: %s", counted(len(self.absent), "image"), self.absent[0])


def _within(picture: Image.Image, share: int) -> str | None:
    """The best data URL of at most ``share`` characters; None where there is none."""
    for side, quality in STEPS:
        scale = min(1.0, side / max(picture.size))
        small = picture.resize([max(1, round(length * scale)) for length in picture.size], reducing_gap=2.0)
        content = io.BytesIO()
        small.save(content, "JPEG", quality=quality, optimize=True)
        url = PREFIX + base64.b64encode(content.getvalue()).decode("ascii")
        if len(url) <= share:
            return url
    return None
