"""Writes CVAT for images 1.1: https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/"""

from __future__ import annotations

from pathlib import Path

from dino_detector.data.conversion.labelled import Labelled, Notes, Picture, number
from dino_detector.data.conversion.xml_text import quoted, text


def write_cvat(data: Labelled, folder: Path, notes: Notes) -> None:
    """Write an XML file for each split; images have the numbers of a task's frames, in the order of their names."""
    labels = "".join(
        f"<label><name>{text(name)}</name><type>rectangle</type><attributes></attributes></label>\n"
        for name in data.classes
    )
    for split, pictures in data.splits.items():
        task = f"<task><size>{len(pictures)}</size><mode>annotation</mode><labels>\n{labels}</labels></task>"
        frames = sorted(pictures, key=lambda picture: picture.name)
        images = "".join(_image(frame, picture, data.classes) for frame, picture in enumerate(frames))
        content = f"<annotations>\n<version>1.1</version>\n<meta>{task}</meta>\n{images}</annotations>\n"
        file = folder / f"{split or 'annotations'}.xml"
        file.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{content}', "utf-8")
    notes.crowds(data, "CVAT")


def _image(frame: int, picture: Picture, classes: list[str]) -> str:
    size = picture.known_size
    sides = f' width="{size[0]}" height="{size[1]}"' if size else ""
    boxes = "".join(
        f'  <box label={quoted(classes[box.label])} source="manual" occluded="0" '
        f'xtl="{number(box.left)}" ytl="{number(box.top)}" '
        f'xbr="{number(box.left + box.width)}" ybr="{number(box.top + box.height)}" z_order="0"></box>\n'
        for box in picture.boxes
    )
    return f'<image id="{frame}" name={quoted(picture.name)}{sides}>\n{boxes}</image>\n'
