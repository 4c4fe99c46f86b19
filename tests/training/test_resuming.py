"""Checkpoints from which a run can start, and the errors for all others."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dino_detector.commands.arguments import parse_settings
from dino_detector.config import LIGHTWEIGHT, Config
from dino_detector.errors import InputError
from dino_detector.models.checkpoint import CheckpointHeader, write_checkpoint
from dino_detector.structures.categories import Categories
from dino_detector.training.resuming import Start, read_start

CLASSES = Categories((4, 9), ("brick", "tile"))
BASE = "sha256 of the base"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Write a checkpoint of a run with some settings, or of a detector alone."""

    def write(
        *,
        trained: int | None = 3,
        waited: int = 0,
        base: str | None = BASE,
        images: int = 7,
        an_epoch: int = 8,
        **settings: Any,
    ) -> Path:
        header = CheckpointHeader(Config.from_flat(settings), CLASSES, [0.5] * 3, [0.5] * 3, {}, base)
        contents: dict[str, Any] = {"dino_detector": header.to_dict(), "state_dict": {}}
        if trained is not None:
            contents |= {"optimizer_states": [], "callbacks": {"RunFiles": {"finished_epochs": trained}}}
            contents["DetectionData"] = {"train_images": images, "images_per_epoch": an_epoch}
            contents["callbacks"] |= {"early_stopping": {"wait_count": waited}} if waited else {}
        write_checkpoint(contents, tmp_path / "run.pth")
        return tmp_path / "run.pth"

    return write


def start(checkpoint: Path, categories: Categories = CLASSES, **settings: Any) -> Start | None:
    config = Config.from_flat({"checkpoint": checkpoint} | settings)
    train = SimpleNamespace(annotations=SimpleNamespace(categories=categories, path=Path("train.json")))
    counts = {"train_images": 7, "images_per_epoch": 8}
    return read_start(config, SimpleNamespace(run_data=SimpleNamespace(train=train), state_dict=lambda: counts))


def refusal(checkpoint: Path, **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        start(checkpoint, **settings)
    line = str(caught.value)
    assert line.startswith(f"{checkpoint}: was trained with other settings: ")
    return line


def flags_in(line: str) -> str:
    return re.split("; to (?:resume it|start from its weights) give ", line)[1].split(", or start from scratch")[0]


def test_a_run_goes_on_with_its_own_settings(checkpoint: Callable[..., Path]) -> None:
    assert start(checkpoint(num_queries=7), num_queries=7).resumes


def test_what_does_not_change_the_run_may_change(checkpoint: Callable[..., Path]) -> None:
    moved = {
        "train_images": "b",
        "output_dir": "c",
        "epochs": 9,
        "log_images": True,
        "device": "cpu",
        "test_mini": True,
    }
    assert start(checkpoint(), dino_model="elsewhere/base", coco_url="http://mirror", **moved).resumes


def test_a_run_does_not_go_on_with_another_number_of_images(checkpoint: Callable[..., Path]) -> None:
    """Epochs would have another length, and the schedule, which counts steps, would be at another point."""
    refused = "run.pth: was trained on 14 images, and train.json has 7.*load.'.*run.pth'..save.'start.pth'"
    with pytest.raises(InputError, match=refused):
        start(checkpoint(images=14))
    assert not start(checkpoint(images=14, trained=None)).resumes, "weights alone start a new run"


def test_a_run_does_not_go_on_with_other_repeats(checkpoint: Callable[..., Path]) -> None:
    """After a change of labels, other classes are rare."""
    with pytest.raises(InputError, match=r"was trained on 9 images an epoch, with repeats, and train\.json has 8, so"):
        start(checkpoint(an_epoch=9))


def test_weights_are_taken_into_a_run_that_differs_in_what_they_do_not_depend_on(
    checkpoint: Callable[..., Path],
) -> None:
    other = {"lora_dropout": 0.1, "decoder_dropout": 0.1, "denoising_queries": 300}
    assert not start(checkpoint(trained=None), **other).resumes
    assert flags_in(refusal(checkpoint(trained=3), **other)).count("--") == 3
    assert flags_in(refusal(checkpoint(trained=None), denoising_queries=0)) == "--denoising_queries 100"


def test_every_difference_is_listed_with_its_flag(checkpoint: Callable[..., Path]) -> None:
    line = refusal(checkpoint(num_queries=7, feature_scales=[4.0]), batch_size=2)
    for part in ("num_queries 7 (here 100)", "feature_scales [4.0] (here [2.0, 1.0, 0.5])", "batch_size 4 (here 2)"):
        assert part in line
    assert flags_in(line) == "--num_queries 7 --feature_scales 4.0 --batch_size 4"


def test_flags_can_be_pasted_into_a_shell(checkpoint: Callable[..., Path]) -> None:
    stored = {"feature_scales": [2.0, 1.0], "backbone_weights": "random", "dino_model": "my base"}
    stored["backbone_architecture"] = {"hidden_size": 192}
    words = shlex.split(flags_in(refusal(checkpoint(base=None, **stored))))
    given = parse_settings([Config], words, prog="train")[0].flat()
    assert {name: given[name] for name in stored} == stored


def test_a_preset_stands_for_all_that_it_explains(checkpoint: Callable[..., Path]) -> None:
    light = checkpoint(lightweight=True, **LIGHTWEIGHT)
    line = refusal(light)
    assert "dino_model facebook/dinov2-small (here facebook/dinov2-base)" in line
    assert "num_queries 25 (here 100)" in line
    assert flags_in(line) == "--lightweight true"
    assert flags_in(refusal(light, batch_size=3)) == "--lightweight true --batch_size 4"
    assert start(light, lightweight=True, **LIGHTWEIGHT).resumes
    own = checkpoint(lightweight=True, **LIGHTWEIGHT | {"num_queries": 60})
    assert flags_in(refusal(own)) == "--lightweight true --num_queries 60"


def test_a_preset_that_was_not_used_is_to_be_left_out(checkpoint: Callable[..., Path]) -> None:
    line = refusal(checkpoint(), lightweight=True, **LIGHTWEIGHT)
    assert "decoder_layers 6 (here 2)" in line
    assert flags_in(line) == "--lightweight false"


def test_a_debug_run_is_resumed_as_one(checkpoint: Callable[..., Path]) -> None:
    debug = {"debug": True, "augmentation": False, "learning_rate": 5e-4, "epochs": 100}
    assert flags_in(refusal(checkpoint(**debug))) == "--debug true"
    assert start(checkpoint(**debug), **debug).resumes


def test_the_images_of_a_subset_are_bound_to_the_run(checkpoint: Callable[..., Path]) -> None:
    mini = {"use_coco_mini": True, "coco_mini_seed": 7}
    assert flags_in(refusal(checkpoint(**mini))) == "--use_coco_mini true --coco_mini_seed 7"


def test_the_number_of_processes_is_bound_to_the_run(checkpoint: Callable[..., Path]) -> None:
    line = refusal(checkpoint(distributed=True, world_size=2))
    assert flags_in(line) == "--distributed true --world_size 2"


def test_weights_without_training_state_need_the_same_model_alone(checkpoint: Callable[..., Path]) -> None:
    weights = checkpoint(trained=None, learning_rate=1.0, batch_size=2, debug=True)
    assert not start(weights).resumes
    assert flags_in(refusal(weights, num_queries=7)) == "--num_queries 100"


def test_skipping_ignores_the_file_and_says_so(
    checkpoint: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = checkpoint(num_queries=7)
    assert start(path, skip_checkpoint_load=True) is None
    assert f"{path} is not loaded (--skip_checkpoint_load); training starts from scratch" in caplog.text
    path.write_text("damaged")
    assert start(path, skip_checkpoint_load=True) is None
    for skip in (False, True):
        with pytest.raises(InputError, match=r"none.pth: no such checkpoint"):
            start(tmp_path / "none.pth", skip_checkpoint_load=skip)


def test_other_classes_are_refused(checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"category 9 is 'tile', but train.json calls it 'slate'"):
        start(checkpoint(), Categories((4, 9), ("brick", "slate")))
    with pytest.raises(InputError, match=r"train.json: category 12 is 'roof'.* has no such id"):
        start(checkpoint(), Categories((4, 9, 12), ("brick", "tile", "roof")))


def test_a_finished_run_is_refused(checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="trained to epoch 50 already"):
        start(checkpoint(trained=50))


def test_a_run_that_has_stopped_early_is_refused_until_it_may_wait_longer(checkpoint: Callable[..., Path]) -> None:
    stopped = checkpoint(waited=3, early_stopping_patience=3)
    for patience in (2, 3):
        with pytest.raises(InputError, match="has had 3 evaluations without a better AP already; give more patience"):
            start(stopped, early_stopping_patience=patience)
    for patience in (0, 4):
        assert start(stopped, early_stopping_patience=patience).resumes
    assert start(checkpoint(waited=2), early_stopping_patience=3, early_stopping_min_delta=0.1).resumes


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("schedule", "wsd"), ("layer_decay", 0.8), ("ema_warmup", 100), ("use_dora", True), ("use_rslora", True)),
        *(("lora_rank_pattern", {"6-11": 4}), ("lora_alpha_pattern", {"6-11": 4.0})),
    ],
)
def test_what_changes_the_mathematics_may_not_change(checkpoint: Callable[..., Path], name: str, value: Any) -> None:
    path = checkpoint(**{name: value})
    words = shlex.split(flags_in(refusal(path)))
    given = parse_settings([Config], words, prog="train")[0].flat()
    assert start(path, **{name: given[name]}).resumes
