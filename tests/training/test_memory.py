"""Memory: the rehearsal of the largest step, its message if the step does not fit, and the table of stages."""

from __future__ import annotations

import json
import multiprocessing
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from dino_detector.config import Config, ImageSize
from dino_detector.errors import InputError
from dino_detector.training.fit import fit
from dino_detector.training.memory import Rehearsal, Step, take


class Sizes(Callback):
    """Record the images, boxes and denoising queries of each training forward pass, and the initial weights."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.denoising: list[int] = []

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.before = {name: value.clone() for name, value in pl_module.state_dict().items()}
        matcher = pl_module.criterion.matcher
        match = type(matcher).__call__

        class Watched(type(matcher)):
            def __call__(watched, logits: Tensor, boxes: Tensor, targets: Any, **given: Any) -> Any:
                if pl_module.training:
                    self.seen.append((logits.shape[1], targets.labels.shape[1]))
                return match(watched, logits, boxes, targets, **given)

        matcher.__class__ = Watched
        pl_module.detector.decoder.denoising.register_forward_hook(
            lambda module, given, made: self.denoising.append(made.contents.shape[1])
        )

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0 and trainer.current_epoch == 0:
            self.unchanged = all(
                torch.equal(value, self.before[name]) for name, value in pl_module.state_dict().items()
            )
            self.gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]


def test_the_first_step_is_the_largest_there_can_be_and_changes_nothing(
    settings: Callable[..., Config], tmp_path: Path, draw_boxes: Callable[..., Any]
) -> None:
    """One of eight images has nine boxes more than the others."""
    split = draw_boxes(tmp_path, "train", 8)
    content = json.loads(split.annotations.read_text())
    extra = [content["annotations"][9] | {"id": 1000 + number} for number in range(9)]
    split.annotations.write_text(json.dumps(content | {"annotations": content["annotations"] + extra}))
    sizes = Sizes()
    data = {"train_images": split.images, "train_annotations": split.annotations}
    fit(settings(tmp_path / "out", batch_size=3, epochs=1, **data), callbacks=[sizes])
    batches = 3
    *rehearsed, _, _, _ = sizes.seen[::2]  # proposals and queries are matched
    assert set(rehearsed) == {(3, 11), (3, 10)}
    assert all(images <= 3 and boxes <= 11 for images, boxes in sizes.seen[2 * len(rehearsed) :])
    assert sorted(sizes.denoising[:-batches]) == [88, 100]  # of at most 100: 4 times 22, and 5 times 20
    assert len(sizes.denoising) == 2 + batches
    assert max(sizes.denoising[-batches:]) == 100  # if the largest image of a batch has two boxes
    assert sizes.unchanged
    assert sizes.gradients == []


@pytest.mark.parametrize(
    ("changes", "side", "boxes"),
    [
        ({"copy_paste_probability": 0.0}, 56, 2),
        ({"copy_paste_probability": 0.0, "multi_scale": 0.5}, 84, 2),
        ({"mosaic_probability": 0.5, "copy_paste_probability": 0.5}, 56, 8),
        ({}, 56, 4),
        ({"multi_scale": 0.5, "mosaic_probability": 0.5, "augmentation": False}, 56, 2),
    ],
)
def test_the_largest_step_is_that_of_the_largest_size_and_of_all_images_in_one(
    changes: dict[str, Any], side: int, boxes: int, settings: Callable[..., Config], tmp_path: Path
) -> None:
    """Images have two boxes each; sides of four patches of 14 become two to six patches."""

    class Inputs(Callback):
        def __init__(self) -> None:
            self.seen: list[tuple[int, int]] = []

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            (rehearsal,) = (callback for callback in trainer.callbacks if isinstance(callback, Rehearsal))
            self.largest = rehearsal.largest_step
            self.seen.append((batch.pixel_values.shape[-1], batch.targets.labels.shape[1]))

    inputs = Inputs()
    fit(settings(tmp_path / "out", epochs=5, val_frequency=5, **{"augmentation": True} | changes), callbacks=[inputs])
    assert inputs.largest == Step(2, ImageSize(side, side), boxes)
    assert max(size for size, _ in inputs.seen) == side
    assert max(count for _, count in inputs.seen) <= boxes


def test_what_fits_is_said_of_the_size_that_others_are_drawn_around(
    settings: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """multi_scale enlarges 224 pixels (16 patches) to 20 patches, and 168 pixels to 210, which fit."""
    monkeypatch.setattr("dino_detector.training.memory.take", out_of_memory_above(1, 215))
    remedy = (
        "a step of 2 images of 280x280 pixels .*; --batch_size 1 --accumulate_batches 2 --image_size 168 fits, or try "
        "a smaller --multi_scale"
    )
    with pytest.raises(InputError, match=remedy):
        fit(settings(tmp_path / "out", image_size=224, epochs=1, augmentation=True, multi_scale=0.25))


def test_a_run_with_a_rehearsal_takes_the_steps_of_one_without(
    settings: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"augmentation": True, "decoder_dropout": 0.1, "epochs": 2}
    fit(settings(tmp_path / "with", **changes))
    monkeypatch.setattr(Rehearsal, "on_train_start", lambda *_: None)
    fit(settings(tmp_path / "without", **changes))
    first, second = (
        torch.load(tmp_path / name / "dino_detector_final.pth", weights_only=True)["state_dict"]
        for name in ("with", "without")
    )
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def out_of_memory_above(images: int, side: int) -> Callable[..., int]:
    """Return `take` on a machine that runs out of memory above a limit."""

    def limited(step: Step, *args: Any, **settings: Any) -> int:
        if step.batch_size > images or max(step.image_size) > side:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return take(step, *args, **settings)

    return limited


@pytest.mark.parametrize(
    ("images", "side", "remedy"),
    [
        (
            5,
            224,
            r"a step of 7 images of 224x224 pixels with up to 2 boxes each .*--batch_size 3 --accumulate_batches 3",
        ),
        (1, 200, "--batch_size 1 --accumulate_batches 7 --image_size 168 fits"),
        (1, 50, "not even 1 image of 126x126 pixels .*choose a smaller --dino_model"),
    ],
)
def test_what_does_not_fit_is_said_with_what_does(
    images: int,
    side: int,
    remedy: str,
    settings: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dino_detector.training.memory.take", out_of_memory_above(images, side))
    with pytest.raises(InputError, match=remedy) as raised:
        fit(settings(tmp_path / "out", batch_size=7, image_size=224, epochs=1))
    assert str(raised.value).startswith("out of memory: ")


def test_a_step_that_does_not_fit_leaves_the_files_of_an_earlier_run(
    settings: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(settings(tmp_path / "out", epochs=1))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    monkeypatch.setattr("dino_detector.training.memory.take", out_of_memory_above(1, 56))
    with pytest.raises(InputError, match="out of memory"):
        fit(settings(tmp_path / "out", epochs=1))
    assert not list((tmp_path / "out").glob("earlier_*"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()} == before


def test_a_batch_larger_than_the_data_is_rehearsed_as_large_as_it_will_be(
    settings: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven images fit, and the data set has no more."""
    monkeypatch.setattr("dino_detector.training.memory.take", out_of_memory_above(7, 56))
    fit(settings(tmp_path / "out", epochs=1, batch_size=50))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:128] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("could not create a primitive"),
    ],
)
def test_each_library_says_in_its_own_words_that_memory_is_out(
    error: Exception, settings: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_but_one(step: Step, *args: Any, **given: Any) -> int:
        if step.batch_size > 1:
            raise error
        return take(step, *args, **given)

    monkeypatch.setattr("dino_detector.training.memory.take", take_but_one)
    with pytest.raises(InputError, match="--batch_size 1 --accumulate_batches 2 fits"):
        fit(settings(tmp_path / "out", epochs=1))


def test_the_settings_that_are_said_to_fit_do(
    settings: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dino_detector.training.memory.take", out_of_memory_above(5, 224))
    fit(settings(tmp_path / "out", batch_size=3, accumulate_batches=3, image_size=224, epochs=1))


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"learning_rate": 1e30}, r"--learning_rate 1e\+30$"),
        ({"learning_rate": 1e30, "precision": "bf16"}, r"--learning_rate 1e\+30, or give --precision 32$"),
        ({"learning_rate": 1e30, "debug": True, "debug_samples": 7}, r"--debug_lr 1e\+30$"),
    ],
)
def test_a_rate_that_is_too_high_is_said_to_be(
    changes: dict[str, Any], remedy: str, settings: Callable[..., Config], tmp_path: Path
) -> None:
    config = settings(tmp_path / "out", **{"epochs": 5, "warmup_fraction": 0.0, "gradient_clip": 0.0} | changes)
    with pytest.raises(InputError, match=rf"training diverged after \d+ steps; lower {remedy}"):
        fit(config)


def test_what_goes_wrong_in_a_data_worker_is_not_taken_for_a_lack_of_memory(
    settings: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **given: Any) -> Any:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("dino_detector.data.dataset.WholeImages.__call__", broken)
    with pytest.raises(RuntimeError, match=r"Caught RuntimeError in DataLoader worker(.|\n)*a mistake of ours"):
        fit(settings(tmp_path / "out", epochs=1, num_workers=1))


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_a_machine_that_really_has_too_little_gets_the_same_advice(
    warm_python: Path, settings: Callable[..., Config], tmp_path: Path, draw_boxes: Callable[..., Any]
) -> None:
    from dino_detector.config.yaml_text import write_config

    many = draw_boxes(tmp_path, "train", 96)
    data = {"train_images": many.images, "train_annotations": many.annotations}
    write_config(settings(tmp_path / "out", batch_size=96, image_size=448, **data), tmp_path / "run.yaml")
    code = (
        "import psutil, resource, sys\n"
        "import dino_detector.training.memory as rehearsal\n"
        "from dino_detector.train import main\n"
        "take = rehearsal.take\n"
        "def limited(*args, **settings):\n"
        "    room = psutil.Process().memory_info().vms + 260 * 2**20\n"
        "    if resource.getrlimit(resource.RLIMIT_AS)[0] == -1:\n"
        "        resource.setrlimit(resource.RLIMIT_AS, (room, -1))\n"
        "    return take(*args, **settings)\n"
        "rehearsal.take = limited\n"
        f"sys.exit(main(['--config', {str(tmp_path / 'run.yaml')!r}]))\n"
    )
    (tmp_path / "command.py").write_text(code)
    run = subprocess.run([warm_python, tmp_path / "command.py"], capture_output=True, text=True)
    assert run.returncode == 2, run.stderr[-2000:]
    assert re.fullmatch(
        r"error: out of memory: a step of 96 images .*; --batch_size (48|24|12|6) .* fits\n", run.stderr
    )


def test_memory_that_goes_in_the_middle_of_a_run_is_no_traceback(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    class Taken(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            if trainer.global_step == 3:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    with pytest.raises(InputError, match=r"out of memory after 3 steps.*try --batch_size 1 --accumulate_batches 2"):
        fit(settings(tmp_path / "out"), callbacks=[Taken()])


def test_a_killed_data_worker_names_the_setting(
    settings: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dino_detector.data.dataset import CocoDetection

    read = CocoDetection.__getitem__

    def killed(data: CocoDetection, key: Any) -> Any:
        import os
        import signal

        if torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(data, key)

    monkeypatch.setattr(CocoDetection, "__getitem__", killed)
    with pytest.raises(InputError, match=r"a data worker was killed.*lower --num_workers 1 to 0"):
        fit(settings(tmp_path / "out", num_workers=1, epochs=1))


def test_the_table_tells_what_memory_goes_to(
    settings: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Adam keeps two numbers for each weight; the moving average is a copy; another child process is not a worker."""
    caplog.set_level("INFO")
    big = {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56}
    child = multiprocessing.get_context("fork").Process(target=signal.pause)
    child.start()
    try:
        fit(settings(tmp_path / "out", epochs=2, memory_monitor=True, num_workers=1, backbone_architecture=big))
    finally:
        child.kill()
        child.join()
    rows = dict(re.findall(r"^  (.+?) {2,}([\d.]+ [MG]iB)$", caplog.text, re.MULTILINE))
    assert list(rows) == [
        *("model, frozen", "model, trained", "gradients", "optimizer state", "moving average of the weights"),
        *("activations at their peak", "data workers (1)", "all of this process at its peak so far"),
    ]
    (trained,) = re.findall(r"([\d,]+) of [\d,]+ parameters train", caplog.text)
    size = 4 * int(trained.replace(",", "")) / 2**20
    in_mib = {name: float(text.split()[0]) * (1024 if "GiB" in text else 1) for name, text in rows.items()}
    for name, copies in {"model, trained": 1, "gradients": 1, "moving average of the weights": 1}.items():
        assert in_mib[name] == pytest.approx(copies * size, abs=0.06), name
    assert in_mib["optimizer state"] == pytest.approx(2 * size, abs=0.06)
    assert in_mib["data workers (1)"] > 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert in_mib["all of this process at its peak so far"] <= peak + 5.2, "of GiB two decimals are shown"
    assert re.search(r"peak memory after epoch 2: \d+\.\d\d GiB of this process", caplog.text)


def test_activations_are_what_autograd_keeps() -> None:
    """``tanh`` keeps its output, a product keeps both factors; weights are not activations."""
    from dino_detector.training.memory import saved_tensors

    weight = torch.nn.Parameter(torch.ones(1000, 1000))
    with saved_tensors(except_for=[weight]) as saved:
        hidden = (torch.ones(500, 1000) @ weight).tanh()
        loss = (hidden * hidden).sum()
    assert sum(saved.values()) == 4 * (500 * 1000 + 500 * 1000), "the input of the product, and the output of tanh once"
    loss.backward()
    expected = 500 * 2 * torch.tensor(1000.0).tanh() * (1 - torch.tensor(1000.0).tanh() ** 2)
    torch.testing.assert_close(weight.grad, torch.full((1000, 1000), expected.item()))
