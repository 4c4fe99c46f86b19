from __future__ import annotations

import dataclasses
import json
import math
import typing
from pathlib import Path
from typing import Any

import pytest
import torch

from dino_detector.config import LIGHTWEIGHT, Config, ImageSize
from dino_detector.config.model import by_layer
from dino_detector.config.setting import settings_of
from dino_detector.errors import InputError, did_you_mean

GROUPS = [field.default_factory for field in dataclasses.fields(Config)]


def test_a_name_means_one_setting_everywhere():
    names = [field.name for group in GROUPS for field in dataclasses.fields(group)]
    assert len(names) == len(set(names))
    assert set(Config().flat()) == set(names)


def test_a_dependency_names_a_setting_and_its_values():
    known = settings_of(*GROUPS)
    needed = [one.field.metadata["effective_with"] for one in known.values() if "effective_with" in one.field.metadata]
    assert ("train_backbone", "lora") in needed
    for other, *values in filter(None, needed):
        assert set(values) <= set(typing.get_args(known[other].kind))


CHANGED: dict[str, Any] = {
    "image_size": "504x896",
    "resize_mode": "letterbox",
    "lora_layers": None,
    "lora_targets": ["key", "mlp"],
    "lora_rank_pattern": {"6-8": 4, "11": 32},
    "lora_alpha_pattern": {"0": 2.0},
    "feature_layers": [2, -1],
    "backbone_weights": "random",
    "backbone_architecture": {"hidden_size": 192},
    "use_deformable": False,
    "feature_scales": [4.0],
    "scale_range": [0.1, 2.0],
    "mosaic_probability": 0.5,
    "focal_alpha": 0.5,
    "backbone_learning_rate": 1e-5,
    "schedule": "wsd",
    "cooldown_fraction": 0.1,
    "output_dir": "runs/1",
    "val_images": "images/val",
    "tile_size": "480x640",
}


def test_settings_survive_the_flat_form():
    flat = Config.from_flat(CHANGED).flat()
    assert {name: flat[name] for name in CHANGED} == CHANGED
    assert Config.from_flat(flat).flat() == flat
    assert Config().replace(**CHANGED).flat() == flat


def test_the_flat_form_is_plain(tmp_path: Path):
    config = Config.from_flat(CHANGED | {"output_dir": Path("runs/1"), "val_images": Path("images/val")})
    flat = config.flat()
    assert json.loads(json.dumps(flat)) == flat
    torch.save(flat, tmp_path / "flat.pt")
    assert torch.load(tmp_path / "flat.pt", weights_only=True) == flat


@pytest.mark.parametrize("settings", [{}, LIGHTWEIGHT])
def test_a_config_equals_its_copy_through_the_flat_form(settings: dict[str, Any]):
    config = Config.from_flat(settings)
    assert Config.from_flat(config.flat()) == config
    assert config.replace() == config


def test_replacing_changes_that_setting_alone():
    before, after = Config().flat(), Config().replace(epochs=3).flat()
    assert {name for name in before if before[name] != after[name]} == {"epochs"}
    assert after["epochs"] == 3


def test_defaults_are_valid_and_so_is_the_lightweight_preset():
    Config()
    light = Config.from_flat(LIGHTWEIGHT)
    standard = Config()
    assert (standard.decoder.num_queries, standard.decoder.decoder_layers, standard.decoder.hidden_dim) == (100, 6, 256)
    assert (light.decoder.num_queries, light.decoder.decoder_layers) == (25, 2)
    for name in ("hidden_dim", "n_points", "box_head_dim", "feedforward_dim"):
        assert getattr(light.decoder, name) < getattr(standard.decoder, name)
    assert light.backbone.lora_layers < standard.backbone.lora_layers
    assert light.backbone.dino_model == "facebook/dinov2-small"


def test_configs_do_not_share_their_lists():
    first, second = Config(), Config()
    assert first.decoder.feature_scales is not second.decoder.feature_scales
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.training.epochs = 3


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("num_querys", "num_queries"), ("learning_rat", "learning_rate"), ("lora_layer", "lora_layers"), ("zzz", None)],
)
def test_an_unknown_setting_is_named_with_the_nearest(name: str, suggestion: str | None):
    with pytest.raises(InputError) as caught:
        Config.from_flat({name: 1})
    expected = f"{name} is no setting" + (f"; did you mean {suggestion}?" if suggestion else "")
    assert str(caught.value) == expected


def test_nearest_suggests_only_what_is_close():
    assert did_you_mean("epoch", ["epochs", "seed"]) == "; did you mean epochs?"
    assert did_you_mean("epoch", ["seed"]) == ""
    assert did_you_mean("--imgsz", ["--image_size", "--seed"]) == "; did you mean --image_size?"
    assert did_you_mean("--conf-thres", ["--confidence_threshold"]) == "; did you mean --confidence_threshold?"
    assert did_you_mean("detect", ["predict", "data"]) == "; did you mean predict?"
    assert did_you_mean("--weights", ["--seed"]) == ""


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (518, (518, 518)),
        ("518", (518, 518)),
        (" 504x896 ", (504, 896)),
        ("504X896", (504, 896)),
        ([504, 896], (504, 896)),
        ((504, 896), (504, 896)),
        ([518], (518, 518)),
        (ImageSize(504, 896), (504, 896)),
    ],
)
def test_image_sizes_are_height_times_width(value: Any, size: tuple[int, int]):
    parsed = ImageSize.parse(value)
    assert (parsed.height, parsed.width) == size


@pytest.mark.parametrize(
    "value",
    ["", "x", "0", -14, "518x", "x518", "1x2x3", "504 x 896", "5e2", 518.0, None, [1, 2, 3], [], ["a", 2], "504*896"],
)
def test_a_wrong_image_size_is_named(value: Any):
    with pytest.raises(InputError, match=r"neither a number of pixels \(518\) nor HEIGHTxWIDTH \(504x896\)") as caught:
        ImageSize.parse(value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("size", [ImageSize(518, 518), ImageSize(504, 896)])
def test_an_image_size_survives_its_text(size: ImageSize):
    assert ImageSize.parse(str(size)) == size


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("num_queries", 0, "at least 1"),
        ("epochs", 0, "at least 1"),
        ("lora_rank", 0, "at least 1"),
        ("num_workers", -1, "at least 0"),
        ("set_cost_giou", -0.5, "at least 0"),
        ("gradient_clip", -1.0, "at least 0"),
        ("decoder_dropout", 1.0, "at least 0 and below 1"),
        ("focal_gamma", 0.5, "0, or at least 1"),
        ("ema_decay", -0.1, "at least 0 and below 1"),
        ("learning_rate", 0.0, "above 0"),
        ("learning_rate", float("nan"), "a finite number"),
        ("white_level", float("inf"), "a finite number"),
        ("lora_alpha", 0.0, "above 0"),
        ("lora_rank_pattern", {"0-3": 4, "5": 0}, "ranks of at least 1"),
        ("lora_alpha_pattern", {"5": 0.0}, "values above 0"),
        ("layer_decay", 0.0, "above 0 and at most 1, or null"),
        ("layer_decay", 1.25, "above 0 and at most 1, or null"),
        ("ema_warmup", -1, "at least 0"),
        ("early_stopping_patience", -1, "at least 0"),
        ("early_stopping_min_delta", 1.0, "at least 0 and below 1"),
        ("focal_alpha", 1.0, "above 0 and below 1"),
        ("lora_layers", 0, "at least 1, or null"),
        ("tile_overlap", 1.0, "at least 0 and below 1"),
        ("backbone_learning_rate", 0.0, "above 0, or null"),
        ("lora_targets", [], "at least one projection"),
        ("feature_layers", [], "at least one layer, or null"),
        ("mosaic_probability", 1.1, "between 0 and 1"),
        ("flip_probability", -0.1, "between 0 and 1"),
        ("no_augment_fraction", 5.0, "between 0 and 1"),
        ("repeat_threshold", -0.001, "between 0 and 1"),
        ("multi_scale", 1.0, "at least 0 and below 1"),
        ("scale_range", [2.0, 0.5], "two factors above 0 and at most 100, the smaller first"),
        ("scale_range", [0.0, 0.5], "two factors above 0 and at most 100, the smaller first"),
        ("scale_range", [0.5], "two factors above 0 and at most 100, the smaller first"),
        ("scale_range", [1.0, 101.0], "two factors above 0 and at most 100, the smaller first"),
        ("seed", 2**32, "at least 0 and below 4294967296"),
        ("feature_scales", [], "a list of 0.25, 0.5, 1, 2 or 4"),
        ("feature_scales", [1.0, 3.0], "a list of 0.25, 0.5, 1, 2 or 4"),
        ("num_heads", 7, "a multiple of num_heads (7)"),
        ("backbone_architecture", {"hidden_size": 64}, "left out unless backbone_weights is random"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_wanted(name: str, value: Any, wanted: str):
    with pytest.raises(InputError) as caught:
        Config.from_flat({name: value})
    message = str(caught.value)
    shown = "hidden_dim must be a multiple of num_heads (7), not 256" if name == "num_heads" else None
    assert message == (shown or f"{name} must be {wanted}, not {value!r}")


def test_a_cosine_has_no_share_of_its_own():
    with pytest.raises(InputError) as caught:
        Config.from_flat({"schedule": "cosine", "cooldown_fraction": 0.5})
    wanted = "null with schedule cosine, which falls after its warm-up"
    assert str(caught.value) == f"cooldown_fraction must be {wanted}, not 0.5"


@pytest.mark.parametrize("schedule", ["flat_cosine", "wsd"])
def test_warmup_and_cooldown_share_the_steps(schedule: str):
    for warmup, cooldown in ((0.9, 0.1), (0.3, 0.7), (0.0, 1.0)):
        Config.from_flat({"schedule": schedule, "warmup_fraction": warmup, "cooldown_fraction": cooldown})
    for cooldown in (0.0, 0.85):
        with pytest.raises(InputError, match=r"cooldown_fraction must be above 0 and at most 0\.8, with "):
            Config.from_flat({"schedule": schedule, "warmup_fraction": 0.2, "cooldown_fraction": cooldown})


@pytest.mark.parametrize(
    ("ranges", "values"),
    [
        ({}, {}),
        ({"7": 4}, {7: 4}),
        ({"0-2": 4, "5-5": 8, "10": 1}, {0: 4, 1: 4, 2: 4, 5: 8, 10: 1}),
        ({"11": 1, "3-4": 2}, {3: 2, 4: 2, 11: 1}),
    ],
)
def test_a_range_of_layers_holds_both_its_ends(ranges: dict[str, int], values: dict[int, int]):
    assert by_layer(ranges, setting="lora_rank_pattern") == values


@pytest.mark.parametrize(
    "text", ["", "-1", "a", "5-", "-5", "5-3", "1.5", "0..5", "0-5-7", "0, 1", " 1", "1000", "0-99999999", "٣"]
)
def test_what_is_no_range_of_layers_is_named(text: str):
    with pytest.raises(InputError) as caught:
        Config.from_flat({"lora_rank_pattern": {text: 4}})
    assert str(caught.value).startswith(f"lora_rank_pattern has {text!r}, which is neither a layer, such as")


def test_a_layer_in_two_ranges_is_named():
    with pytest.raises(InputError, match="lora_alpha_pattern has layer 5 in two ranges, the second is '5-11'"):
        Config.from_flat({"lora_alpha_pattern": {"0-5": 4.0, "5-11": 8.0}})


def test_a_width_that_sine_encodings_cannot_share_is_refused():
    with pytest.raises(InputError, match="hidden_dim must be a multiple of 4, for sine encodings of two axes, not 6"):
        Config.from_flat({"hidden_dim": 6, "num_heads": 2})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_backbone": "lroa"}, "train_backbone must be one of lora, full, none, not 'lroa'; did you mean lora?"),
        ({"num_queries": "50"}, "num_queries must be a whole number, not '50'"),
        ({"epochs": True}, "epochs must be a whole number, not True"),
        ({"lora_layers": 2.5}, "lora_layers must be a whole number or null, not 2.5"),
        ({"feature_scales": 2.0}, "feature_scales must be a list, such as [2,1], not 2.0"),
        ({"lora_rank_pattern": {"0": 1.5}}, "lora_rank_pattern must be a whole number for '0', not 1.5"),
        ({"lora_rank_pattern": {"0": True}}, "lora_rank_pattern must be a whole number for '0', not True"),
        ({"scale_range": [1.0, math.inf]}, "scale_range must be a finite number, not inf"),
        ({"lora_alpha_pattern": [1]}, 'lora_alpha_pattern must be a mapping, such as {"name": 1}, not [1]'),
    ],
)
def test_a_value_of_another_type_is_named(settings: dict[str, Any], message: str):
    with pytest.raises(InputError) as caught:
        Config.from_flat(settings)
    assert str(caught.value) == message


def test_whole_numbers_serve_as_any_number_and_text_as_a_path():
    config = Config.from_flat({"learning_rate": 1, "output_dir": "here", "val_images": "there"})
    assert type(config.training.learning_rate) is float
    assert (config.training.output_dir, config.data.val_images) == (Path("here"), Path("there"))
