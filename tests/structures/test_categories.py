from __future__ import annotations

import io

import pytest
import torch

from dino_detector.errors import InputError
from dino_detector.structures.categories import Categories

GAPS = Categories(ids=(0, 3, 90), names=("cat", "dog", "owl"))


def test_labels_are_positions_and_ids_come_back():
    assert [GAPS.label(category_id) for category_id in (0, 3, 90)] == [0, 1, 2]
    assert GAPS.ids == (0, 3, 90)
    assert len(GAPS) == 3


def test_unknown_category_is_an_error_and_never_class_0():
    with pytest.raises(InputError, match="category id 1 is unknown; known are 0 cat, 3 dog, 90 owl"):
        GAPS.label(1)


def test_ids_and_names_live_in_a_checkpoint():
    file = io.BytesIO()
    torch.save({"ids": list(GAPS.ids), "names": list(GAPS.names)}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert Categories(tuple(loaded["ids"]), tuple(loaded["names"])) == GAPS


def test_classes_of_one_name_are_told_apart() -> None:
    assert Categories((1, 4, 7), ("cat", "dog", "cat")).distinct_names == ("cat (1)", "dog", "cat (7)")
