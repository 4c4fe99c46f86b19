from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from benchmarks.labelling.saved import saved_labels
from benchmarks.labelling.spoiling import iou, spoil

CONTENT = {
    "images": [{"id": image, "file_name": f"{image}.jpg", "width": 300, "height": 200} for image in range(20)],
    "annotations": [
        {
            "id": 100 + n,
            "image_id": n % 20,
            "category_id": 1 + n % 3,
            "bbox": [10.0 + n, 20.0, 60.0, 50.0],
            "area": 3000,
        }
        for n in range(160)
    ],
    "categories": [{"id": number, "name": str(number)} for number in (1, 2, 3)],
}


def test_five_per_cent_of_the_labels_are_spoiled_in_equal_parts_as_their_kinds_say():
    content, spoiled = spoil(CONTENT, share=0.05, seed=1)
    assert Counter(one.kind for one in spoiled) == {"missing": 2, "class": 2, "loose": 2, "double": 2}
    before = {label["id"]: label for label in CONTENT["annotations"]}
    after = {label["id"]: label for label in content["annotations"]}
    assert len(after) == 160 - 2 + 2
    for one in spoiled:
        if one.kind == "missing":
            (gone,) = [n for n in before.keys() - after.keys() if before[n]["image_id"] == one.image_id]
            assert before[gone]["bbox"] == one.bbox
        elif one.kind == "class":
            assert after[one.ids[0]]["category_id"] != before[one.ids[0]]["category_id"]
        elif one.kind == "loose":
            assert 0.3 <= iou(after[one.ids[0]]["bbox"], one.bbox) <= 0.6
        else:
            old, new = one.ids
            assert after[old] == before[old]
            assert 0.7 <= iou(after[new]["bbox"], one.bbox) <= 0.95
    touched = {number for one in spoiled for number in one.ids}
    assert all(after[n] == before[n] for n in before.keys() & after.keys() - touched)


def row(way: str, pictures: int, ap: float) -> dict[str, Any]:
    return {"data": "d", "way": way, "pictures": pictures, "boxes": 10 * pictures, "AP_val": ap, "AP_test": ap}


def test_the_saved_part_is_interpolated_between_the_sizes():
    rows = [row("start", 20, 0.1), row("suggest", 40, 0.3), row("random", 40, 0.2), row("random", 80, 0.4)]
    found = {(one["split"], one["of"], one["random"]): one["part"] for one in saved_labels(rows)}
    assert found["test", "pictures", 40] == pytest.approx(30 / 40)  # halfway between 20 and 40
    assert found["test", "boxes", 400] == pytest.approx(300 / 400)
    assert found["test", "pictures", 80] is None
