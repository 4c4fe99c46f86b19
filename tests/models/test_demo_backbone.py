"""The small backbone that comes with the package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hub_cache import serve_hub_cache
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from dino_detector.config import BackboneConfig, Config
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.demo_set import write_demo_set
from dino_detector.data.pictures.decoding import read_image
from dino_detector.inference.detector import Detector, build_detector
from dino_detector.models.dinov2_backbone import Dinov2Backbone, build_backbone
from dino_detector.models.dinov2_base import SHIPPED, random_architecture, untrained
from dino_detector.structures.categories import Categories

SIDE = 112
"""input size of its pretraining, pixels"""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run without a network and a hub cache, in another folder."""
    serve_hub_cache(tmp_path / "empty", monkeypatch)
    monkeypatch.chdir(tmp_path)


def test_it_is_small_and_says_how_it_was_made() -> None:
    folder = SHIPPED["dinov2-demo"]
    assert sum(file.stat().st_size for file in folder.iterdir()) < 12e6
    assert "python -m tools.pretrain_demo_backbone" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("elsewhere")
def test_a_checkpoint_on_it_names_it_and_holds_no_weight_of_it(tmp_path: Path) -> None:
    config = Config.from_flat({"dino_model": "dinov2-demo", "image_size": SIDE})
    build_detector(config, categories=Categories((1,), ("cell",))).save(tmp_path / "detector.pth")
    loaded = Detector.load(tmp_path / "detector.pth", device="cpu")
    assert loaded.config.backbone.dino_model == "dinov2-demo"
    stored = torch.load(tmp_path / "detector.pth", weights_only=True)["state_dict"]
    of_backbone = {name for name in stored if name.startswith("detector.backbone")}
    assert of_backbone
    assert all("lora_" in name for name in of_backbone)


@pytest.mark.usefixtures("elsewhere")
def test_a_folder_of_that_name_wins_as_it_does_over_the_hub(tmp_path: Path) -> None:
    four_layers = random_architecture("facebook/dinov2-small", {"num_hidden_layers": 4})
    untrained(four_layers.to_dict()).save_pretrained(tmp_path / "dinov2-demo")
    assert build_backbone(BackboneConfig(dino_model="dinov2-demo")).depth == 4


def patches(backbone: Dinov2Backbone, images: Path, path: Path) -> tuple[Tensor, Tensor]:
    """Return the last layer's features of each patch ``[N, D]``, and whether its centre lies in a box ``[N]``."""
    annotations = CocoAnnotations.read(path)
    features, within = [], []
    for record in annotations.images:
        boxes, _ = annotations.training_boxes(record.image_id)
        pixels = resize(read_image(images / record.file_name), [SIDE, SIDE]) / 127.5 - 1
        with torch.no_grad():
            maps = backbone.eval()(pixels[None])[-1]
        features.append(maps[0].flatten(1).T)
        rows, columns = ((torch.arange(side) + 0.5) / side for side in maps.shape[2:])
        centres = torch.cartesian_prod(rows * record.height, columns * record.width).flip(1)[:, None]  # [N, 1, xy]
        within.append(((centres > boxes[:, :2]) & (centres < boxes[:, 2:])).all(-1).any(-1))
    return torch.cat(features), torch.cat(within)


def mistakes_of_a_linear_probe(config: BackboneConfig, folder: Path) -> float:
    """Return the balanced error of a ridge regression that separates objects from background in unseen pictures."""
    files = write_demo_set(folder, train_images=60, val_images=30)
    torch.manual_seed(0)
    backbone = build_backbone(config)
    features, within = patches(backbone, files.train_images, files.train_annotations)
    unseen, truth = patches(backbone, files.val_images, files.val_annotations)
    mean, std = features.mean(0), features.std(0)
    features, unseen = (features - mean) / std, (unseen - mean) / std
    signs = torch.where(within, 1 / within.sum(), -1 / (~within).sum())  # balanced
    gram = features.T @ features / len(features) + 0.01 * torch.eye(features.shape[1])
    found = unseen @ torch.linalg.solve(gram, features.T @ signs) > 0
    return float((~found)[truth].float().mean() + found[~truth].float().mean()) / 2


def test_it_tells_objects_from_ground_that_it_was_not_trained_on(tmp_path: Path) -> None:
    trained = BackboneConfig(dino_model="dinov2-demo", train_backbone="none")
    untrained = replace(trained, backbone_weights="random")
    few, many = (mistakes_of_a_linear_probe(config, tmp_path / "data") for config in (trained, untrained))
    assert few < 0.6 * many
