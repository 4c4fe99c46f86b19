"""Writes Pascal VOC: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/"""

from __future__ import annotations

from pathlib import Path

from dino_detector.data.conversion.labelled import Box, Labelled, Notes, Picture, number
from dino_detector.data.conversion.xml_text import text
from dino_detector.data.formats.voc import LISTS

JUST_BELOW = "-0.000001"


def write_voc(data: Labelled, folder: Path, notes: Notes) -> None:
    """Write an XML file for each picture and a list for each split; a crowd region is a ``difficult`` object."""
    annotations = folder / "Annotations"
    for below in {(annotations / picture.name).parent for picture in data.pictures()} | {annotations}:
        below.mkdir(parents=True, exist_ok=True)
    for picture in data.pictures():
        (annotations / f"{picture.stem}.xml").write_text(_document(picture, data.classes), "utf-8")
    for split, pictures in data.splits.items():
        if split:
            (folder / LISTS).mkdir(parents=True, exist_ok=True)
            names = "".join(f"{picture.stem}\n" for picture in pictures)
            (folder / LISTS / f"{split}.txt").write_text(names, "utf-8")
    notes.unused_classes(data, "VOC")


def _document(picture: Picture, classes: list[str]) -> str:
    size = picture.known_size
    lines = ["<annotation>", "  <folder>JPEGImages</folder>", f"  <filename>{text(picture.name)}</filename>"]
    if size is not None:
        lines.append(f"  <size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>")
    lines += [_object(box, classes[box.label]) for box in picture.boxes]
    return "\n".join([*lines, "</annotation>", ""])


def _object(box: Box, name: str) -> str:
    # Pixels count from 1, and xmax is the last pixel of a box of whole pixels. Readers take an xmin of 0 as a sign of
    # a file that counts from 0.
    near = [number(edge + 1) for edge in (box.left, box.top)]
    xmin, ymin = (JUST_BELOW if edge == "0" else edge for edge in near)
    xmax, ymax = number(box.left + box.width), number(box.top + box.height)
    corners = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
    return (
        f"  <object><name>{text(name)}</name><pose>Unspecified</pose><truncated>0</truncated>"
        f"<difficult>{int(box.crowd)}</difficult><bndbox>{corners}</bndbox></object>"
    )
