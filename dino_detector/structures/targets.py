"""Ground truth of a batch, padded to tensors.

Symbols of shapes in this package:

====  =====================================================
B     images of the batch
T     largest number of boxes in an image of the batch
N     boxes of one image
C     classes
L     decoder layers
Q     queries
G     groups of queries
M     matched pairs of a query and a box
S     positions of all feature levels together
H, W  pixels of the input image
h, w  patches of the backbone, or cells of a feature level
D     width of the backbone
d     width of the decoder
====  =====================================================

Boxes ``cxcywh`` are centre and size as fractions of the input image, in 0..1; boxes ``xyxy`` are corners.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class Targets(NamedTuple):
    """Boxes and labels of a batch.

    Attributes:
        boxes_cxcywh: ``[B, T, 4]`` float; padding is zero.
        labels: ``[B, T]`` int64, contiguous class labels; padding is zero.
        valid: ``[B, T]`` bool, true for boxes and false for padding; padding comes last.
    """

    boxes_cxcywh: Tensor
    labels: Tensor
    valid: Tensor

    @classmethod
    def pad(cls, boxes_cxcywh: Sequence[Tensor], labels: Sequence[Tensor]) -> Targets:
        """Pad the boxes ``[N, 4]`` and the labels ``[N]`` of each image to the largest N of the batch."""
        valid = [torch.ones(len(image_labels), dtype=torch.bool) for image_labels in labels]
        return cls(*(pad_sequence(list(column), batch_first=True) for column in (boxes_cxcywh, labels, valid)))
