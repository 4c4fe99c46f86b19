from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.subsets import Subset, class_balance, select
from dino_detector.errors import InputError

IDS = [5, 9, 10, 139, 285, 632, 724, 776, 785, 802, 872, 885]


def ranked_by_hand(seed: int) -> list[int]:
    """Rank the ids by the rule in the documentation, in independent code."""
    digests = {number: hashlib.blake2b(b"%d/%d" % (seed, number), digest_size=16).hexdigest() for number in IDS}
    return sorted(IDS, key=digests.__getitem__)


@pytest.mark.parametrize("seed", [0, 42, 123])
def test_a_smaller_subset_lies_within_a_larger_one(seed: int) -> None:
    chosen = [set(select(IDS, size=size, seed=seed)) for size in range(1, len(IDS) + 1)]
    assert all(smaller < larger for smaller, larger in itertools.pairwise(chosen))
    assert [len(ids) for ids in chosen] == list(range(1, len(IDS) + 1))


def test_selection_depends_on_seed_and_ids_alone() -> None:
    shuffled = random.Random(1).sample(IDS, len(IDS))
    assert select(shuffled, size=5, seed=42) == select(IDS, size=5, seed=42) == tuple(sorted(ranked_by_hand(42)[:5]))
    assert select(IDS, size=5, seed=43) == tuple(sorted(ranked_by_hand(43)[:5]))
    assert select(IDS, size=5, seed=42) != select(IDS, size=5, seed=43)


def test_selection_is_the_same_on_every_machine() -> None:
    """Worked out with ``printf 42/139 | b2sum -l 128`` for each id, and sorted."""
    assert select(IDS, size=4, seed=42) == (5, 724, 785, 872)


def coco(count: int = 6) -> dict[str, Any]:
    """Return images 10 * i with i boxes: even boxes have class 7, odd ones 90; one image has a crowd of class 3."""
    images = [{"id": 10 * i, "file_name": f"{i}.jpg", "height": 50, "width": 60} for i in range(1, count + 1)]
    annotations = [
        {"id": 100 * i + k, "image_id": 10 * i, "category_id": (7, 90)[k % 2], "bbox": [k, i, 10.5, 20], "iscrowd": 0}
        for i in range(1, count + 1)
        for k in range(i)
    ]
    annotations.append({"id": 5000, "image_id": 20, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1})
    names = [{"id": 3, "name": "ox"}, {"id": 7, "name": "cat"}, {"id": 90, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": names}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., CocoAnnotations]:
    def write(content: dict[str, Any] | None = None, name: str = "train.json") -> CocoAnnotations:
        (tmp_path / name).write_text(json.dumps(coco() if content is None else content))
        return CocoAnnotations.read(tmp_path / name)

    return write


def mini(annotations: CocoAnnotations, ids: tuple[int, ...] = (20, 50), split: str = "train") -> Subset:
    part = annotations.restricted_to(ids)
    return Subset.of(part, annotations, name="coco_mini_1k_seed42", split=split, size="1k", seed=42)


def test_a_restricted_file_holds_its_images_and_what_belongs_to_them(written: Callable[..., CocoAnnotations]) -> None:
    whole = written()
    part = whole.restricted_to([50, 20])
    assert [record.image_id for record in part.images] == [20, 50]
    assert [image["id"] for image in part.ground_truth["images"]] == [20, 50]
    assert [entry["id"] for entry in part.ground_truth["annotations"]] == [200, 201, 500, 501, 502, 503, 504, 5000]
    assert [entry["id"] for entry in part.annotations_of(20)] == [200, 201, 5000]
    assert part.categories == whole.categories
    for image_id in (20, 50):
        boxes, labels = part.training_boxes(image_id)
        assert boxes.tolist() == whole.training_boxes(image_id)[0].tolist()
        assert labels.tolist() == whole.training_boxes(image_id)[1].tolist()
    assert len(part.training.labels) == 7  # without the crowd
    assert len(whole.restricted_to([]).training.labels) == 0


def test_a_subset_survives_its_file(written: Callable[..., CocoAnnotations], tmp_path: Path) -> None:
    subset = mini(written())
    path = subset.write(tmp_path)
    assert path.name == "coco_mini_1k_seed42_indices.json"
    content = json.loads(path.read_text())
    assert content["image_ids"] == [20, 50]
    assert content["boxes"] == {"ox": 0, "cat": 4, "dog": 3}
    again = Subset.read(path)
    assert (again.image_ids, again.source, again.split, again.size, again.seed) == (
        subset.image_ids,
        subset.source,
        *("train", "1k", 42),
    )


def test_train_and_validation_do_not_overwrite_each_other(written: Callable[..., CocoAnnotations]) -> None:
    annotations = written()
    assert mini(annotations, split="val").file_name == "coco_mini_1k_seed42_val_indices.json"
    assert mini(annotations).file_name != mini(annotations, split="val").file_name


def test_the_same_annotations_in_another_order_and_place_are_accepted(
    written: Callable[..., CocoAnnotations], tmp_path: Path
) -> None:
    subset = mini(written())
    content = coco()
    for key in ("images", "annotations", "categories"):
        content[key].reverse()
    subset.require_source(written(content, "copy.json"), path=tmp_path / "x.json", split="train")


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    content = coco()
    change(content)
    return content


OTHER = [
    (coco(5), "of 6 images, but here are 5"),
    (changed(lambda c: c["annotations"].pop(0)), "with 22 annotations, but here are 21"),
    (changed(lambda c: c["annotations"][3].update(bbox=[1, 3, 10.5, 21])), "images, categories or boxes differ"),
    (changed(lambda c: c["annotations"][3].update(category_id=3)), "images, categories or boxes differ"),
    (changed(lambda c: c["categories"][0].update(name="yak")), "images, categories or boxes differ"),
    (changed(lambda c: c["images"][2].update(file_name="z.jpg")), "images, categories or boxes differ"),
]


@pytest.mark.parametrize(("content", "mismatch"), OTHER, ids=[mismatch for _, mismatch in OTHER])
def test_other_annotations_are_refused_by_naming_the_mismatch(
    content: dict[str, Any], mismatch: str, written: Callable[..., CocoAnnotations], tmp_path: Path
) -> None:
    subset = mini(written())
    other = written(content, "other.json")
    with pytest.raises(InputError) as caught:
        subset.require_source(other, path=Path("x_indices.json"), split="train")
    assert re.match(rf"x_indices.json: was made from train.json .*{mismatch} \(.*other.json\)", str(caught.value))


def test_images_of_the_subset_that_are_not_there_are_named(written: Callable[..., CocoAnnotations]) -> None:
    subset = mini(written())

    def renumber(content: dict[str, Any]) -> None:
        content["images"][1]["id"] = 21
        for entry in content["annotations"]:
            entry["image_id"] = {20: 21}.get(entry["image_id"], entry["image_id"])

    with pytest.raises(InputError, match="with an image 20, which is not here"):
        subset.require_source(written(changed(renumber), "other.json"), path=Path("x"), split="train")


def test_an_image_that_was_never_there_is_named(written: Callable[..., CocoAnnotations], tmp_path: Path) -> None:
    annotations = written()
    path = mini(annotations).write(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_ids": [20, 77]}))
    with pytest.raises(InputError, match="with an image 77, which is not here"):
        Subset.read(path).require_source(annotations, path=path, split="train")


def test_a_training_subset_is_refused_for_validation(written: Callable[..., CocoAnnotations]) -> None:
    annotations = written()
    with pytest.raises(InputError, match="of the train split, but this is the val split"):
        mini(annotations).require_source(annotations, path=Path("x"), split="val")


DAMAGE = [
    ("not json", "no indices file"),
    ("[1, 2]", "no indices file.*array"),
    ('{"format": 1}', "no indices file.*`name`"),
]


@pytest.mark.parametrize(("text", "problem"), DAMAGE)
def test_a_file_that_is_no_subset_is_named(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=f"x.json: {problem}.*--coco_mini_indices_file"):
        Subset.read(tmp_path / "x.json")
    with pytest.raises(InputError, match=r"none.json: no such indices file"):
        Subset.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("key", "value"), [("format", 2), ("source", None), ("source", {}), ("size", 3), ("seed", True)], ids=str
)
def test_a_subset_with_a_wrong_field_is_refused(
    key: str, value: Any, written: Callable[..., CocoAnnotations], tmp_path: Path
) -> None:
    path = mini(written()).write(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(InputError, match=key):
        Subset.read(path)


@pytest.mark.parametrize("ids", [[], [3, 2], [2, 2], ["2"], [True]])
def test_ids_that_do_not_ascend_are_refused(
    ids: list[Any], written: Callable[..., CocoAnnotations], tmp_path: Path
) -> None:
    path = mini(written()).write(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_ids": ids}))
    with pytest.raises(InputError, match="image_ids"):
        Subset.read(path)


def test_the_balance_of_classes_is_told(written: Callable[..., CocoAnnotations]) -> None:
    """12 of 21 boxes are cats; images 20 and 50 have 4 cats and 3 dogs; the ox is a crowd, so it is not trained on."""
    whole = written()
    assert class_balance(whole, whole.restricted_to([20, 50])) == (
        "7 boxes of 2 of 2 classes; most are cat with 57.1%, 57.1% in the whole; class shares differ by 0.0%"
    )
    assert class_balance(whole, whole.restricted_to([10])) == (
        "1 boxes of 1 of 2 classes (none of dog); most are cat with 100.0%, 57.1% in the whole; "
        "class shares differ by 42.9%"
    )
