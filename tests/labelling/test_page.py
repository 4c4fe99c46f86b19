from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from dino_detector.analysis.html_file import JPEG_PREFIX
from dino_detector.labelling.page import Card, crop_with_boxes, picture_with_boxes, write_page


def picture_of(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.removeprefix(JPEG_PREFIX))))


def test_markup_in_names_is_shown_as_text(tmp_path: Path):
    evil = '<script>alert("x")</script>'
    card = Card(evil, [evil], evil, {"class": evil}, "")
    write_page(tmp_path / "page.html", title=evil, lead=[evil], filters={"class": [evil]}, cards=[card])
    text = (tmp_path / "page.html").read_text()
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;") >= 6


def test_a_crop_shows_the_label_in_orange_and_the_detection_in_blue(tmp_path: Path):
    file = tmp_path / "grey.png"
    Image.new("RGB", (400, 300), (128, 128, 128)).save(file)
    url = crop_with_boxes(file, label=(100, 100, 40, 40), found=(110, 105, 40, 40))
    pixels = np.asarray(picture_of(url)).astype(int)
    red, _green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    assert ((red - blue) > 100).any()  # orange
    assert ((blue - red) > 80).any()  # blue
    assert max(picture_of(url).size) == 320


def test_boxes_beyond_the_picture_can_be_drawn(tmp_path: Path):
    file = tmp_path / "small.png"
    Image.new("RGB", (30, 20)).save(file)
    assert picture_of(crop_with_boxes(file, label=(-5, -5, 50, 50), found=None)).size == (320, 213)
    assert picture_of(picture_with_boxes(file, [(25, 15, 30, 30)])).size == (320, 213)


def test_an_unreadable_picture_gives_no_thumbnail(tmp_path: Path):
    assert crop_with_boxes(tmp_path / "none.png", label=(0, 0, 9, 9), found=None) == ""
