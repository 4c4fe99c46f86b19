"""Deformable DETR of transformers: inputs, recipe and detections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision import tv_tensors

from benchmarks.accuracy import deformable_detr
from benchmarks.accuracy.deformable_detr import DeformableDetr, RandomSizeCrop, build_model, weighted_loss
from benchmarks.accuracy.job import Job
from benchmarks.accuracy.recorder import Recorder, TrainingClock
from benchmarks.accuracy.scoring import score

TINY = {
    "model": {
        **{"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64},
        **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_queries": 20, "num_feature_levels": 2},
        **{"dropout": 0.0, "with_box_refine": True},
    },
    "precision": "32",
}


class Answers(nn.Module):
    """Detect one object of the second class in every image: centred, half as wide and high as the image."""

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        logits = torch.full((len(pixel_values), 3, 2), -9.0)
        logits[:, 1, 1] = 2.0
        return SimpleNamespace(logits=logits, pred_boxes=torch.tensor([0.5, 0.5, 0.5, 0.5]).expand(len(logits), 3, 4))


def test_detections_have_original_pixels_and_the_data_set_s_ids(job: Callable[..., Job]):
    results = DeformableDetr(job(settings=TINY)).detect(Answers())
    best = {result["image_id"]: result for result in results if result["score"] > 0.5}
    assert best.keys() == {31, 12}
    assert {result["category_id"] for result in best.values()} == {9}
    assert best[31]["bbox"] == [50, 25, 100, 50]  # of 200 x 100 pixels
    assert best[12]["bbox"] == [22.5, 40, 45, 80]  # of 90 x 160 pixels


def test_targets_are_relative_boxes_and_contiguous_labels(job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(deformable_detr, "training_transforms", lambda: lambda sample: sample)
    batch = next(DeformableDetr(job(settings=TINY)).batches())
    assert batch["pixel_values"].shape == (2, 3, 56, 56)
    wide = batch["labels"][batch["image_ids"].index(31)]
    assert wide["class_labels"].tolist() == [0, 1]
    expected = torch.tensor([[50 / 200, 50 / 100, 60 / 200, 40 / 100], [145 / 200, 50 / 100, 50 / 200, 80 / 100]])
    torch.testing.assert_close(wide["boxes"], expected)


def test_initial_weights_are_those_of_the_authors_code(job: Callable[..., Job]):
    """Scores are about 0.01; boxes have sides of 0.12 and are spread over the image."""
    few = TINY["model"] | {"num_queries": 300}
    model = build_model(job(settings=TINY | {"model": few}), num_classes=2).eval()
    with torch.no_grad():
        output = model(pixel_values=torch.zeros(1, 3, 56, 56))
    for head in model.class_embed:
        torch.testing.assert_close(head.bias.sigmoid(), torch.full((2,), 0.01))
    centres, sides = output.pred_boxes[0].split(2, dim=1)
    torch.testing.assert_close(sides, torch.full_like(sides, torch.tensor(-2.0).sigmoid()))
    assert (centres.std(dim=0) > 0.15).all()
    assert (centres.min(dim=0).values < 0.2).all()
    assert (centres.max(dim=0).values > 0.8).all()
    assert model.model.query_position_embeddings.weight.std().item() == pytest.approx(1, abs=0.05)


def test_reference_points_and_sampling_offsets_have_a_tenth_of_the_learning_rate(job: Callable[..., Job]):
    model, optimizer = DeformableDetr(job(settings=TINY)).start()
    rates = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    slow = {name for name, weight in model.named_parameters() if rates[id(weight)] == pytest.approx(2e-5)}
    assert len(rates) == len(list(model.parameters()))
    assert set(rates.values()) == {2e-4, 2e-5}
    assert {name.split(".")[-2] for name in slow} == {"reference_points", "sampling_offsets"}


def test_the_class_loss_has_weight_2_in_every_layer(job: Callable[..., Job]):
    config = build_model(job(settings=TINY), num_classes=2).config
    terms = {"loss_ce": 1.0, "loss_bbox": 10.0, "loss_giou": 100.0, "cardinality_error": 1e6}
    losses = {name + suffix: torch.tensor(value) for name, value in terms.items() for suffix in ("", "_0")}
    assert weighted_loss(losses, config).item() == 2 * (2 * 1 + 5 * 10 + 2 * 100)


def test_the_rate_drops_after_four_fifths_of_the_time(job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch):
    system = DeformableDetr(job(settings=TINY, budget=10.0, evaluations=1))
    rates = []
    monkeypatch.setattr(system, "step", lambda model, optimizer, batch: rates.append(optimizer.param_groups[0]["lr"]))
    recorder = Recorder(system.job)
    recorder.clock = TrainingClock(lambda: recorder.images_seen / 2)  # one step of two images per second
    system.fit(recorder)
    assert rates == pytest.approx([2e-4] * 8 + [2e-5] * 2)


def test_initial_weights_depend_on_the_seed(job: Callable[..., Job]):
    first, second, other = (build_model(job(settings=TINY, seed=seed), num_classes=2) for seed in (3, 3, 4))
    weights = [
        model.model.backbone.model.embeddings.patch_embeddings.projection.weight for model in (first, second, other)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_crop_has_detr_s_sizes_and_moves_boxes_with_the_image():
    image = torch.zeros(3, 60, 100, dtype=torch.uint8)
    image[:, 20:30, 40:60] = 255
    boxes = tv_tensors.BoundingBoxes([[40, 20, 60, 30]], format="XYXY", canvas_size=(60, 100))
    sizes = set()
    for _ in range(30):
        cropped, moved = RandomSizeCrop()(tv_tensors.Image(image), boxes)
        sizes.add(tuple(cropped.shape[1:]))
        rows, columns = cropped[0].any(dim=1).nonzero(), cropped[0].any(dim=0).nonzero()
        if len(rows):
            assert moved[0].tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert len(sizes) > 10
    assert all(38 <= side <= 60 for size in sizes for side in size)


def test_it_overfits_two_images(job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(deformable_detr, "LEARNING_RATE", 1e-3)
    system = DeformableDetr(job(settings=TINY, budget=200.0, evaluations=1))
    recorder = Recorder(system.job)
    recorder.clock = TrainingClock(lambda: recorder.images_seen / 2)  # one step of two images per second
    system.fit(recorder)
    assert recorder.images_seen == 400
    annotations = Path(system.job.val_annotations)
    (end,) = score(recorder.evaluations, folder=Path(system.job.folder), annotations=annotations)
    assert end["AP50"] > 0.7
