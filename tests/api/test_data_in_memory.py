"""Data sets in memory: the user's own `torch.utils.data.Dataset` of images and boxes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

import dino_detector as dd
from dino_detector.data.items import ItemImages, Items, categories_of


class Squares(Dataset):
    """Bright squares on dark images of 40 x 60 pixels; item 2 is empty."""

    def __init__(self, count: int = 5, *, first_label: int = 0, move: bool = False) -> None:
        self.count, self.first_label, self.move = count, first_label, move
        self.seen: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        if index >= self.count:
            raise IndexError(index)
        self.seen.append(index)
        pixels, left = np.zeros((40, 60, 3), np.uint8), 5 + index + (len(self.seen) if self.move else 0)
        if index == 2:
            return Image.fromarray(pixels), {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
        pixels[10:30, left : left + 20] = 200
        image = torch.from_numpy(pixels).permute(2, 0, 1) / 255 if index == 1 else pixels
        label = self.first_label + index % 2
        return image, {"boxes": torch.tensor([[left, 10, left + 20, 30]]), "labels": torch.tensor([label])}


def annotations(data: Any, classes: Any, tmp_path: Path) -> Any:
    return Items(data, categories_of(classes), split="train").annotations(tmp_path / "a.json")


def test_items_become_annotations_with_the_sizes_of_the_images(tmp_path: Path):
    read = annotations(Squares(), ["cat", "dog"], tmp_path)
    assert read.images.sizes.tolist() == [[40, 60]] * 5
    assert read.training.boxes_xyxy.tolist() == [[5 + i, 10, 25 + i, 30] for i in (0, 1, 3, 4)]
    assert read.training.labels.tolist() == [0, 1, 1, 0]
    counted_from_1 = annotations(Squares(first_label=1), {1: "cat", 2: "dog"}, tmp_path)
    assert counted_from_1.categories.ids == (1, 2)
    assert counted_from_1.training.labels.tolist() == [0, 1, 1, 0]


def item(**target: Any) -> list[Any]:
    return [(np.zeros((8, 8, 3), np.uint8), {"boxes": [[1, 1, 4, 4]], "labels": [0], **target})]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Squares(first_label=1), 'item 1: label 2 is none of the classes, 0 cat, 1 dog; if labels start at 1, give '
         "classes={1: 'cat', 2: 'dog'}"),
        (item(labels=[5]), "item 0: label 5 is none of the classes"),
        (item(labels=[0.5]), '"labels" must be whole numbers'),
        (item(labels=[0, 1]), "one for each of 1 boxes"),
        (item(boxes=[[4, 4, 1, 1]]), '"boxes" has [4.0, 4.0, 1.0, 1.0]'),
        (item(boxes=[[1, 2, 3]]), '"boxes" must be [N, 4]'),
        (item(boxes=[[1, 1, 4, 4], [1, 2, 3]]), 'item 0: "boxes" is no array of numbers with rows of one length'),
        (item(boxes=[["a", 1, 4, 4]]), '"boxes" must be numbers'),
        (item(boxes=None), '"boxes" must be numbers'),
        (item(labels=[[0], [0, 1]]), 'item 0: "labels" is no array of numbers with rows of one length'),
        (item(boxes=[[1, 1, float("nan"), 4]]), '"boxes" has'),
        ([(np.zeros((8, 8, 3), np.uint8), [])], "its target is list"),
        ([(np.zeros((8, 8, 3), np.float32), {"boxes": [], "labels": []})], "a numpy image must be uint8"),
        ([7], "is int, and must be a pair"),
        ([], "has no items"),
    ],
)  # fmt: skip
def test_a_wrong_item_is_named_in_one_line(data: Any, message: str, tmp_path: Path):
    with pytest.raises(dd.InputError) as caught:
        annotations(data, ["cat", "dog"], tmp_path)
    assert "the training data set" in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tensors_of_a_graph_and_of_other_types_are_read(tmp_path: Path):
    boxes = torch.tensor([[1.0, 1.0, 4.0, 5.0]], requires_grad=True)
    image = torch.full((3, 8, 8), 0.5, requires_grad=True)
    target = {"boxes": boxes * 1, "labels": torch.tensor([1])}
    rows = {"boxes": list(boxes), "labels": [torch.tensor(1)]}
    half = {"boxes": boxes.bfloat16(), "labels": np.array([1])}
    read = annotations([(image * 1, target), (image, rows), (image, half)], ["cat", "dog"], tmp_path)
    assert read.training.boxes_xyxy.tolist() == [[1, 1, 4, 5]] * 3
    assert read.training.labels.tolist() == [1, 1, 1]


def test_random_transforms_show_at_every_access_and_image_and_boxes_fit(tmp_path: Path):
    data = Squares(move=True)
    items = Items(data, categories_of(["cat", "dog"]), split="train")
    images = ItemImages(items, items.annotations(tmp_path / "a.json"), fixed=False)
    lefts = set()
    for _ in range(3):
        sample = images.snapshot()
        left = int(sample.objects(0).boxes_xyxy[0, 0])
        columns = sample.read(0)[0, 20].nonzero().flatten()
        assert columns[0] == left, "the boxes are those of this image"
        lefts.add(left)
    assert len(lefts) == 3


def test_validation_data_must_stay_as_it_was(tmp_path: Path):
    items = Items(Squares(move=True), categories_of(["cat", "dog"]), split="val")
    images = ItemImages(items, items.annotations(tmp_path / "a.json"), fixed=True)
    with pytest.raises(dd.InputError, match="item 0: has another size, other boxes or other labels"):
        images.snapshot().read(0)
    relabelled = Squares()
    items = Items(relabelled, categories_of(["cat", "dog", "cow"]), split="val")
    images = ItemImages(items, items.annotations(tmp_path / "a.json"), fixed=True)
    relabelled.first_label = 1
    with pytest.raises(dd.InputError, match=r"item 0: has .* other labels"):
        images.snapshot().read(0)
    steady = Items(Squares(), categories_of(["cat", "dog"]), split="val")
    images = ItemImages(steady, steady.annotations(tmp_path / "a.json"), fixed=True)
    assert images.snapshot().read(3).shape == (3, 40, 60)


@pytest.mark.parametrize("classes", ["cat", [], 3, {"cat": 1}, [1, 2]])
def test_classes_are_a_list_or_a_mapping_of_names(classes: Any):
    with pytest.raises(dd.InputError, match="classes must be a list of names"):
        categories_of(classes)


def test_a_data_set_in_memory_trains_and_evaluates(
    small: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    train: Callable[..., dd.Run] = dd.train
    data = Squares()
    with pytest.raises(dd.InputError, match="needs classes"):
        train(Squares(), output_dir=tmp_path, **small)
    with pytest.raises(dd.InputError, match="cache_trunk knows images by their files"):
        train(Squares(), classes=["cat", "dog"], cache_trunk=tmp_path / "cache", output_dir=tmp_path, **small)
    run = train(data, val=Squares(3), classes=["cat", "dog"], epochs=1, output_dir=tmp_path, **small)
    assert run.metrics.num_images == 3
    assert [(one.category_id, one.name, one.boxes) for one in run.metrics.per_class] == [(0, "cat", 1), (1, "dog", 1)]
    assert sorted(set(data.seen)) == [0, 1, 2, 3, 4]
    assert data.seen.count(0) >= 2, "an item is fetched again in training"
    assert dd.Detector.load(run.best, device="cpu").categories.names == ("cat", "dog")
    report = dd.evaluate(Squares(4), checkpoint=run.best, output_dir=tmp_path / "e", device="cpu", num_workers=0)
    assert report.metrics.num_images == 4
    truth = json.loads((tmp_path / "e" / "evaluated_annotations.json").read_text())
    assert [one["bbox"] for one in truth["annotations"]] == [[5 + i, 10, 20, 20] for i in (0, 1, 3)]
    assert report.analyze().page.is_file()
