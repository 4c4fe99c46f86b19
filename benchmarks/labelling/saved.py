"""How many labels a choice of pictures saves: the ratio of labels for the same AP as random choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def saved_labels(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each size of random choice the part of its labels with which ``suggest`` has the same AP.

    AP and numbers of labels are means over the seeds, and AP is interpolated between the sizes. The part is None where
    no measured size of ``suggest`` has the AP.

    Args:
        rows: rows of `suggest.simulate` of one data set.
    """
    found = []
    for split in ("val", "test"):
        for count in ("pictures", "boxes"):
            curves = {way: _curve(rows, way, count, f"AP_{split}") for way in ("random", "suggest")}
            for labels, ap in zip(*curves["random"], strict=True):
                needed = _labels_for(ap, *curves["suggest"])
                if labels > curves["random"][0][0]:  # at the start both have the same labels
                    part = None if needed is None else round(needed / labels, 3)
                    row = {"data": rows[0]["data"], "split": split, "of": count, "random": round(labels, 1)}
                    found.append(row | {"AP": round(float(ap), 4), "part": part})
    return found


def _curve(rows: Sequence[dict[str, Any]], way: str, count: str, ap: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean number of labels and the mean AP of each size, the start first."""
    sizes = sorted({row["pictures"] for row in rows if row["way"] in (way, "start")})
    own = [[row for row in rows if row["way"] in (way, "start") and row["pictures"] == size] for size in sizes]
    means = [[np.mean([row[name] for row in some]) for some in own] for name in (count, ap)]
    return np.array(means[0]), np.maximum.accumulate(means[1])


def _labels_for(ap: float, labels: np.ndarray, values: np.ndarray) -> float | None:
    """Return the number of labels at which a rising curve reaches an AP; None if it does not."""
    reached = np.flatnonzero(values >= ap)
    if not len(reached):
        return None
    stop = int(reached[0])
    if stop == 0:
        return float(labels[0])
    share = (ap - values[stop - 1]) / (values[stop] - values[stop - 1])
    return float(labels[stop - 1] + share * (labels[stop] - labels[stop - 1]))
