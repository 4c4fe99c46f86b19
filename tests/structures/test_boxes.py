from __future__ import annotations

import pytest
import torch
from torchvision.ops import box_iou, generalized_box_iou

from dino_detector.structures.boxes import generalized_iou, iou


def random_boxes_xyxy(*shape: int) -> torch.Tensor:
    corners = torch.rand(*shape, 2, 2)
    return torch.cat([corners.amin(-2), corners.amax(-2)], dim=-1)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param([0, 0, 2, 2], [0, 0, 2, 2], 1.0, id="the same"),
        pytest.param([0, 0, 2, 2], [1, 0, 3, 2], 2 / 6, id="half overlap, hull full"),
        pytest.param([0, 0, 2, 2], [1, 1, 3, 3], 1 / 7 - 2 / 9, id="diagonal overlap"),
        pytest.param([0, 0, 1, 1], [2, 0, 3, 1], 0 - 1 / 3, id="apart"),
        pytest.param([0, 0, 4, 4], [1, 1, 2, 2], 1 / 16, id="one inside the other"),
    ],
)
def test_generalized_iou_equals_the_value_worked_out_by_hand(first: list, second: list, expected: float):
    value = generalized_iou(torch.tensor(first).float(), torch.tensor(second).float())
    torch.testing.assert_close(value, torch.tensor(expected))


def test_both_equal_torchvision_on_all_pairs():
    first, second = random_boxes_xyxy(7), random_boxes_xyxy(9)
    torch.testing.assert_close(iou(first[:, None], second), box_iou(first, second))
    torch.testing.assert_close(generalized_iou(first[:, None], second), generalized_box_iou(first, second))


def test_generalized_iou_broadcasts_leading_dimensions():
    first, second = random_boxes_xyxy(3, 2, 5, 1), random_boxes_xyxy(2, 1, 4)
    values = generalized_iou(first, second)
    assert values.shape == (3, 2, 5, 4)
    torch.testing.assert_close(values[2, 1], generalized_box_iou(first[2, 1, :, 0], second[1, 0]))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([0.3, 0.3, 0.3, 0.3], [0.3, 0.3, 0.3, 0.3]),
        ([0.3, 0.3, 0.3, 0.3], [0.6, 0.6, 0.6, 0.6]),
        ([0.3, 0.1, 0.3, 0.9], [0.3, 0.2, 0.3, 0.5]),
        ([0.0, 0.0, 0.0, 0.0], [0.1, 0.1, 0.2, 0.2]),
    ],
)
def test_boxes_without_area_give_numbers_and_gradients(first: list, second: list):
    first_xyxy = torch.tensor(first, requires_grad=True)
    value = generalized_iou(first_xyxy, torch.tensor(second))
    value.backward()
    assert iou(first_xyxy, torch.tensor(second)) == 0
    assert -1 <= value.item() <= 1
    assert first_xyxy.grad.isfinite().all()
