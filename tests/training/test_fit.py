"""Whole runs: a detector overfits a few images, and only the trainable weights change."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from transformers import Dinov2Model

from dino_detector.inference.detector import Detector

BY_HEART = {
    "image_size": 112,
    "batch_size": 4,
    "learning_rate": 4e-3,
    "gradient_clip": 1.0,
    "weight_decay": 0.0,
    "num_queries": 16,
    "n_points": 4,
    "hidden_dim": 64,
    "num_heads": 4,
    "feedforward_dim": 128,
    "box_head_dim": 128,
    "backbone_architecture": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "mlp_ratio": 2,
        "image_size": 112,
    },
    "val_frequency": 1000,
}
LEARNED_QUERIES = {"two_stage": False, "denoising_queries": 0}
ADAPTERS = {
    "train_backbone": "lora",
    "lora_rank": 8,
    "lora_layers": 2,
    "lora_targets": ["query", "key", "value", "output", "mlp"],
}


@pytest.fixture(scope="module")
def four(tmp_path_factory, draw_boxes):
    return draw_boxes(tmp_path_factory.mktemp("data"), "four", 4)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"epochs": 45, **LEARNED_QUERIES, **ADAPTERS}, id="lora-deformable"),
        pytest.param(
            {"epochs": 85, **LEARNED_QUERIES, "train_backbone": "none", "use_deformable": False}, id="none-standard"
        ),
        pytest.param({"epochs": 75}, id="full-proposals-denoising"),
    ],
)
def test_model_overfits_4_images(tmp_path, train, four, changes):
    data = {
        "train_images": four.images,
        "train_annotations": four.annotations,
        "val_images": four.images,
        "val_annotations": four.annotations,
    }
    run = train(tmp_path, **BY_HEART, **data, **changes)
    assert run.metrics.AP > 0.9
    content = json.loads(four.annotations.read_text())
    image, annotations = content["images"][3], [a for a in content["annotations"] if a["image_id"] == 35]
    found = Detector.load(tmp_path / "dino_detector_final.pth", device="cpu").predict(four.images / image["file_name"])
    assert len(found) == len(annotations) == 2
    order = found.xyxy[:, 0].argsort()
    assert found.class_id[order].tolist() == [annotation["category_id"] for annotation in annotations]
    for (left, top, right, bottom), annotation in zip(found.xyxy[order], annotations, strict=True):
        assert [left, top, right - left, bottom - top] == pytest.approx(annotation["bbox"], abs=3)


class Keep(Callback):
    """Keep copies of the weights before and after training, and the names of the trained weights."""

    def on_fit_start(self, trainer, module):
        self.before = {name: value.detach().clone() for name, value in module.detector.named_parameters()}
        self.trains = {name for name, value in module.detector.named_parameters() if value.requires_grad}

    def on_train_end(self, trainer, module):
        after = dict(module.detector.named_parameters())
        self.changed = {name for name in after if not torch.equal(after[name], self.before[name])}
        self.after = after


FROM_FOLDER = {"backbone_weights": "pretrained", "backbone_architecture": {}, "epochs": 2}


@pytest.mark.parametrize(("train_backbone", "adapted"), [("lora", 4), ("none", 0)])
def test_frozen_base_stays_as_it_was_downloaded(tmp_path, train, dinov2_folder, train_backbone, adapted):
    keep = Keep()
    train(tmp_path, keep, **FROM_FOLDER, dino_model=str(dinov2_folder), train_backbone=train_backbone)
    base = {name: value for name, value in keep.after.items() if name.startswith("backbone.") and "lora_" not in name}
    wanted = {name.replace(".base_layer", "").removeprefix("backbone.model."): value for name, value in base.items()}
    downloaded = dict(Dinov2Model.from_pretrained(dinov2_folder).named_parameters())
    del downloaded["embeddings.mask_token"]
    assert wanted.keys() == downloaded.keys()
    assert all(torch.equal(wanted[name], downloaded[name]) for name in wanted)
    assert sum(name.startswith("backbone.") for name in keep.changed) == adapted


@pytest.mark.parametrize("train_backbone", ["lora", "full", "none"])
@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_everything_that_is_to_train_does_and_nothing_else(tmp_path, train, dinov2_folder, train_backbone, weights):
    keep = Keep()
    base = FROM_FOLDER | {"dino_model": str(dinov2_folder)} if weights == "pretrained" else {"epochs": 2}
    train(tmp_path, keep, **base, train_backbone=train_backbone)
    assert keep.changed == keep.trains
    of_backbone = {name for name in keep.trains if name.startswith("backbone.")}
    whole = {name for name in keep.after if name.startswith("backbone.")}
    assert {"lora": len(of_backbone) == 4, "full": of_backbone == whole, "none": not of_backbone}[train_backbone]
    assert {name for name in keep.after if not name.startswith("backbone.")} <= keep.trains


def edited(split, folder, change) -> dict:
    """Return training data with annotations that were changed in place."""
    content = json.loads(split.annotations.read_text())
    change(content)
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return {"train_annotations": path}


def test_images_with_crowds_alone_or_nothing_are_trained_on(tmp_path, train, train_split):
    def change(content):
        for annotation in content["annotations"]:
            annotation["iscrowd"] = int(annotation["image_id"] == 20)
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] <= 25]

    class Count(Callback):
        def __init__(self):
            self.boxes = {}

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            assert torch.isfinite(outputs["loss"])
            self.boxes |= dict(zip(batch.image_ids, batch.targets.valid.sum(1).tolist(), strict=True))

    count = Count()
    train(tmp_path / "out", count, **edited(train_split, tmp_path, change), batch_size=1, epochs=1)
    assert count.boxes == {20: 0, 25: 2, 30: 0, 35: 0, 40: 0, 45: 0, 50: 0}


def test_val_file_without_boxes_evaluates_to_minus_one_and_no_epoch_is_the_best(tmp_path, train, val_split, caplog):
    content = json.loads(val_split.annotations.read_text()) | {"annotations": []}
    (tmp_path / "none.json").write_text(json.dumps(content))
    run = train(tmp_path / "out", epochs=2, val_annotations=tmp_path / "none.json")
    assert run.metrics.AP == -1
    assert f"{tmp_path / 'none.json'} has no boxes, so there is no AP and no best checkpoint" in caplog.text
    kinds = ("epoch_1", "epoch_2", "last", "final")
    assert {path.name for path in run.folder.glob("*.pth")} == {f"dino_detector_{kind}.pth" for kind in kinds}


@pytest.fixture
def truncated(tmp_path, train_split, val_split):
    """Return copies of the splits in which training image 40 and validation image 305 are truncated."""
    copies = {}
    for split, position in ((train_split, 4), (val_split, 1)):
        folder = tmp_path / split.images.name
        folder.mkdir()
        for file in split.images.iterdir():
            content = file.read_bytes()
            (folder / file.name).write_bytes(content[: len(content) // 2] if file.stem == str(position) else content)
        copies[split.images.name] = folder
    return copies


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_training_image_is_skipped_and_counted(tmp_path, train, truncated, caplog, num_workers):
    with caplog.at_level(logging.WARNING, logger="dino_detector"):
        train(tmp_path / "out", train_images=truncated["train"], epochs=2, num_workers=num_workers)
    bad = str(truncated["train"] / "4.png")
    messages = [record.getMessage() for record in caplog.records]
    assert [bad in message for message in messages] == [True, True]
    assert "image 40" in messages[0]
    assert messages[1].startswith("1 image was unreadable and skipped")


def test_evaluation_sees_images_as_they_are_and_the_network_in_eval_mode(tmp_path, train, val_split):
    class Look(Callback):
        def on_train_start(self, trainer, module):
            self.pixels = []

        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            decoder = module.detector.decoder
            assert decoder.training
            assert all(layer.dropout.training for layer in decoder.layers)

        def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
            assert not any(part.training for part in module.detector.modules())
            assert not torch.is_grad_enabled()
            self.pixels.append(batch.pixel_values)

    look = Look()
    train(tmp_path, look, augmentation=True, decoder_dropout=0.5, epochs=2)
    passes = torch.cat(look.pixels).chunk(2)
    assert len(passes[0]) == 5
    assert torch.equal(*passes)


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"image_size": "56x84", "resize_mode": "letterbox"}])
def test_trains_in_other_precisions_and_shapes(tmp_path, train, changes):
    run = train(tmp_path, epochs=1, **changes)
    assert run.metrics.num_images == 5
    assert all(value.dtype == torch.float32 for value in run.checkpoint("final")["state_dict"].values())
