"""A resumed run equals an uninterrupted run: same batches, same learning rates, same weights."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from dino_detector.commands.frame import ProgressSafeHandler
from dino_detector.errors import StoppedByUser

STATE = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers")


class Recorder(Callback):
    """Record epoch, position, image ids and learning rates of every batch."""

    def __init__(self) -> None:
        self.batches: list[tuple] = []
        self.steps = 0

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        self.batches.append((trainer.current_epoch, batch_idx, tuple(batch.image_ids), rates))

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.steps += 1


class Interrupt(Callback):
    """Press Ctrl-C at a hook of an epoch and, for batch hooks, a position."""

    def __init__(self, hook: str, epoch: int, batch: int | None = None, number: int = signal.SIGINT) -> None:
        self.hook, self.epoch, self.batch, self.number = hook, epoch, batch, number

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if self.hook == "batch" and (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            os.kill(os.getpid(), self.number)

    def on_validation_start(self, trainer, module):
        if self.hook == "validation" and trainer.current_epoch == self.epoch:
            os.kill(os.getpid(), self.number)


def same(first: Any, second: Any) -> bool:
    """Return whether two nested structures hold bitwise equal tensors and equal values."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def assert_same_end(resumed: dict[str, Any], unbroken: dict[str, Any]) -> None:
    assert resumed.keys() == unbroken.keys()
    for name in STATE:
        if name in unbroken:
            assert same(resumed[name], unbroken[name]), name
    counted = [checkpoint["callbacks"]["RunFiles"] for checkpoint in (resumed, unbroken)]
    assert counted[0]["best_ap"] == counted[1]["best_ap"]
    assert counted[0]["images_seen"] == counted[1]["images_seen"] == 7 * 3
    assert resumed["global_step"] == unbroken["global_step"]


DROPOUT = {"decoder_dropout": 0.2}
FEW_WEIGHTS = {"train_backbone": "none", "decoder_layers": 1, "num_queries": 4}
LORA = {"train_backbone": "lora", "lora_dropout": 0.3, "ema_decay": 0.0}
TUNED = {
    **{"train_backbone": "lora", "lora_layers": 2, "lora_rank_pattern": {"1": 2}, "use_dora": True, "use_rslora": True},
    **{"layer_decay": 0.7, "schedule": "flat_cosine", "cooldown_fraction": 0.5, "ema_warmup": 3},
}
STRONG = FEW_WEIGHTS | {
    "num_workers": 2,
    "augmentation": True,
    "mosaic_probability": 0.4,
    "copy_paste_probability": 0.5,
    "scale_range": [0.1, 2.0],
    "multi_scale": 0.5,
    "no_augment_fraction": 0.3,
}
"""The last of three epochs is plain; sizes are 2 to 6 patches, around 4."""
ACCUMULATE = DROPOUT | FEW_WEIGHTS | {"batch_size": 1, "accumulate_batches": 3}
"""7 batches: steps after the 3rd, the 6th and the 7th"""
EVERY_SECOND = {"warmup_fraction": 0.3, "val_frequency": 2}


class Whole(NamedTuple):
    """A run without interruption, its settings and what it recorded."""

    run: Any
    changes: dict[str, Any]
    recorder: Recorder


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, train) -> Callable[[dict[str, Any]], Whole]:
    """Return a function that trains once with some settings changed, without interruption."""
    done: dict[str, Whole] = {}

    def run(changes: dict[str, Any]) -> Whole:
        changes, recorder = EVERY_SECOND | changes, Recorder()
        if str(changes) not in done:
            finished = train(tmp_path_factory.mktemp("whole"), recorder, **changes)
            done[str(changes)] = Whole(finished, changes, recorder)
        return done[str(changes)]

    return run


def signal_handlers() -> list[Any]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize(
    ("changes", "interruptions", "stopped_after"),
    [
        pytest.param(
            DROPOUT,
            [Interrupt("batch", 0, 3), Interrupt("batch", 1, 1, signal.SIGTERM), Interrupt("validation", 1)],
            [4, 2, 2],
            id="last-batch-of-an-epoch-sigterm-validation",
        ),
        pytest.param(LORA, [Interrupt("batch", 1, 0)], [5], id="lora-no-average"),
        pytest.param(TUNED, [Interrupt("batch", 1, 2)], [7], id="tuned"),
        pytest.param(STRONG, [Interrupt("batch", 1, 1)], [6], id="strong-augmentation"),
        pytest.param(
            ACCUMULATE,
            [Interrupt("batch", 0, 1), Interrupt("batch", 0, 3), Interrupt("batch", 1, 6), Interrupt("batch", 2, 2)],
            [3, 3, 8, 3],
            id="accumulation",
        ),
    ],
)
def test_resumed_run_ends_with_the_same_weights(tmp_path, train, whole_run, changes, interruptions, stopped_after):
    unbroken, changes, whole = whole_run(changes)
    handlers = signal_handlers()

    seen: list[tuple] = []
    steps, last = 0, None
    for interruption, expected in zip(interruptions, stopped_after, strict=True):
        part = Recorder()
        with pytest.raises(StoppedByUser, match=r"--checkpoint .*dino_detector_last\.pth"):
            train(tmp_path / "parts", part, interruption, **changes, checkpoint=last)
        assert signal_handlers() == handlers
        assert len(part.batches) == expected
        last = tmp_path / "parts" / "dino_detector_last.pth"
        seen += part.batches
        steps += part.steps
    rest = Recorder()
    resumed = train(tmp_path / "parts", rest, **changes, checkpoint=last)
    assert signal_handlers() == handlers

    assert seen + rest.batches == whole.batches
    assert steps + rest.steps == whole.steps
    assert_same_end(resumed.checkpoint("final"), unbroken.checkpoint("final"))
    assert resumed.metrics == unbroken.metrics
    written = [sorted(file.name for file in run.folder.iterdir() if file.is_file()) for run in (resumed, unbroken)]
    assert written[0] == written[1]


def test_epoch_checkpoint_resumes_into_another_folder(tmp_path, train, whole_run):
    rest = Recorder()
    unbroken, changes, whole = whole_run(DROPOUT)
    checkpoint = unbroken.folder / "dino_detector_epoch_2.pth"
    resumed = train(tmp_path / "resumed", rest, **changes, checkpoint=checkpoint)
    assert rest.batches == whole.batches[8:]
    assert_same_end(resumed.checkpoint("final"), unbroken.checkpoint("final"))


def test_longer_run_continues_a_finished_one(tmp_path, train, whole_run):
    finished, changes, _ = whole_run(DROPOUT)
    folder, more = shutil.copytree(finished.folder, tmp_path / "longer"), Recorder()
    train(folder, more, **changes, checkpoint=folder / "dino_detector_final.pth", epochs=4)
    assert [(epoch, batch) for epoch, batch, *_ in more.batches] == [(3, 0), (3, 1), (3, 2), (3, 3)]
    assert sorted(file.name for file in folder.glob("*epoch*.pth")) == [
        "dino_detector_epoch_2.pth",
        "dino_detector_epoch_3.pth",
        "dino_detector_epoch_4.pth",
    ]


def test_last_partial_accumulation_is_not_dropped(whole_run):
    recorder = whole_run(ACCUMULATE).recorder
    assert len(recorder.batches) == 3 * 7
    assert recorder.steps == 3 * 3


def test_every_image_is_seen_once_an_epoch_in_another_order(whole_run):
    batches = whole_run(DROPOUT).recorder.batches
    orders = [[i for epoch, _, ids, _ in batches if epoch == wanted for i in ids] for wanted in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == [20, 25, 30, 35, 40, 45, 50]
    assert orders[0] != orders[1]


class PressedInAWrite(io.RawIOBase):
    """A stream that gets Ctrl-C in the middle of the line of an epoch."""

    pressed = False

    def writable(self) -> bool:
        return True

    def write(self, text: bytes) -> int:
        if b"epoch 1/" in bytes(text) and not self.pressed:
            self.pressed = True
            os.kill(os.getpid(), signal.SIGINT)
        return len(text)


def test_interruption_in_a_write_to_stdout_stops_as_any_other(tmp_path, train, monkeypatch, caplog):
    stdout = io.TextIOWrapper(io.BufferedWriter(PressedInAWrite()), line_buffering=True)
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(logging.getLogger("dino_detector"), "handlers", [ProgressSafeHandler()])
    caplog.set_level(logging.INFO, logger="dino_detector")
    with pytest.raises(StoppedByUser, match=r"--checkpoint .*dino_detector_last\.pth"):
        train(tmp_path, epochs=2)
    assert stdout.buffer.raw.pressed


def test_interruption_in_the_last_epoch_end_loses_nothing(tmp_path, train):
    train(tmp_path, Interrupt("validation", 0), epochs=1)
    assert (tmp_path / "dino_detector_final.pth").exists()


def test_second_interruption_stops_at_once(tmp_path, train):
    class Twice(Interrupt):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if trainer.current_epoch == 1:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

    recorder = Recorder()
    with pytest.raises(StoppedByUser, match=r"dino_detector_last\.pth"):
        train(tmp_path, recorder, Twice("batch", 1))
    assert len(recorder.batches) == 5
    state = torch.load(tmp_path / "dino_detector_last.pth", weights_only=True)
    assert state["global_step"] == 4


def test_repeated_images_make_longer_epochs_that_resume_exactly(tmp_path, train, draw_boxes, caplog):
    """Two of seven images have a class that the others lack: with threshold 1 they repeat sqrt(7 / 2) = 1.87 times.

    An epoch has 5 + 2 * 1.87 = 8.74 images, rounded down to 8: one of the two comes twice.
    """
    split = draw_boxes(tmp_path, "train", 7)
    content = json.loads(split.annotations.read_text())
    rare = {content["images"][2]["id"], content["images"][5]["id"]}
    for number, annotation in enumerate(content["annotations"]):  # each image has an even and an odd annotation
        annotation["category_id"] = 9 if annotation["image_id"] in rare and number % 2 else 4
    split.annotations.write_text(json.dumps(content))
    changes = {"train_images": split.images, "train_annotations": split.annotations, "repeat_threshold": 1.0}
    changes |= FEW_WEIGHTS | {"augmentation": True, "decoder_dropout": 0.1, "epochs": 2, "val_frequency": 2}

    caplog.set_level("INFO")
    whole = Recorder()
    unbroken = train(tmp_path / "unbroken", whole, **changes)
    assert len(whole.batches) == 2 * 8 / 2
    assert "7 training images (8 an epoch, with repeats of rare classes)" in caplog.text
    for epoch in range(2):
        ids = [image_id for number, _, batch, _ in whole.batches if number == epoch for image_id in batch]
        counts = {image_id: ids.count(image_id) for image_id in ids}
        assert sorted(counts.values()) == [1, 1, 1, 1, 1, 1, 2]
        assert max(counts, key=counts.get) in rare

    part, rest = Recorder(), Recorder()
    with pytest.raises(StoppedByUser):
        train(tmp_path / "parts", part, Interrupt("batch", 1, 1), **changes)
    resumed = train(tmp_path / "parts", rest, **changes, checkpoint=tmp_path / "parts" / "dino_detector_last.pth")
    assert part.batches + rest.batches == whole.batches
    first, second = (run.checkpoint("final") for run in (resumed, unbroken))
    assert all(same(first[name], second[name]) for name in STATE if name in second)


def test_the_gradient_of_a_step_is_the_mean_over_its_batches_also_where_they_are_fewer(tmp_path, train):
    """Seven batches of one image are two steps of three batches and one step of a single batch."""

    class Gradients(Callback):
        def __init__(self):
            self.norms = []

        def on_before_optimizer_step(self, trainer, module, optimizer):
            gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
            self.norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm().item())

    changes = {"batch_size": 1, "epochs": 1, "learning_rate": 1e-12, "weight_decay": 0.0, "denoising_queries": 0}
    changes |= {"val_images": None, "val_annotations": None}
    alone, together, whole = Gradients(), Gradients(), Gradients()
    train(tmp_path / "alone", alone, **changes)
    train(tmp_path / "together", together, accumulate_batches=3, **changes)
    train(tmp_path / "whole", whole, accumulate_batches=100, **changes)
    assert len(alone.norms) == 7
    assert len(together.norms) == 3
    assert together.norms[2] == pytest.approx(alone.norms[6], rel=1e-3), "a step of one batch"
    (norm,) = whole.norms
    assert 0.3 * min(alone.norms) < norm <= max(alone.norms), "not a hundredth"
