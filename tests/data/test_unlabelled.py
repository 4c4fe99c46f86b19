from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from coco_tree import CocoTree
from PIL import Image

from dino_detector.data.coco.unlabelled import find_image_info, list_pictures, read_image_info
from dino_detector.errors import InputError
from dino_detector.structures.categories import Categories

CLASSES = Categories((3, 90), ("ox", "owl"))


def draw(path: Path, *, orientation: int = 1) -> None:
    """Save a picture that is stored 8 wide and 6 high."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(path, exif=exif)


def ids_and_names(folder: Path) -> list[tuple[int, str]]:
    return [(record.image_id, record.file_name) for record in list_pictures(folder, CLASSES)[0].images]


def test_names_that_are_numbers_are_the_ids(tmp_path: Path) -> None:
    for name in ("000000000139.jpg", "000000000025.jpg", "7.png"):
        draw(tmp_path / name)
    assert ids_and_names(tmp_path) == [(25, "000000000025.jpg"), (139, "000000000139.jpg"), (7, "7.png")]


def test_numbers_beyond_64_bits_are_no_ids(tmp_path: Path) -> None:
    draw(tmp_path / "20260101120000123456.jpg")
    assert ids_and_names(tmp_path) == [(1, "20260101120000123456.jpg")]


@pytest.mark.parametrize("other", ["street.jpg", "0025.png", "²5.jpg"])
def test_other_names_are_counted_from_1_in_sorted_order(other: str, tmp_path: Path) -> None:
    for name in ("25.png", "b.png", other):
        draw(tmp_path / name)
    names = sorted(("25.png", "b.png", other))
    assert ids_and_names(tmp_path) == list(enumerate(names, start=1))


def test_a_folder_gives_images_without_boxes_in_displayed_size(tmp_path: Path) -> None:
    draw(tmp_path / "1.jpg")
    draw(tmp_path / "2.jpg", orientation=6)
    images, _ = list_pictures(tmp_path, CLASSES)
    assert [(record.height, record.width) for record in images.images] == [(6, 8), (8, 6)]
    assert images.categories == CLASSES
    assert images.ground_truth["annotations"] == []
    assert images.training_boxes(1)[0].shape == (0, 4)


def test_a_picture_that_is_none_is_reported_and_left_out(tmp_path: Path) -> None:
    draw(tmp_path / "1.jpg")
    (tmp_path / "2.jpg").write_text("no picture")
    images, unreadable = list_pictures(tmp_path, CLASSES)
    assert [record.image_id for record in images.images] == [1]
    (line,) = unreadable
    assert line.startswith(f"{tmp_path / '2.jpg'}: cannot be read as an image")
    (tmp_path / "1.jpg").unlink()
    with pytest.raises(InputError, match="none of its 1 pictures can be read"):
        list_pictures(tmp_path, CLASSES)


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path}: holds no pictures"):
        list_pictures(tmp_path, CLASSES)
    with pytest.raises(InputError, match="no such picture or folder"):
        list_pictures(tmp_path / "none", CLASSES)


def test_the_list_of_test_dev_is_found_beside_the_folder_or_in_it(coco2017: CocoTree, tmp_path: Path) -> None:
    assert find_image_info(coco2017.test_images) == coco2017.test_dev_info
    other = coco2017.test_images.with_name("unlabeled2017")
    assert find_image_info(other) == coco2017.test_dev_info, "its images may be downloaded"
    other.mkdir()
    draw(other / "7.png")
    assert find_image_info(other) is None, "the list is of other images"
    assert find_image_info(tmp_path) is None
    shutil.copy(coco2017.test_dev_info, tmp_path)
    assert find_image_info(tmp_path) == tmp_path / "image_info_test-dev2017.json"


def test_the_list_gives_the_images_of_test_dev_alone(coco2017: CocoTree) -> None:
    listed = {image["id"] for image in json.loads(coco2017.test_dev_info.read_text())["images"]}
    images = read_image_info(coco2017.test_dev_info, CLASSES)
    assert {record.image_id for record in images.images} == listed
    assert len(listed) < len(list(coco2017.test_images.iterdir()))
    assert images.categories == CLASSES


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"images": [{"id": 1}]}'])
def test_a_list_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "info.json").write_text(text)
    with pytest.raises(InputError, match=r"info\.json: "):
        read_image_info(tmp_path / "info.json", CLASSES)
