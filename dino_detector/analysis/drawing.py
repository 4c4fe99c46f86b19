"""Pictures of detections: an image with boxes, and a grid of predictions beside ground truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dino_detector.analysis.fonts import font_path
from dino_detector.plain_text import counted, plain

if TYPE_CHECKING:
    from supervision import Detections

    from dino_detector.structures.categories import Categories

# "20 simple, distinct colors" by Sasha Trubetskoy, https://sashamaps.net/docs/resources/20-colors/
# fmt: off
COLORS = (
    "#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#bfef45", "#fabed4",
    "#469990", "#dcbeff", "#9a6324", "#fffac8", "#800000", "#aaffc3", "#808000", "#ffd8b1", "#000075", "#a9a9a9",
)
# fmt: on
LONGEST_LINE = 200
"""columns of a caption, before it is cut to the width of its cell"""
PAIRS_PER_ROW = 2
MOST_LABELS = 25
"""largest number of boxes of a grid cell that have labels"""


class Comparison(NamedTuple):
    """An image, its ground truth, and its predictions with ``confidence``; boxes are in pixels of the image."""

    image: Tensor | Image.Image  # uint8 [3, H, W], or a picture of any mode
    ground_truth: Detections
    predictions: Detections
    caption: str


def class_color(label: int) -> tuple[int, int, int]:
    """Return the (red, green, blue), 0..255, of a contiguous label; the first 80 labels have different colours.

    The first 20 labels have the colours of ``COLORS``, and each further 20 the same colours a quarter darker.
    """
    color = COLORS[label % len(COLORS)]
    shade = 0.75 ** (label // len(COLORS))
    return tuple(round(int(color[start : start + 2], 16) * shade) for start in (1, 3, 5))


def draw_detections(
    image: Tensor | Image.Image, detections: Detections, *, categories: Categories, scores: bool, names: bool = True
) -> Image.Image:
    """Return a copy of the image with a box and a label for each detection, in the colour of its class.

    Lines and text grow with the image. Boxes with higher scores are drawn last.

    Args:
        image: uint8 ``[3, H, W]``, or a picture of any mode.
        detections: boxes in pixels of the image, ``class_id`` holding the category ids of ``categories``.
        categories: of the data set; the colour of a class follows its position there, not its id.
        scores: write the ``confidence`` behind the class name.
        names: write labels.
    """
    picture = _picture(image)
    if len(detections) == 0:
        return picture

    import numpy as np
    from supervision import BoxAnnotator, Color, ColorPalette, RichLabelAnnotator

    if detections.confidence is not None:
        detections = detections[np.argsort(detections.confidence, kind="stable")]
    labels = np.array([categories.label(category_id) for category_id in detections.class_id.tolist()])
    colors = [class_color(label) for label in range(len(categories))]
    palette = ColorPalette([Color(*color) for color in colors])
    length = max(picture.size)

    painter = BoxAnnotator(color=palette, thickness=max(1, round(length / 320)))
    picture = painter.annotate(picture, detections, custom_color_lookup=labels)
    if names:
        texts = [categories.shown[label] for label in labels.tolist()]
        if scores:
            texts = [f"{text} {score:.2f}" for text, score in zip(texts, detections.confidence.tolist(), strict=True)]
        text_size = min(max(11, round(length / 60)), max(7, min(picture.size) // 8))
        writer = RichLabelAnnotator(
            color=palette,
            text_color=ColorPalette([Color(*_readable_on(color)) for color in colors]),
            font_path=str(font_path("".join(texts))),
            font_size=text_size,
            text_padding=max(2, text_size // 5),
            smart_position=True,  # labels stay inside the image and off each other
        )
        picture = writer.annotate(picture, detections, labels=texts, custom_color_lookup=labels)
    return picture


def enlarged(image: Tensor | Image.Image, side: int) -> tuple[Image.Image, float]:
    """Return the picture with at least ``side`` pixels on its longer side, and the factor for its boxes.

    Lines and labels hide less of an enlarged picture. A large picture keeps its size.
    """
    picture = _picture(image)
    scale = max(1.0, side / max(picture.size))
    if scale > 1:
        picture = picture.resize(tuple(max(1, round(length * scale)) for length in picture.size))
    return picture, scale


def prediction_grid(
    comparisons: Sequence[Comparison],
    *,
    categories: Categories,
    min_score: float,
    cell_width: int = 480,
) -> Image.Image:
    """Draw ground truth on the left and predictions on the right for each image, with captions and a legend of classes.

    Two images share a row. Each is scaled to fit a square of ``cell_width`` pixels. Only pictures with at most 25 boxes
    have labels. Predictions with a score below ``min_score`` are left out.
    """
    comparisons = [
        item._replace(predictions=item.predictions[item.predictions.confidence >= min_score]) for item in comparisons
    ]
    gap, margin = cell_width // 60, cell_width // 20
    text_size, title_size = max(12, cell_width // 32), max(14, cell_width // 26)
    pairs = [_pair(item, categories, cell_width, gap=gap, text_size=text_size) for item in comparisons]
    rows = [pairs[start : start + PAIRS_PER_ROW] for start in range(0, len(pairs), PAIRS_PER_ROW)]
    heights = [max(pair.height for pair in row) + margin for row in rows]
    lefts = [margin + column * (pairs[0].width + margin) for column in range(len(rows[0]))]
    width, title_height = lefts[-1] + pairs[0].width + margin, round(title_size * 1.6)
    legend = _legend(comparisons, categories, width=width - 2 * margin, text_size=text_size)

    top = margin + legend.height
    grid = Image.new("RGB", (width, top + title_height + sum(heights)), "white")
    grid.paste(legend, (margin, margin))
    draw = ImageDraw.Draw(grid)
    titles = ("Ground truth", f"Predictions (score ≥ {min_score:.2f})")
    for left in lefts:
        for column, title in enumerate(titles):
            _write(draw, (left + column * (cell_width + gap), top), title, title_size, room=cell_width, fill="black")
    top += title_height
    for row, height in zip(rows, heights, strict=True):
        for left, pair in zip(lefts, row, strict=False):
            grid.paste(pair, (left, top))
        top += height
    return grid


def _pair(item: Comparison, categories: Categories, cell_width: int, *, gap: int, text_size: int) -> Image.Image:
    """Draw ground truth and predictions side by side, at their final size, so that lines and text stay sharp."""
    picture, line = _picture(item.image), round(text_size * 1.6)
    scale = cell_width / max(picture.size)
    cell = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    pair = Image.new("RGB", (2 * cell_width + gap, line + cell.height), "white")
    for x, name, detections in ((0, f"{item.caption}: ", item.ground_truth), (cell_width + gap, "", item.predictions)):
        caption = name + counted(len(detections), "box", "boxes")
        _write(ImageDraw.Draw(pair), (x, 0), caption, text_size, room=cell_width, fill="#666666")
        scaled = dataclasses.replace(detections, xyxy=detections.xyxy * scale)
        style = {"scores": detections is item.predictions, "names": len(detections) <= MOST_LABELS}
        pair.paste(draw_detections(cell, scaled, categories=categories, **style), (x, line))
    return pair


def _legend(comparisons: Sequence[Comparison], categories: Categories, *, width: int, text_size: int) -> Image.Image:
    """Draw a colour and a name for each class in the pictures, in lines of ``width`` pixels."""
    shown = [detections for item in comparisons for detections in (item.ground_truth, item.predictions)]
    labels = sorted({categories.label(number) for detections in shown for number in detections.class_id.tolist()})
    line, space = round(text_size * 1.6), round(text_size * 0.5)
    places = []
    x = y = 0
    for label in labels:
        name = categories.shown[label]
        needed = line + ImageFont.truetype(font_path(name), text_size).getlength(name) + 2 * space
        if x and x + needed > width:
            x, y = 0, y + line
        places.append((x, y))
        x += round(needed)
    legend = Image.new("RGB", (width, y + 2 * line if labels else 1), "white")
    draw = ImageDraw.Draw(legend)
    for label, (x, y) in zip(labels, places, strict=True):
        draw.rectangle((x, y, x + text_size, y + text_size), fill=class_color(label))
        _write(draw, (x + line, y), categories.shown[label], text_size, room=width - line, fill="black")
    return legend


def _write(draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, size: int, *, room: int, fill: str) -> None:
    """Write a line of text with its upper left corner at ``corner``, cut to ``room`` pixels."""
    text = plain(text, LONGEST_LINE)
    letters = ImageFont.truetype(font_path(text), size)
    if letters.getlength(text) > room:
        while text and letters.getlength(text + "...") > room:
            text = text[:-1]
        text += "..."
    draw.text((corner[0], corner[1] + size / 2), text, font=letters, fill=fill, anchor="lm")


def _picture(image: Tensor | Image.Image) -> Image.Image:
    """Return a new RGB picture."""
    if isinstance(image, Tensor):
        return Image.fromarray(image.permute(1, 2, 0).cpu().numpy().copy())  # [H, W, 3]
    return image.convert("RGB")


def _readable_on(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return black for light colours and white for dark colours, by luma (ITU-R BT.601)."""
    red, green, blue = color
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
