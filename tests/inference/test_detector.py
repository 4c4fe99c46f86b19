from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from decoders import TINY_DETECTOR
from PIL import Image
from torch import Tensor

from dino_detector.config import LIGHTWEIGHT, Config
from dino_detector.errors import InputError
from dino_detector.inference.detector import Detector, build_detector, resolve_device
from dino_detector.models.checkpoint import write_checkpoint
from dino_detector.models.cpu import optimize_for_cpu
from dino_detector.models.heads import inverse_sigmoid
from dino_detector.structures.categories import Categories

CATEGORIES = Categories(ids=(0, 3, 90), names=("person", "car", "toothbrush"))

TINY = TINY_DETECTOR

RANDOM: dict[str, Any] = {
    "dino_model": "facebook/dinov2-small",
    "backbone_weights": "random",
    "backbone_architecture": {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 56},
}


ADAPTERS = [
    pytest.param({}, id="lora"),
    pytest.param({"use_dora": True}, id="dora"),
    pytest.param(
        {
            "lora_layers": 3,
            "lora_rank_pattern": {"2": 5},
            "lora_alpha_pattern": {"1-2": 3.0},
            "use_rslora": True,
            "use_dora": True,
        },
        id="dora-rslora-patterns",
    ),
]


def tiny_detector(**settings: Any) -> Detector:
    """Return a detector as after some training: every trained weight has left its initial value."""
    torch.manual_seed(0)
    detector = build_detector(Config.from_flat(TINY | settings), categories=CATEGORIES)
    with torch.no_grad():
        for parameter in detector.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape) * 0.3)
    return detector.eval()


def pictures(*sizes: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8)
        for size in sizes or [(60, 90), (120, 50)]
    ]


def assert_same_detections(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert len(one) == len(other) > 0
        np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-4)
        np.testing.assert_allclose(one.xyxy, other.xyxy, atol=1e-2)
        assert one.class_id.tolist() == other.class_id.tolist()
        assert one.data["class_name"].tolist() == other.data["class_name"].tolist()


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trains", [*ADAPTERS, pytest.param({"train_backbone": "full"}, id="full"), {"train_backbone": "none"}]
)
@pytest.mark.parametrize("base", ["named", "registers", "random"])
def test_a_saved_detector_detects_the_same(
    dinov2_folder: Path, dinov2_registers_folder: Path, tmp_path: Path, trains: dict[str, Any], base: str
):
    bases = {"named": {"dino_model": str(dinov2_folder)}, "registers": {"dino_model": str(dinov2_registers_folder)}}
    detector = tiny_detector(**bases.get(base, RANDOM), **trains)
    expected = detector.predict(pictures(), threshold=0.0)
    path = tmp_path / "detector.pth"
    detector.save(path)
    loaded = Detector.load(path, device="cpu")
    assert_same_detections(loaded.predict(pictures(), threshold=0.0), expected)
    assert loaded.config.flat() == detector.config.flat()
    assert loaded.categories == CATEGORIES

    loaded.save(path)  # with its adapters merged
    assert_same_detections(loaded.predict(pictures(), threshold=0.0), expected)
    again = Detector.load(str(path), device="cpu")
    assert_same_detections(again.predict(pictures(), threshold=0.0), expected)


def test_a_checkpoint_of_a_named_base_holds_trained_weights_only(dinov2_folder: Path, tmp_path: Path):
    detector = tiny_detector(dino_model=str(dinov2_folder))
    path = tmp_path / "detector.pth"
    detector.save(path)
    contents = torch.load(path, weights_only=True)
    trained = {f"detector.{name}" for name, value in detector.named_parameters() if value.requires_grad}
    assert set(contents["state_dict"]) == trained
    weights = sum(value.numel() for value in contents["state_dict"].values())
    assert path.stat().st_size < 4 * weights + 400 * len(trained) + 20_000
    everything = sum(value.numel() for value in detector.parameters())
    assert path.stat().st_size < 4 * everything


def test_a_checkpoint_does_not_need_the_base_that_was_trained_in_full(
    write_dinov2: Callable[..., Path], tmp_path: Path
):
    folder = write_dinov2(tmp_path / "base")
    detector = tiny_detector(dino_model=str(folder), train_backbone="full")
    detector.save(tmp_path / "detector.pth")
    shutil.rmtree(folder)
    loaded = Detector.load(tmp_path / "detector.pth", device="cpu")
    assert_same_detections(loaded.predict(pictures(), threshold=0.0), detector.predict(pictures(), threshold=0.0))


def test_another_base_is_refused_with_the_remedy(
    dinov2_folder: Path, write_dinov2: Callable[..., Path], tmp_path: Path
):
    path = tmp_path / "detector.pth"
    tiny_detector(dino_model=str(dinov2_folder)).save(path)
    other = write_dinov2(tmp_path / "other", seed=1)
    with pytest.raises(InputError) as caught:
        Detector.load(path, device="cpu", dino_model=str(other))
    assert re.match(
        f"{path}: was trained on another base than '{other}' .*fingerprints.* --dino_model$", str(caught.value)
    )


def test_a_base_that_has_moved_is_found_by_its_new_place(
    dinov2_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    old, new = tmp_path / "old" / "deep" / "base", tmp_path / "new"
    shutil.copytree(dinov2_folder, old)
    path = tmp_path / "detector.pth"
    detector = tiny_detector(dino_model=str(old))
    detector.save(path)
    old.rename(new)
    with pytest.raises(InputError, match=f"dino_model '{old}' can't be loaded: .*--dino_model"):
        Detector.load(path, device="cpu")
    loaded = Detector.load(path, device="cpu", dino_model=str(new))
    assert_same_detections(loaded.predict(pictures(), threshold=0.0), detector.predict(pictures(), threshold=0.0))
    loaded.save(path)
    assert Detector.load(path, device="cpu").config.backbone.dino_model == str(new)


def test_weights_that_do_not_fit_the_settings_are_refused(dinov2_folder: Path, tmp_path: Path):
    path = tmp_path / "detector.pth"
    tiny_detector(dino_model=str(dinov2_folder)).save(path)
    contents = torch.load(path, weights_only=True)
    contents["dino_detector"]["config"]["num_queries"] = 6
    del contents["digest"]
    write_checkpoint(contents, path)
    with pytest.raises(InputError, match=f"{path}: its weights do not fit its settings") as caught:
        Detector.load(path, device="cpu")
    assert "\n" not in str(caught.value)


def test_an_input_size_that_the_patch_does_not_divide_is_refused(dinov2_folder: Path):
    with pytest.raises(InputError, match="image_size 60x84 is not a multiple of the backbone's patch of 14"):
        tiny_detector(dino_model=str(dinov2_folder), image_size="60x84")


# --- merging ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapters", ADAPTERS)
def test_training_after_a_merge_takes_the_adapters_out_again(dinov2_folder: Path, adapters: dict[str, Any]):
    detector = tiny_detector(dino_model=str(dinov2_folder), **adapters)
    before = {name: value.clone() for name, value in detector.named_parameters()}
    detector.merge()
    assert detector.backbone.adapters_are_merged
    base = "backbone.model.encoder.layer.3.attention.q_proj.base_layer.weight"
    assert not torch.allclose(detector.get_parameter(base), before[base])
    detector.train()
    assert not detector.backbone.adapters_are_merged
    for name, value in detector.named_parameters():
        torch.testing.assert_close(value, before[name])


@pytest.mark.parametrize("adapters", ADAPTERS)
def test_merged_and_plain_detectors_detect_the_same(dinov2_folder: Path, adapters: dict[str, Any]):
    detector = tiny_detector(dino_model=str(dinov2_folder), **adapters)
    plain = detector.predict(pictures(), threshold=0.0)
    assert_same_detections(detector.merge().predict(pictures(), threshold=0.0), plain)
    assert_same_detections(detector.merge().predict(pictures(), threshold=0.0), plain)


def test_an_optimized_detector_detects_the_same_up_to_its_precision(dinov2_folder: Path):
    detector = tiny_detector(dino_model=str(dinov2_folder), two_stage=False)
    plain = detector.predict(pictures(), threshold=0.0)
    assert_same_detections(detector.optimize(precision="32").predict(pictures(), threshold=0.0), plain)
    lower = detector.optimize(precision="bf16").predict(pictures(), threshold=0.0)
    for one, other in zip(lower, plain, strict=True):
        assert not np.array_equal(one.confidence, other.confidence)
        np.testing.assert_allclose(one.confidence, other.confidence, atol=0.02)
        assert one.confidence.dtype == other.confidence.dtype == np.float32


def in_bf16(detector: Detector) -> list[Any]:
    """Return detections under autocast, which converts weights itself."""
    assert detector.inference_precision == "32"
    optimize_for_cpu(detector.merge())
    images = pictures()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        output = detector(detector.prepare(images))
    return detector.detections(output, torch.tensor([image.shape[1:] for image in images]))


def assert_the_same_numbers(found: list[Any], expected: list[Any]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.scores, other.scores)
        assert torch.equal(one.boxes_xyxy, other.boxes_xyxy)


@pytest.mark.parametrize("adapters", [*ADAPTERS, pytest.param({"train_backbone": "none"}, id="none")])
def test_weights_in_a_lower_precision_give_the_numbers_of_autocast(dinov2_folder: Path, adapters: dict[str, Any]):
    settings = {"dino_model": str(dinov2_folder)} | adapters
    detector = tiny_detector(**settings).optimize(precision="bf16")
    assert_the_same_numbers(detector.detect(pictures()), in_bf16(tiny_detector(**settings)))


@pytest.mark.parametrize("use_dora", [False, True])
def test_an_optimized_detector_that_changes_detects_as_what_it_has_become(dinov2_folder: Path, use_dora: bool):
    settings = {"dino_model": str(dinov2_folder), "use_dora": use_dora}
    detector = tiny_detector(**settings).optimize(precision="bf16")
    detector.detect(pictures())
    detector.train()
    changed = tiny_detector(**settings)
    with torch.no_grad():
        for one in (detector, changed):
            for name, parameter in one.named_parameters():
                if "lora_B" in name:
                    parameter.add_(0.5)
    unmerged = detector.eval().detect(pictures())
    optimize_for_cpu(changed)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        output = changed(changed.prepare(pictures()))
    assert torch.equal(unmerged[0].scores.max(), output.logits[-1][0].sigmoid().max())
    found = detector.optimize(precision="bf16").detect(pictures())
    assert_the_same_numbers(found, in_bf16(changed))

    detector.optimize(precision="32")
    plain = detector.detect(pictures())
    for one, other in zip(plain, changed.detect(pictures()), strict=True):
        torch.testing.assert_close(one.scores, other.scores)
    assert not torch.equal(plain[0].scores, found[0].scores)


def test_who_computes_in_another_precision_detects_in_it(dinov2_folder: Path):
    """An evaluation does the same."""
    detector = tiny_detector(dino_model=str(dinov2_folder), two_stage=False)
    (image,) = pictures((60, 90))
    (plain,) = detector.detect([image])
    with torch.autocast("cpu", torch.bfloat16):
        (lower,) = detector.detect([image])
    assert not torch.equal(lower.scores, plain.scores)
    torch.testing.assert_close(lower.scores, plain.scores, atol=0.02, rtol=0)


def test_what_an_optimized_detector_saves_has_lost_nothing(dinov2_folder: Path, tmp_path: Path):
    detector = tiny_detector(dino_model=str(dinov2_folder))
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    detector.optimize(precision="bf16").save(tmp_path / "detector.pth")
    saved = torch.load(tmp_path / "detector.pth", weights_only=True)["state_dict"]
    assert saved.keys() == {f"detector.{name}" for name in before}
    for name, value in before.items():
        torch.testing.assert_close(saved[f"detector.{name}"], value)


@pytest.mark.parametrize(
    ("precision", "message"), [("64", "is not one of auto, 32, bf16, 16"), ("16", "not for a CPU")]
)
def test_a_precision_that_can_not_be_is_refused(dinov2_folder: Path, precision: str, message: str):
    with pytest.raises(InputError, match=message):
        tiny_detector(dino_model=str(dinov2_folder)).optimize(precision=precision)


# --- prediction ---------------------------------------------------------------------------------------------------


@pytest.fixture
def detector(dinov2_folder: Path) -> Detector:
    return tiny_detector(dino_model=str(dinov2_folder))


def test_an_image_gives_the_same_detections_in_every_form(detector: Detector, tmp_path: Path):
    (tensor,) = pictures((60, 90))
    array = tensor.permute(1, 2, 0).numpy()
    image = Image.fromarray(array)
    image.save(tmp_path / "image.png")
    expected = detector.predict(tensor, threshold=0.0)
    for form in (tmp_path / "image.png", str(tmp_path / "image.png"), image, array, tensor.float() / 255):
        assert_same_detections([detector.predict(form, threshold=0.0)], [expected])


def test_a_list_gives_a_list_and_an_image_one_result(detector: Detector):
    first, second = pictures()
    both = detector.predict([first, second], threshold=0.0)
    assert isinstance(both, list)
    assert_same_detections(both, [detector.predict(first, threshold=0.0), detector.predict(second, threshold=0.0)])
    assert len(detector.predict([first], threshold=0.0)) == 1
    assert detector.predict([]) == []


def test_images_of_a_batch_do_not_touch_each_other(detector: Detector):
    many = pictures((60, 90), (120, 50), (33, 200), (200, 200), (14, 14))
    alone = [detector.predict(image, threshold=0.0) for image in many]
    for batch_size in (1, 2, 8):
        assert_same_detections(detector.predict(many, threshold=0.0, batch_size=batch_size), alone)


def test_detections_fall_in_score_and_the_threshold_cuts_them(detector: Detector):
    (image,) = pictures((60, 90))
    everything = detector.predict(image, threshold=0.0)
    assert len(everything) == 15  # 5 queries of 3 classes
    assert (np.diff(everything.confidence) <= 0).all()
    cut = float(everything.confidence[6])
    assert len(detector.predict(image, threshold=cut)) == 7
    nothing = detector.predict(image, threshold=1.0)
    assert len(nothing) == 0
    assert nothing.xyxy.shape == (0, 4)
    assert nothing.class_id.shape == nothing.confidence.shape == nothing.data["class_name"].shape == (0,)


def test_at_most_a_hundred_detections_come_out(dinov2_folder: Path):
    detector = tiny_detector(dino_model=str(dinov2_folder), num_queries=40)
    assert len(detector.predict(pictures((60, 90)), threshold=0.0)[0]) == 100


def test_of_more_queries_than_a_hundred_as_many_detections_come_out(dinov2_folder: Path):
    detector = tiny_detector(dino_model=str(dinov2_folder), num_queries=150)
    assert len(detector.predict(pictures((60, 90)), threshold=0.0)[0]) == 150


def fixed_detector(folder: Path, box_cxcywh: list[float], *, label: int = 1, **settings: Any) -> Detector:
    """Return a detector that always finds one fixed box of the network's input, with the same class and score."""
    detector = build_detector(
        Config.from_flat(TINY | {"dino_model": str(folder), "num_queries": 1} | settings), categories=CATEGORIES
    )
    with torch.no_grad():
        detector.decoder.initial_boxes[0] = inverse_sigmoid(torch.tensor(box_cxcywh))
        detector.decoder.class_heads[-1].weight.zero_()
        detector.decoder.class_heads[-1].bias[label] = 5.0
    return detector.eval()


@pytest.mark.parametrize(("label", "category_id", "name"), [(0, 0, "person"), (1, 3, "car"), (2, 90, "toothbrush")])
def test_category_ids_and_names_of_the_data_set_come_out(dinov2_folder: Path, label: int, category_id: int, name: str):
    found = fixed_detector(dinov2_folder, [0.5, 0.5, 0.2, 0.2], label=label).predict(pictures((60, 90)))[0]
    assert found.class_id.tolist() == [category_id]
    assert found.data["class_name"].tolist() == [name]
    assert found.confidence[0] == pytest.approx(1 / (1 + np.exp(-5.0)))


def test_boxes_of_stretched_images_are_in_original_pixels(dinov2_folder: Path):
    detector = fixed_detector(dinov2_folder, [0.25, 0.5, 0.5, 0.2])
    tall, wide = detector.predict(pictures((100, 40), (30, 600)))
    np.testing.assert_allclose(tall.xyxy, [[0, 40, 20, 60]], atol=1e-3)
    np.testing.assert_allclose(wide.xyxy, [[0, 12, 300, 18]], atol=1e-2)


def test_boxes_of_letterboxed_images_are_in_original_pixels(dinov2_folder: Path):
    """The input is 56 x 84: an image of 100 x 100 fills the left 56 pixels, and an image of 100 x 300 the upper 28."""
    detector = fixed_detector(dinov2_folder, [1 / 3, 0.25, 1 / 3, 0.25], resize_mode="letterbox")
    square, wide = detector.predict(pictures((100, 100), (100, 300)))
    np.testing.assert_allclose(square.xyxy, [[25, 12.5, 75, 37.5]], atol=1e-2)  # 14..42 and 7..21, times 100 / 56
    np.testing.assert_allclose(wide.xyxy, [[50, 25, 150, 75]], atol=1e-2)  # 14..42 and 7..21, times 300 / 84


def test_boxes_are_clipped_to_the_image(dinov2_folder: Path):
    found = fixed_detector(dinov2_folder, [0.9, 0.1, 0.6, 0.6]).predict(pictures((50, 100)))[0]
    np.testing.assert_allclose(found.xyxy, [[60, 0, 100, 20]], atol=1e-3)


@pytest.mark.parametrize("tile_size", [120, 5000, (120, 90), None])
def test_an_image_that_fits_in_a_tile_is_predicted_as_without_tiles(detector: Detector, tile_size: Any):
    images = pictures((60, 90), (120, 50))
    plain = detector.predict(images, threshold=0.0)
    for one, other in zip(detector.predict(images, threshold=0.0, tile_size=tile_size), plain, strict=True):
        np.testing.assert_array_equal(one.xyxy, other.xyxy)
        np.testing.assert_array_equal(one.confidence, other.confidence)
        np.testing.assert_array_equal(one.class_id, other.class_id)


def test_boxes_found_in_tiles_are_in_original_pixels(dinov2_folder: Path):
    """The box lies in the middle of each view, the whole image and two tiles, with a fifth of its sides."""
    detector = fixed_detector(dinov2_folder, [0.5, 0.5, 0.2, 0.2])
    (image,) = pictures((100, 200))
    found = detector.predict(image, tile_size=100, tile_overlap=0)
    np.testing.assert_allclose(found.xyxy, [[80, 40, 120, 60], [40, 40, 60, 60], [140, 40, 160, 60]], atol=1e-2)
    assert found.class_id.tolist() == [3, 3, 3]
    wide = detector.predict(image, tile_size=(50, 200), tile_overlap=0)
    np.testing.assert_allclose(wide.xyxy, [[80, 40, 120, 60], [80, 20, 120, 30], [80, 70, 120, 80]], atol=1e-2)


def test_tiles_are_letterboxed_as_images_are(dinov2_folder: Path):
    """The input is 56 x 84: the image fills its upper 28 pixels, and each tile its left 56."""
    detector = fixed_detector(dinov2_folder, [1 / 3, 0.25, 1 / 3, 0.25], resize_mode="letterbox")
    found = detector.predict(pictures((100, 300))[0], tile_size=100, tile_overlap=0)
    tiles = [[25 + left, 12.5, 75 + left, 37.5] for left in (0, 100, 200)]  # 14..42 and 7..21, times 100 / 56
    np.testing.assert_allclose(found.xyxy, [[50, 25, 150, 75], *tiles], atol=1e-2)  # 14..42, 7..21, times 300 / 84


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_images_and_tiles_of_a_batch_do_not_touch_each_other(detector: Detector, batch_size: int):
    many = pictures((60, 90), (120, 50), (33, 200))
    alone = [detector.predict(image, threshold=0.0, tile_size=40, batch_size=2) for image in many]
    assert min(len(found) for found in alone) > 15  # 5 queries of 3 classes, in a single view
    together = detector.predict(many, threshold=0.0, tile_size=40, batch_size=batch_size)
    assert_same_detections(together, alone)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tile_size": 0}, r"tile_size 0 is neither a number of pixels \(518\) nor HEIGHTxWIDTH"),
        ({"tile_size": -640}, "tile_size -640 is neither"),
        ({"tile_size": (640, 0)}, r"tile_size \(640, 0\) is neither"),
        ({"tile_size": 64.5}, "tile_size 64.5 is neither"),
        ({"tile_size": 64, "tile_overlap": 1.0}, "tile_overlap must be at least 0 and below 1, not 1.0"),
        ({"tile_size": 64, "tile_overlap": -0.5}, "tile_overlap must be at least 0 and below 1, not -0.5"),
        ({"tile_size": 64, "batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"threshold": 30}, "threshold must be between 0 and 1, not 30"),
        ({"threshold": -0.1}, "threshold must be between 0 and 1, not -0.1"),
    ],
)
def test_numbers_that_make_no_tiles_batches_or_scores_are_refused(
    detector: Detector, settings: dict[str, Any], message: str
):
    with pytest.raises(InputError, match=message):
        detector.predict(pictures((200, 200)), **settings)


def test_the_network_sees_images_with_the_normalisation_of_its_base(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
):
    seen = []
    forward = Detector.forward
    monkeypatch.setattr(Detector, "forward", lambda self, values: seen.append(values) or forward(self, values))
    grey = torch.full((3, 70, 70), 102, dtype=torch.uint8)  # 0.4; the folder says mean 0.5 0.4 0.3, std 0.2 0.25 0.3
    detector.predict(grey)
    expected = torch.tensor([-0.5, 0.0, 1 / 3]).view(1, 3, 1, 1).expand(1, 3, 56, 84)
    torch.testing.assert_close(seen[0], expected, atol=1e-5, rtol=0)


def test_a_detector_in_training_mode_does_not_predict(detector: Detector):
    with pytest.raises(AssertionError, match="call eval"):
        detector.train().predict(pictures())


# --- devices and presets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "is not auto, cpu, cuda"),
        ("xpu:3", "not available"),
        ("cuda:99", "not available"),
        ("cpu:1", "not available"),
    ],
)
def test_a_device_that_is_not_there_is_refused(device: str, message: str):
    with pytest.raises(InputError, match=f"device '{device}' {message}|device '{device}' is {message}"):
        resolve_device(device)


def test_the_cpu_is_always_there():
    assert resolve_device("cpu") == resolve_device("cpu:0") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda", "mps", "xpu")


def test_the_lightweight_preset_runs(dinov2_folder: Path):
    settings = LIGHTWEIGHT | {"dino_model": str(dinov2_folder), "image_size": "84x112"}
    detector = build_detector(Config.from_flat(settings), categories=CATEGORIES).eval()
    output = detector(torch.zeros(1, 3, 84, 112))
    assert output.logits.shape == (2, 1, 25, 3)
