"""A page of pictures with reasons, as one HTML file that requests nothing from a network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw
from torchvision.transforms.v2.functional import to_pil_image

from dino_detector.analysis.html_file import asset, content_policy, jpeg_url, write_html
from dino_detector.data.pictures.decoding import read_image
from dino_detector.errors import InputError

SIDE = 320
"""longer side of a picture of a card, in pixels"""
QUALITY = 78
MARGIN = 0.75
"""part of the longer side of the boxes that a crop shows around them"""
SMALLEST_CROP = 64
"""least side of a crop in pixels of the picture"""
LABEL_COLOR, FOUND_COLOR = "#d55e00", "#56b4e9"

Box = Sequence[float]
"""x, y, width, height in pixels"""


class Card(NamedTuple):
    """A picture with its reason.

    Attributes:
        title: the heading.
        lines: the reason, a line each.
        file: the picture, or None if it can't be read.
        caption: name of the file, and ids.
        filters: values by the name of a filter; several values of one filter have tabs between them.
        picture: JPEG as a data URL; empty if the picture can't be read.
    """

    title: str
    lines: Sequence[str]
    caption: str
    filters: dict[str, str]
    picture: str


def write_page(
    path: Path, *, title: str, lead: Sequence[str], filters: dict[str, Sequence[str]], cards: Sequence[Card]
) -> None:
    """Write a page of cards, whole or not at all; markup in names is shown as text.

    Args:
        path: the HTML file.
        title: the heading.
        lead: paragraphs above the cards, without markup.
        filters: the values of each filter, by its name.
        cards: the pictures.
    """
    style = "\n".join([asset("dino_detector.analysis.report", name) for name in ("palette.css", "layout.css")])
    style += asset(__package__, "labelling.css")
    script = f'(() => {{\n"use strict";\n{asset(__package__, "filters.js")}}})();'
    paragraphs = "".join(f"<p>{html.escape(text)}</p>" for text in lead)
    content = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{content_policy(style, script)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{html.escape(title)}</title>
<style>{style}</style>
</head>
<body>
<header><h1><bdi>{html.escape(title)}</bdi></h1></header>
<main>
<section>{paragraphs}
<div class="filters">{"".join(_filter(name, values) for name, values in filters.items())}
<p class="soft" id="shown"></p></div>
<ol class="cards">{"".join(map(_card, cards))}</ol>
</section>
</main>
<script>{script}</script>
</body>
</html>
"""
    write_html(path, content)


def crop_with_boxes(file: Path, *, label: Box | None, found: Box | None, white_level: float | None = None) -> str:
    """Return the part of a picture around a label and a detection, with both drawn; empty if it can't be read."""
    given = [box for box in (label, found) if box is not None]
    try:
        picture = to_pil_image(read_image(file, white_level=white_level))
    except InputError:
        return ""
    left, top = (min(box[axis] for box in given) for axis in (0, 1))
    right, bottom = (max(box[axis] + box[axis + 2] for box in given) for axis in (0, 1))
    around = max(MARGIN * max(right - left, bottom - top), (SMALLEST_CROP - min(right - left, bottom - top)) / 2)
    area = (
        max(0, int(left - around)),
        max(0, int(top - around)),
        min(picture.width, int(right + around) + 1),
        min(picture.height, int(bottom + around) + 1),
    )
    boxes = [(box, color) for box, color in ((label, LABEL_COLOR), (found, FOUND_COLOR)) if box is not None]
    return _drawn(picture.crop(area), boxes, offset=area[:2])


def picture_with_boxes(file: Path, boxes: Sequence[Box], *, white_level: float | None = None) -> str:
    """Return a whole picture with detections, as a JPEG data URL; empty if it can't be read."""
    try:
        picture = to_pil_image(read_image(file, white_level=white_level))
    except InputError:
        return ""
    return _drawn(picture, [(box, FOUND_COLOR) for box in boxes], offset=(0, 0))


def _drawn(picture: Image.Image, boxes: Sequence[tuple[Box, str]], *, offset: tuple[int, int]) -> str:
    """Return a picture scaled to `SIDE` with boxes, as a JPEG data URL; boxes count from ``offset``."""
    scale = SIDE / max(picture.size)
    small = picture.convert("RGB").resize([max(1, round(side * scale)) for side in picture.size])
    pen = ImageDraw.Draw(small)
    for (x, y, width, height), color in boxes:
        left, top = (x - offset[0]) * scale, (y - offset[1]) * scale
        edges = (left, top, left + max(width * scale, 2), top + max(height * scale, 2))
        around = (edges[0] - 1, edges[1] - 1, edges[2] + 1, edges[3] + 1)
        pen.rectangle(around, outline="#000000", width=4)  # so that the colour shows on any picture
        pen.rectangle(edges, outline=color, width=2)
    return jpeg_url(small, quality=QUALITY)


def _card(card: Card) -> str:
    data = "".join(f' data-{name}="{html.escape(value)}"' for name, value in card.filters.items())
    shown = f'<img loading="lazy" src="{card.picture}" alt="">' if card.picture else '<p class="no-picture"></p>'
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in card.lines)
    caption = f'<p class="file"><bdi>{html.escape(card.caption)}</bdi></p>'
    return f"<li{data}>{shown}<div><h3><bdi>{html.escape(card.title)}</bdi></h3>{lines}{caption}</div></li>"


def _filter(name: str, values: Sequence[str]) -> str:
    options = "".join(f'<option value="{html.escape(value)}">{html.escape(value)}</option>' for value in values)
    return f'<label>{name}<select name="{name}"><option value="">all</option>{options}</select></label>'
