"""What a pass over images adds up, on the device: losses, and how matched predictions tell classes."""

from __future__ import annotations

import torch
from lightning import Trainer
from torch import Tensor

from dino_detector.losses import LossTerms
from dino_detector.structures.predictions import MatchedIndices
from dino_detector.structures.targets import Targets


class LossSums:
    """Unweighted losses of many batches, whose mean by box does not depend on how images were batched.

    Attributes:
        sums: ``[3 * L + 1]`` float, the sums of the three terms by layer, and the number of boxes.
    """

    def __init__(self) -> None:
        self.sums: Tensor | None = None

    def add(self, terms: LossTerms, targets: Targets) -> None:
        """Add a batch whose terms are not divided by its boxes."""
        sums = torch.cat([*terms, targets.valid.sum().float().view(1)])
        self.sums = sums if self.sums is None else self.sums + sums

    def share(self, trainer: Trainer) -> None:
        """Add up those of all processes."""
        self.sums = trainer.strategy.reduce(self.sums, reduce_op="sum")

    @property
    def mean(self) -> LossTerms:
        """Losses by box."""
        *sums, boxes = self.sums
        return LossTerms(*(torch.stack(sums) / boxes.clamp(min=1)).view(3, -1))


class ClassCounts:
    """Counts of matched predictions of the last decoder layer, class by class.

    A prediction says the class with its highest score. Matching has already put it on the box, so these numbers are
    about telling classes apart, and not about finding objects.

    Attributes:
        counts: ``[3, C]`` int64: boxes of the class, predictions that say it, and predictions that rightly say it.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = torch.zeros(3, num_classes, dtype=torch.int64)

    def add(self, logits: Tensor, targets: Targets, matches: MatchedIndices) -> None:
        """Count the matches of a batch.

        Args:
            logits: ``[L, B, Q, C]``.
            targets: ground truth of the B images.
            matches: pairs of all L layers.
        """
        self.counts = self.counts.to(logits.device)
        pairs = len(matches.layer) // len(logits)  # every layer has as many, and the last has the last
        image, query, target = (index[len(matches.layer) - pairs :] for index in matches[1:])
        wanted = targets.labels[image, target]  # [M]
        said = logits[-1, image, query].argmax(-1)  # [M]
        ones = torch.ones_like(wanted)
        for row, labels, counted in ((0, wanted, ones), (1, said, ones), (2, wanted, (wanted == said).long())):
            self.counts[row].index_add_(0, labels, counted)

    def share(self, trainer: Trainer) -> None:
        """Add up those of all processes."""
        self.counts = trainer.strategy.reduce(self.counts, reduce_op="sum")

    @property
    def accuracy(self) -> list[float | None]:
        """Share of the boxes of each class whose prediction says it; None where there is no box."""
        return self._share_of(0)

    @property
    def precision(self) -> list[float | None]:
        """Share of the predictions that say a class which are right; None where none says it."""
        return self._share_of(1)

    def _share_of(self, row: int) -> list[float | None]:
        rows = self.counts.tolist()
        return [right / count if count else None for right, count in zip(rows[2], rows[row], strict=True)]
