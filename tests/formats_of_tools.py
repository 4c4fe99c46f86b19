"""Writes one small data set in the format of each labelling tool, by hand from the tools' own documentation."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from PIL import Image

NAMES = ("red & dark", "blau ü")


class Labelled(NamedTuple):
    """A picture: name, width and height, and boxes as class index, left, top, width and height."""

    name: str
    width: int
    height: int
    boxes: tuple[tuple[int, int, int, int, int], ...] = ()


TRAIN = (
    Labelled("a.jpg", 120, 80, ((0, 10, 20, 30, 40), (1, 60, 5, 50, 70))),
    Labelled("b.jpg", 64, 96, ((1, 0, 0, 64, 96),)),
    Labelled("c.jpg", 50, 50),
)
VAL = (Labelled("d.jpg", 100, 60, ((1, 25, 10, 40, 20),)), Labelled("e.jpg", 30, 40))
"""the validation images lack the first class"""


def draw(folder: Path, pictures: Sequence[Labelled]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        Image.new("RGB", (picture.width, picture.height), "grey").save(folder / picture.name)
    return folder


def yolo_lines(picture: Labelled) -> str:
    width, height = picture.width, picture.height
    return "".join(
        f"{kind} {(left + across / 2) / width} {(top + down / 2) / height} {across / width} {down / height}\n"
        for kind, left, top, across, down in picture.boxes
    )


def write_yolo(root: Path) -> None:
    """Write Roboflow's folders; a picture without objects has an empty label file, or none."""
    for split, pictures in (("train", TRAIN), ("valid", VAL)):
        draw(root / split / "images", pictures)
        labels = root / split / "labels"
        labels.mkdir()
        for picture in pictures[: 3 if split == "train" else 1]:
            (labels / picture.name).with_suffix(".txt").write_text(yolo_lines(picture))
    names = json.dumps(NAMES, ensure_ascii=False)
    (root / "data.yaml").write_text(f"train: ../train/images\nval: ../valid/images\nnc: 2\nnames: {names}\n", "utf-8")


def write_label_studio_yolo(root: Path) -> None:
    draw(root / "images", TRAIN)
    (root / "labels").mkdir()
    for picture in TRAIN:
        (root / "labels" / picture.name).with_suffix(".txt").write_text(yolo_lines(picture))
    (root / "classes.txt").write_text("\n".join(NAMES) + "\n", "utf-8")


def draw_with_labels(folder: Path, pictures: Sequence[Labelled]) -> None:
    """Write pictures, and YOLO's labels beside them."""
    for picture in pictures:
        (draw(folder, [picture]) / picture.name).with_suffix(".txt").write_text(yolo_lines(picture))


def write_cvat_yolo(root: Path) -> None:
    """Write CVAT's YOLO 1.1 with two subsets, whose paths begin with a folder ``data`` that the export lacks."""
    for split, pictures in (("train", TRAIN), ("valid", VAL)):
        draw_with_labels(root / f"obj_{split}_data", pictures)
        (root / f"{split}.txt").write_text("".join(f"data/obj_{split}_data/{one.name}\n" for one in pictures))
    (root / "obj.names").write_text("\n".join(NAMES) + "\n", "utf-8")
    lists = "train = data/train.txt\nvalid = data/valid.txt\n"
    (root / "obj.data").write_text(f"classes = 2\n{lists}names = data/obj.names\nbackup = backup/\n")


def write_roboflow_darknet(root: Path) -> None:
    for split, pictures in (("train", TRAIN), ("valid", VAL)):
        draw_with_labels(root / split, pictures)
        (root / split / "_darknet.labels").write_text("\n".join(NAMES), "utf-8")


def voc_text(picture: Labelled) -> str:
    objects = "".join(
        f"<object><name>{escape(NAMES[kind])}</name><difficult>0</difficult><bndbox><xmin>{left + 1}</xmin>"
        f"<ymin>{top + 1}</ymin><xmax>{left + across}</xmax><ymax>{top + down}</ymax></bndbox></object>"
        for kind, left, top, across, down in picture.boxes
    )
    size = f"<size><width>{picture.width}</width><height>{picture.height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{picture.name}</filename>{size}{objects}</annotation>"


def write_voc(root: Path) -> None:
    draw(root / "JPEGImages", TRAIN + VAL)
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for split, pictures in (("train", TRAIN), ("val", VAL)):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{one.name[:-4]}\n" for one in pictures))
        for picture in pictures:
            (root / "Annotations" / f"{picture.name[:-4]}.xml").write_text(voc_text(picture), "utf-8")


def write_roboflow_voc(root: Path) -> None:
    for split, pictures in (("train", TRAIN), ("valid", VAL)):
        folder = draw(root / split, pictures)
        for picture in pictures:
            (folder / picture.name).with_suffix(".xml").write_text(voc_text(picture), "utf-8")


def write_labelme(root: Path) -> None:
    for split, pictures in (("train", TRAIN), ("val", VAL)):
        folder = draw(root / split, pictures)
        for picture in pictures:
            shapes = [
                {
                    "label": NAMES[kind],
                    "shape_type": "rectangle",
                    "points": [[left + across, top], [left, top + down]],
                }
                for kind, left, top, across, down in picture.boxes
            ]
            size = {"imageWidth": picture.width, "imageHeight": picture.height}
            content = {"version": "5.5.0", "shapes": shapes, "imagePath": picture.name, "imageData": None} | size
            (folder / picture.name).with_suffix(".json").write_text(json.dumps(content))


def write_cvat(root: Path) -> None:
    draw(root / "images", TRAIN)
    labels = "".join(f"<label><name>{escape(name)}</name></label>" for name in NAMES)
    images = ""
    for number, picture in enumerate(TRAIN):
        boxes = "".join(
            f'<box label="{escape(NAMES[kind])}" xtl="{left}" ytl="{top}" xbr="{left + across}" ybr="{top + down}"/>'
            for kind, left, top, across, down in picture.boxes
        )
        size = f'width="{picture.width}" height="{picture.height}"'
        images += f'<image id="{number}" name="{picture.name}" {size}>{boxes}</image>'
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    text = f"<annotations><version>1.1</version>{meta}{images}</annotations>"
    (root / "annotations.xml").write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{text}', "utf-8")


def write_createml(root: Path) -> None:
    for split, pictures in (("train", TRAIN), ("valid", VAL)):
        folder = draw(root / split, pictures)
        content = [
            {
                "image": picture.name,
                "annotations": [
                    {
                        "label": NAMES[kind],
                        "coordinates": {
                            "x": left + across / 2,
                            "y": top + down / 2,
                            "width": across,
                            "height": down,
                        },
                    }
                    for kind, left, top, across, down in picture.boxes
                ],
            }
            for picture in pictures
        ]
        (folder / "_annotations.createml.json").write_text(json.dumps(content))


def write_open_images(root: Path) -> None:
    for split, pictures in (("train", TRAIN), ("validation", VAL)):
        draw(root / split, pictures)
        lines = ["ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf"]
        for name, width, height, boxes in pictures:
            for kind, left, top, across, down in boxes:
                edges = (left / width, (left + across) / width, top / height, (top + down) / height)
                lines.append(f"{name[:-4]},xclick,/m/0{kind},1,{','.join(map(str, edges))},0,0,0")
        (root / f"{split}-annotations-bbox.csv").write_text("\n".join(lines) + "\n")
    names = "".join(f"/m/0{number},{name}\n" for number, name in enumerate(NAMES))
    (root / "class-descriptions-boxable.csv").write_text(names, "utf-8")


def write_label_studio_coco(root: Path) -> None:
    """Write categories that count from 0, and file names that begin with the folder of the images."""
    draw(root / "images", TRAIN)
    images, annotations = [], []
    for number, picture in enumerate(TRAIN):
        size = {"width": picture.width, "height": picture.height}
        images.append({"id": number, "file_name": f"images/{picture.name}"} | size)
        for kind, *box in picture.boxes:
            entry = {"image_id": number, "category_id": kind, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            annotations.append({"id": len(annotations)} | entry)
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES)]
    content = {"images": images, "categories": categories, "annotations": annotations}
    (root / "result.json").write_text(json.dumps(content))


TWO_SPLITS: dict[str, Callable[[Path], None]] = {
    "yolo": write_yolo,
    "cvat_yolo": write_cvat_yolo,
    "roboflow_darknet": write_roboflow_darknet,
    "voc": write_voc,
    "roboflow_voc": write_roboflow_voc,
    "labelme": write_labelme,
    "createml": write_createml,
    "open_images": write_open_images,
}
ONE_SPLIT: dict[str, Callable[[Path], None]] = {
    "cvat": write_cvat,
    "label_studio_coco": write_label_studio_coco,
    "label_studio_yolo": write_label_studio_yolo,
}
