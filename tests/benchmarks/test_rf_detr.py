"""RF-DETR in its own environment; the tests run only if ``RFDETR_PYTHON`` names its interpreter."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.accuracy import runs
from benchmarks.accuracy.job import Job
from benchmarks.accuracy.recorder import OVERRUN
from benchmarks.accuracy.systems import SYSTEMS

PYTHON = os.environ.get("RFDETR_PYTHON")


@pytest.mark.skipif(PYTHON is None, reason="RFDETR_PYTHON names no interpreter that has rfdetr[train]")
def test_it_trains_the_job_s_backbone_and_detects_in_original_pixels_with_the_data_set_s_ids(
    job: Callable[..., Job], tmp_path: Path
):
    system = SYSTEMS["rf_detr_1_group"]
    backbone = {"hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 2}
    asked = job(system="rf_detr_1_group", settings=system.settings, backbone=backbone, budget=20.0, evaluations=2)
    asked = dataclasses.replace(asked, folder=str(tmp_path / "new"))
    result = runs.run(asked, python=Path(PYTHON), module=system.module, threads=1)
    assert len(result["evaluations"]) == 2
    assert result["evaluations"][-1]["seconds"] < asked.budget * OVERRUN + 2
    assert result["parameters"] < 6e6  # with ViT-S it would have 26 million
    sizes = {31: (200, 100), 12: (90, 160)}
    found = json.loads(Path(asked.folder, result["evaluations"][-1]["predictions"]).read_text())
    assert {detection["image_id"] for detection in found} == sizes.keys()
    assert {detection["category_id"] for detection in found} == {4, 9}
    for image_id, (width, height) in sizes.items():
        corners = [(x + w, y + h) for x, y, w, h in (one["bbox"] for one in found if one["image_id"] == image_id)]
        assert max(right for right, _ in corners) > 0.6 * width
        assert max(bottom for _, bottom in corners) > 0.6 * height
        assert all(right < 1.5 * width and bottom < 1.5 * height for right, bottom in corners)
        assert sum(one["image_id"] == image_id for one in found) == 100
