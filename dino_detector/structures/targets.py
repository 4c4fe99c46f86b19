"""Ground truth of a batch, padded so that matching and losses run without a loop over images.

Legend of the shapes in this package: B images, Q queries, C classes, L decoder layers, T the most boxes that any
image of the batch has, N boxes of one image, H and W pixels, h and w patches, D backbone width, d decoder width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Targets(NamedTuple):
    """Boxes and labels of a batch; rows of an image beyond its own boxes are padding.

    Attributes:
        boxes_cxcywh: ``[B, T, 4]`` float, centre and size as fractions of the input image; padding is zero.
        labels: ``[B, T]`` int64, contiguous class labels; padding is zero.
        valid: ``[B, T]`` bool, true for real boxes, which come first in every row.
    """

    boxes_cxcywh: Tensor
    labels: Tensor
    valid: Tensor

    @classmethod
    def pad(cls, boxes_cxcywh: Sequence[Tensor], labels: Sequence[Tensor]) -> Targets:
        """Pad the boxes ``[N_b, 4]`` and labels ``[N_b]`` of each image to the longest of the batch."""
        valid = [torch.ones(len(image_labels), dtype=torch.bool) for image_labels in labels]
        pad = torch.nn.utils.rnn.pad_sequence
        return cls(
            boxes_cxcywh=pad(list(boxes_cxcywh), batch_first=True),
            labels=pad(list(labels), batch_first=True),
            valid=pad(valid, batch_first=True),
        )
