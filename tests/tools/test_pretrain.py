"""The command that pretrains the demo backbone, on a few scenes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import torch
from safetensors.torch import load_file

from dino_detector.config import BackboneConfig
from dino_detector.inference.detector import Detector
from dino_detector.models.dinov2_backbone import build_backbone

ROOT = Path(__file__).parents[2]


def test_the_written_backbone_is_the_trained_one(tmp_path: Path, warm_python: Path) -> None:
    command = [str(warm_python), "-m", "tools.pretrain_demo_backbone", "--output", str(tmp_path)]
    command += ["--scenes_train", "4", "--scenes_val", "2", "--epochs", "1"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    folder = tmp_path / "backbone"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 12e6
    weights = load_file(folder / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    found = build_backbone(BackboneConfig(dino_model=str(folder), train_backbone="none"))
    trained = Detector.load(tmp_path / "run" / "dino_detector_best.pth", device="cpu").backbone
    images = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        for one, other in zip(found.eval()(images), trained.eval()(images), strict=True):
            torch.testing.assert_close(one, other, atol=0.03, rtol=0.03)
