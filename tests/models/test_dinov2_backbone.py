from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from backbones import backbone_of, images, with_adapters
from hub_cache import serve_hub_cache
from torch import Tensor, nn

from dino_detector.config import BackboneConfig, ImageSize
from dino_detector.errors import InputError
from dino_detector.models.dinov2_backbone import build_backbone, has_frozen_layers
from dino_detector.models.dinov2_base import (
    MODELS,
    check_image_size,
    fingerprint,
    image_statistics,
    load_pretrained,
    model_config_of,
    random_architecture,
)

KINDS = ["dinov2_folder", "dinov2_registers_folder", "dinov2_swiglu_folder"]
SIZES = [(56, 56), (84, 84), (56, 112), (98, 42)]
"""the native size of the tiny models, a larger square, a wide and a high image"""


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def reference_map(folder: Path, pixel_values: Tensor) -> Tensor:
    """Return the patch tokens of transformers' own model as a map ``[B, D, h, w]``."""
    model = transformers.AutoModel.from_pretrained(folder)
    tokens = model(pixel_values).last_hidden_state
    height, width = pixel_values.shape[-2] // 14, pixel_values.shape[-1] // 14
    return tokens[:, -height * width :].reshape(len(tokens), height, width, -1).permute(0, 3, 1, 2).detach()


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)


# --- the same as transformers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_backbone_with_fresh_adapters_equals_transformers(folder: Path, size: tuple[int, int], merged: bool):
    backbone = backbone_of(folder, lora_targets=["query", "key", "value", "output", "mlp"], lora_layers=None).eval()
    if merged:
        backbone.merge_adapters()
    with torch.no_grad():
        (found,) = backbone(images(*size))
    assert found.shape == (2, 32, size[0] // 14, size[1] // 14)
    close(found, reference_map(folder, images(*size)))


@pytest.mark.parametrize("lora_layers", [1, 3, 4, 9, None])
def test_trunk_and_tail_equal_the_whole_wherever_they_are_split(folder: Path, lora_layers: int | None):
    backbone = backbone_of(folder, lora_layers=lora_layers).eval()
    assert backbone.trunk_depth == max(0, 4 - (lora_layers or 4))
    tokens = backbone.trunk(images())
    registers = 3 if "registers" in str(folder) else 0
    assert tokens.hidden.shape == (2, 1 + registers + 4 * 6, 32)
    close(backbone.tail(tokens)[0].detach(), reference_map(folder, images()))


@pytest.mark.parametrize("train_backbone", ["full", "none"])
def test_backbone_without_adapters_equals_transformers(folder: Path, train_backbone: str):
    (found,) = backbone_of(folder, train_backbone=train_backbone).eval()(images())
    close(found.detach(), reference_map(folder, images()))


@pytest.mark.parametrize("train_backbone", ["lora", "full", "none"])
@pytest.mark.parametrize("feature_layers", [[0, 2, 3], [1], [-1, 0], [-4, -2]])
def test_maps_of_several_layers_equal_the_backbone_of_transformers(
    folder: Path, feature_layers: list[int], train_backbone: str
):
    backbone = backbone_of(folder, feature_layers=feature_layers, train_backbone=train_backbone).eval()
    layers = sorted(layer % 4 for layer in feature_layers)
    reader = transformers.Dinov2WithRegistersBackbone if "registers" in str(folder) else transformers.Dinov2Backbone
    reference = reader.from_pretrained(folder, out_indices=[layer + 1 for layer in layers])  # index 0 is the stem
    expected = reference(images()).feature_maps
    assert len(backbone.feature_layers) == len(expected) == len(layers)
    for one, wanted in zip(backbone(images()), expected, strict=True):
        close(one.detach(), wanted.detach())


@pytest.mark.parametrize("token", ["cls_token", "register_tokens"])
def test_maps_hold_patches_only(dinov2_registers_folder: Path, token: str):
    """After layer 0, patches have attended to CLS and registers; without attention nothing of them may remain."""
    backbone = backbone_of(dinov2_registers_folder, train_backbone="none", feature_layers=[0]).eval()
    with torch.no_grad():
        backbone.model.encoder.layer[0].attention.o_proj.weight.zero_()
        before = backbone(images())[0]
        getattr(backbone.model.embeddings, token).add_(5.0)
        assert torch.equal(backbone(images())[0], before)


@pytest.mark.parametrize(
    ("depth", "settings", "layers"),
    [
        (12, {"lora_layers": 6}, [6, 8, 10, 11]),
        (12, {"lora_layers": 4}, [8, 9, 10, 11]),
        (12, {"lora_layers": 2}, [9, 10, 11]),
        (12, {"lora_layers": 1}, [10, 11]),
        (12, {"lora_layers": None}, [2, 5, 8, 11]),
        (12, {"lora_layers": 12}, [2, 5, 8, 11]),
        (12, {"train_backbone": "full"}, [2, 5, 8, 11]),
        (12, {"train_backbone": "none"}, [2, 5, 8, 11]),
        (6, {"train_backbone": "full"}, [1, 2, 4, 5]),
        (3, {"train_backbone": "full"}, [0, 1, 2]),
        (1, {"lora_layers": 1}, [0]),
    ],
)
def test_features_end_equal_parts_of_the_layers_from_the_output_of_the_trunk_on(
    depth: int, settings: dict[str, Any], layers: list[int]
):
    """Feature layers lie above the first adapter if possible, so a trunk cache keeps only the trunk's output."""
    architecture = {"hidden_size": 32, "num_hidden_layers": depth, "num_attention_heads": 4, "image_size": 56}
    config = BackboneConfig(backbone_weights="random", backbone_architecture=architecture, lora_rank=2, **settings)
    backbone = build_backbone(config)
    assert backbone.feature_layers == layers
    if "lora_layers" in settings:
        assert backbone.trunk_depth <= layers[0] + 1


def test_a_feature_layer_that_does_not_exist_is_refused(dinov2_folder: Path):
    with pytest.raises(InputError, match="feature_layers has 4, but the backbone has layers 0 to 3"):
        backbone_of(dinov2_folder, feature_layers=[1, 4])


# --- adapters -----------------------------------------------------------------------------------------------------


def test_merged_adapters_give_the_same_maps(folder: Path):
    backbone = with_adapters(backbone_of(folder, lora_targets=["query", "key", "value", "output", "mlp"])).eval()
    with torch.no_grad():
        plain = backbone(images())[0]
        assert not torch.allclose(plain, reference_map(folder, images()), atol=0.1)
        backbone.merge_adapters()
        assert backbone.adapters_are_merged
        close(backbone(images())[0], plain)
        weights = {name: value.clone() for name, value in backbone.named_parameters()}
        backbone.merge_adapters()
        assert all(torch.equal(value, weights[name]) for name, value in backbone.named_parameters())
        backbone.unmerge_adapters()
        assert not backbone.adapters_are_merged
        close(backbone(images())[0], plain)


def test_merged_weight_is_base_plus_alpha_over_rank_times_the_product(dinov2_folder: Path):
    backbone = with_adapters(backbone_of(dinov2_folder, lora_rank=4, lora_alpha=6.0))
    layer = backbone.model.encoder.layer[3].attention.v_proj
    base = load_pretrained(str(dinov2_folder)).encoder.layer[3].attention.v_proj.weight
    product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    backbone.merge_adapters()
    torch.testing.assert_close(layer.base_layer.weight, base + 6.0 / 4 * product)


@pytest.mark.parametrize(
    ("target", "kind", "expected"),
    [
        ("query", "dinov2_folder", {"attention.q_proj"}),
        ("key", "dinov2_folder", {"attention.k_proj"}),
        ("value", "dinov2_folder", {"attention.v_proj"}),
        ("output", "dinov2_folder", {"attention.o_proj"}),
        ("mlp", "dinov2_folder", {"mlp.fc1", "mlp.fc2"}),
        ("mlp", "dinov2_swiglu_folder", {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}),
        ("value", "dinov2_registers_folder", {"attention.v_proj"}),
    ],
)
@pytest.mark.parametrize("lora_layers", [1, 3, None])
def test_adapters_sit_on_the_chosen_projections_of_the_last_layers(
    request: pytest.FixtureRequest, target: str, kind: str, expected: set[str], lora_layers: int | None
):
    backbone = backbone_of(request.getfixturevalue(kind), lora_targets=[target], lora_layers=lora_layers)
    adapted = {name.split(".lora_A")[0] for name, _ in backbone.model.named_parameters() if ".lora_A" in name}
    layers = range(4 - (lora_layers or 4), 4)
    assert adapted == {f"encoder.layer.{layer}.{name}" for layer in layers for name in expected}


def test_adapters_of_a_deep_backbone_sit_in_its_last_layers_too():
    """PEFT shortens long lists of module names; 12 layers with 6 projections make such a list."""
    config = BackboneConfig(
        backbone_weights="random",
        backbone_architecture={"hidden_size": 8, "num_attention_heads": 2, "image_size": 28, "mlp_ratio": 1},
        lora_targets=["query", "key", "value", "output", "mlp"],
        lora_layers=5,
        lora_rank=1,
    )
    adapted = [name for name, _ in build_backbone(config).named_parameters() if ".lora_A" in name]
    assert len(adapted) == 5 * 6
    assert {int(re.search(r"layer\.(\d+)\.", name)[1]) for name in adapted} == {7, 8, 9, 10, 11}


# --- frozen stays frozen ------------------------------------------------------------------------------------------


def test_only_adapters_have_gradients(folder: Path):
    backbone = with_adapters(backbone_of(folder)).train()
    tokens = backbone.trunk(images())
    assert not tokens.hidden.requires_grad
    backbone.tail(tokens)[0].square().sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == ("lora_" in name), name
        assert (parameter.grad is not None) == ("lora_" in name), name
        assert parameter.grad is None or parameter.grad.abs().sum() > 0, name


def test_full_training_reaches_every_weight_and_none_reaches_nothing(folder: Path):
    backbone = backbone_of(folder, train_backbone="full").train()
    backbone(images())[0].square().sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    frozen = backbone_of(folder, train_backbone="none").train()
    assert not frozen(images())[0].requires_grad
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_frozen_weights_never_change_in_training(dinov2_folder: Path):
    backbone = backbone_of(dinov2_folder).train()
    base = fingerprint(backbone.model)
    before = {name: value.clone() for name, value in backbone.named_parameters()}
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(2):  # the matrices A have no gradient until B has left zero
        optimizer.zero_grad()
        backbone(images())[0].square().sum().backward()
        optimizer.step()
    assert fingerprint(backbone.model) == base
    changed = {name for name, value in backbone.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if "lora_" in name}


@pytest.mark.parametrize("train_backbone", ["lora", "none"])
def test_dropout_and_drop_path_are_off_in_the_trunk_while_training(
    write_dinov2: Callable[..., Path], tmp_path: Path, train_backbone: str
):
    noisy = {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5, "drop_path_rate": 0.5}
    folder = write_dinov2(tmp_path / "noisy", **noisy)
    backbone = backbone_of(folder, train_backbone=train_backbone)
    quiet = backbone.eval().trunk(images()).hidden
    assert torch.equal(backbone.train().trunk(images()).hidden, quiet)
    if train_backbone == "none":
        assert torch.equal(backbone(images())[0], backbone.eval()(images())[0])
    else:
        assert backbone.model.encoder.layer[3].training


# --- position embeddings ------------------------------------------------------------------------------------------


@pytest.fixture
def interpolations(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Record the sizes for which transformers interpolates position embeddings, in order."""
    calls = []
    for module in (transformers.models.dinov2, transformers.models.dinov2_with_registers):
        kind = next(
            value
            for name, value in vars(sys.modules[f"{module.__name__}.modeling_{module.__name__.split('.')[-1]}"]).items()
            if name.endswith("Embeddings") and "Patch" not in name
        )
        original = kind.interpolate_pos_encoding

        def counted(self: nn.Module, embeddings: Tensor, height: int, width: int, original: Any = original) -> Tensor:
            calls.append((height, width))
            return original(self, embeddings, height, width)

        monkeypatch.setattr(kind, "interpolate_pos_encoding", counted)
    return calls


@pytest.mark.parametrize("mode", ["training", "evaluation", "inference"])
def test_frozen_position_embeddings_are_interpolated_once_for_a_size(
    folder: Path, interpolations: list[tuple[int, int]], mode: str
):
    backbone = backbone_of(folder).train(mode == "training")
    with torch.inference_mode(mode == "inference"):
        for size in [(56, 84), (84, 56), (56, 84), (84, 56), (56, 84)]:
            backbone(images(*size))
    assert interpolations == [(56, 84), (84, 56)]


def test_a_table_made_in_inference_mode_serves_training(dinov2_folder: Path):
    backbone = backbone_of(dinov2_folder, lora_layers=None)
    with torch.inference_mode():
        backbone.eval()(images())
    backbone.train()(images())[0].sum().backward()


@pytest.mark.parametrize("switches", [True, False])
def test_trained_position_embeddings_are_never_stale(dinov2_folder: Path, tmp_path: Path, switches: bool):
    backbone = backbone_of(dinov2_folder, train_backbone="full").eval()
    with torch.no_grad():
        before = backbone(images())[0]
    optimizer = torch.optim.SGD([backbone.model.embeddings.position_embeddings], lr=0.1)
    if switches:
        backbone.train()
    backbone(images())[0].square().sum().backward()
    optimizer.step()
    if switches:
        backbone.eval()
    with torch.no_grad():
        after = backbone(images())[0]
    backbone.model.save_pretrained(tmp_path)
    assert not torch.allclose(after, before, atol=1e-2)
    close(after, reference_map(tmp_path, images()))


def test_loaded_position_embeddings_are_used_at_once():
    tiny = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "image_size": 28, "mlp_ratio": 1}
    config = BackboneConfig(backbone_weights="random", backbone_architecture=tiny, lora_layers=1)
    first, second = build_backbone(config).eval(), build_backbone(config).eval()
    with torch.no_grad():
        expected = first(images())[0]
        second(images())
        second.load_state_dict(first.state_dict())
        close(second(images())[0], expected)


# --- stored weights -----------------------------------------------------------------------------------------------


def test_named_base_is_left_out_of_the_state(dinov2_folder: Path):
    backbone = with_adapters(backbone_of(dinov2_folder))
    state = backbone.state_dict()
    assert state
    assert all("lora_" in name for name in state)
    fresh = backbone_of(dinov2_folder)
    result = fresh.load_state_dict(state)
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    close(fresh.eval()(images())[0].detach(), backbone.eval()(images())[0].detach())


def test_a_missing_adapter_is_still_reported(dinov2_folder: Path):
    state = backbone_of(dinov2_folder).state_dict()
    lost = sorted(state)[0]
    del state[lost]
    with pytest.raises(RuntimeError, match=re.escape(lost)):
        backbone_of(dinov2_folder).load_state_dict(state)


@pytest.mark.parametrize("train_backbone", ["lora", "full", "none"])
def test_random_base_is_stored_in_whole(train_backbone: str):
    tiny = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "image_size": 28, "mlp_ratio": 1}
    config = BackboneConfig(
        backbone_weights="random", backbone_architecture=tiny, train_backbone=train_backbone, lora_layers=1
    )
    backbone = build_backbone(config)
    assert set(backbone.state_dict()) == {name for name, _ in backbone.named_parameters()}


def test_fingerprint_tells_bases_apart_and_ignores_adapters(
    dinov2_folder: Path, write_dinov2: Callable[..., Path], tmp_path: Path
):
    base = load_pretrained(str(dinov2_folder))
    base.embeddings.mask_token = None
    assert fingerprint(with_adapters(backbone_of(dinov2_folder)).model) == fingerprint(base)
    other = load_pretrained(str(write_dinov2(tmp_path / "other", seed=1)))
    other.embeddings.mask_token = None
    assert fingerprint(other) != fingerprint(base)


# --- architectures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "parameters"),
    [("small", 22_056_576), ("base", 86_580_480), ("large", 304_368_640), ("giant", 1_136_480_768)],
)
def test_published_names_have_the_published_number_of_parameters(size: str, parameters: int):
    """Counts of the weights on the hub, whose position table is for 518 pixels."""
    config = random_architecture(f"facebook/dinov2-{size}", {"image_size": 518})
    with torch.device("meta"):
        model = MODELS[config.model_type](config)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_names_with_registers_have_four_registers():
    config = random_architecture("facebook/dinov2-with-registers-large", {})
    assert (config.model_type, config.num_register_tokens, config.hidden_size) == ("dinov2_with_registers", 4, 1024)
    assert (config.patch_size, config.image_size) == (14, 518)


def test_random_weights_take_the_architecture_of_a_folder_with_changes(dinov2_registers_folder: Path):
    config = BackboneConfig(
        dino_model=str(dinov2_registers_folder),
        backbone_weights="random",
        backbone_architecture={"num_hidden_layers": 2},
        train_backbone="full",
    )
    model = build_backbone(config).model
    assert (len(model.encoder.layer), model.config.hidden_size, model.config.num_register_tokens) == (2, 32, 3)
    assert fingerprint(model) != fingerprint(build_backbone(config).model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hiden_size": 32}, "unknown setting 'hiden_size'; did you mean hidden_size?"),
        ({"hidden_size": "32"}, "hidden_size must be like 768, not '32'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be at least 1, not 0"),
        ({"num_attention_heads": 0}, "num_attention_heads must be at least 1, not 0"),
        ({"hidden_act": "gelo"}, "hidden_act 'gelo' is unknown; did you mean gelu?"),
        ({"hidden_size": 100}, "hidden_size 100 must be a multiple of num_attention_heads 12"),
    ],
)
def test_a_wrong_architecture_setting_is_named(changes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=re.escape(message)):
        random_architecture("facebook/dinov2-base", changes)


@pytest.mark.parametrize(("size", "nearest"), [((500, 896), "490x896 or 504x896"), ((512, 512), "504 or 518")])
def test_an_input_size_that_the_patch_does_not_divide_is_refused(size: tuple[int, int], nearest: str):
    with pytest.raises(InputError, match=f"not a multiple of the backbone's patch of 14 pixels; use {nearest}"):
        check_image_size(ImageSize(*size), 14)
    check_image_size(ImageSize(504, 896), 14)


# --- sources of weights -------------------------------------------------------------------------------------------


def changed_copy(source: Path, target: Path, **settings: Any) -> Path:
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | settings))
    return target


@pytest.mark.parametrize(
    "read", [lambda name: load_pretrained(name), lambda name: model_config_of(BackboneConfig(name))]
)
def test_a_folder_of_another_kind_of_model_is_refused(dinov2_folder: Path, tmp_path: Path, read: Callable):
    folder = changed_copy(dinov2_folder, tmp_path / "vit", model_type="vit")
    with pytest.raises(InputError, match="vit' is a 'vit' model; give one of dinov2, dinov2_with_registers"):
        read(str(folder))


def test_a_folder_without_a_model_is_refused_in_one_line_with_remedies(tmp_path: Path):
    with pytest.raises(InputError) as caught:
        load_pretrained(str(tmp_path))
    message = str(caught.value)
    assert message.startswith(f"dino_model {str(tmp_path)!r} can't be loaded: ")
    for remedy in ("check the name", "--dino_model", "--backbone_weights random"):
        assert remedy in message
    assert "\n" not in message


def test_damaged_weights_are_refused(dinov2_folder: Path, tmp_path: Path):
    folder = changed_copy(dinov2_folder, tmp_path / "damaged")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"damaged' can't be loaded: .*remedies"):
        load_pretrained(str(folder))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"hidden_size": 64}, "can't be loaded", id="other width"),
        pytest.param(
            {"num_hidden_layers": 5, "stage_names": None, "out_features": None, "out_indices": None},
            "lacks 18 weights that its config.json asks for, such as 'encoder.layer.4.",
            id="a layer too many",
        ),
    ],
)
def test_weights_that_do_not_fit_their_config_are_refused(
    dinov2_folder: Path, tmp_path: Path, settings: dict[str, Any], message: str
):
    folder = changed_copy(dinov2_folder, tmp_path / "folder", **settings)
    with pytest.raises(InputError, match=re.escape(message)):
        load_pretrained(str(folder))


def test_half_precision_weights_are_loaded_in_full_precision(dinov2_folder: Path, tmp_path: Path):
    load_pretrained(str(dinov2_folder)).half().save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in load_pretrained(str(tmp_path)).parameters()} == {torch.float32}


def test_normalisation_is_that_of_the_model_and_else_of_imagenet(dinov2_folder: Path, tmp_path: Path):
    own = BackboneConfig(dino_model=str(dinov2_folder))
    assert image_statistics(own) == ([0.5, 0.4, 0.3], [0.2, 0.25, 0.3])
    imagenet = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert image_statistics(dataclasses.replace(own, backbone_weights="random")) == imagenet
    copy = changed_copy(dinov2_folder, tmp_path / "alone")
    (copy / "preprocessor_config.json").unlink()
    assert image_statistics(BackboneConfig(dino_model=str(copy))) == imagenet


OFFLINE = """
import time
time.sleep = lambda seconds: None  # the hub's client waits between its attempts
from dino_detector.config import BackboneConfig
from dino_detector.errors import InputError
from dino_detector.models.dinov2_backbone import build_backbone
from dino_detector.models.dinov2_base import fingerprint, image_statistics, model_config_of

config = BackboneConfig(dino_model="facebook/dinov2-small")
print(fingerprint(build_backbone(config).model), image_statistics(config), model_config_of(config).hidden_size)
try:
    build_backbone(BackboneConfig(dino_model="facebook/dinov2-smal"))
except InputError as error:
    print(error)
"""


def test_a_filled_cache_serves_hub_names_without_network(dinov2_folder: Path, tmp_path: Path):
    repository = tmp_path / "hub" / "models--facebook--dinov2-small"
    shutil.copytree(dinov2_folder, repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | {
        "HF_HOME": str(tmp_path),
        "HF_ENDPOINT": "http://127.0.0.1:9",  # nobody listens there
        "NO_PROXY": "*",
    }
    environment.pop("TRANSFORMERS_OFFLINE", None)
    run = subprocess.run(
        [sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    loaded, refused = run.stdout.strip().splitlines()
    base = backbone_of(dinov2_folder)
    assert loaded == f"{fingerprint(base.model)} ([0.5, 0.4, 0.3], [0.2, 0.25, 0.3]) 32"
    assert "dinov2-smal/resolve" in run.stderr
    assert "dinov2-small/resolve" not in run.stderr  # a cached model needs no request
    assert refused.startswith("dino_model 'facebook/dinov2-smal' can't be loaded: We couldn't connect to ")
    for remedy in ("check the name", "copy the model's folder", "hf download", "--backbone_weights random"):
        assert remedy in refused


def test_a_download_is_announced_and_without_network_the_model_that_comes_along_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    serve_hub_cache(tmp_path, monkeypatch)
    caplog.set_level(logging.INFO)
    with pytest.raises(InputError, match=r"nowhere/dinov2' can't be loaded: .*: try --dino_model dinov2-demo"):
        build_backbone(BackboneConfig(dino_model="nowhere/dinov2"))
    said = [message for message in caplog.messages if "nowhere" in message]
    assert said == ["nowhere/dinov2 is not on this machine; fetching it from Hugging Face"]


@pytest.mark.parametrize("train_backbone", ["lora", "full"])
def test_layers_above_the_last_feature_layer_are_left_out(dinov2_folder: Path, train_backbone: str):
    """They would cost time, and their trained weights would never get a gradient."""
    backbone = with_adapters(
        backbone_of(dinov2_folder, train_backbone=train_backbone, feature_layers=[1], lora_layers=1)
    )
    assert len(backbone.model.encoder.layer) == 2
    sum(features.square().sum() for features in backbone(images())).backward()
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    assert trained
    assert all(parameter.grad is not None for parameter in trained)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"train_backbone": "full"}, False),
        ({"train_backbone": "none"}, True),
        ({"lora_layers": 6}, False),
        ({"lora_layers": 2}, True),
        ({"lora_layers": 4, "feature_layers": [3]}, False),
    ],
    ids=str,
)
def test_frozen_layers_are_known_before_weights_are_read(settings: dict[str, Any], expected: bool) -> None:
    """The demo's base has six layers; layers after the last feature layer are not used."""
    assert has_frozen_layers(BackboneConfig(dino_model="dinov2-demo", **settings)) is expected
