"""Exported files give the detections of the original detector."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import load_model, save_model
from PIL import Image
from torch import Tensor

from dino_detector import Detector, ExportedDetector
from dino_detector.config import Config
from dino_detector.errors import InputError
from dino_detector.inference import export
from dino_detector.inference.detector import build_detector
from dino_detector.inference.exported_detector import METADATA
from dino_detector.structures.categories import Categories

SUFFIXES = [".onnx", ".xml"]


def tiny_detector(**changes: Any) -> Detector:
    """Return a detector whose trained weights have all left their initial values."""
    settings: dict[str, Any] = {
        "backbone_weights": "random",
        "backbone_architecture": {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 56,
        },
        "lora_layers": 1,
        "image_size": "56x84",
        "num_queries": 9,
        "decoder_layers": 2,
        "hidden_dim": 16,
        "num_heads": 4,
        "feedforward_dim": 24,
        "n_points": 2,
        "feature_scales": [2.0, 1.0, 0.5],
        "box_head_dim": 12,
    }
    torch.manual_seed(0)
    detector = build_detector(
        Config.from_flat(settings | changes), categories=Categories((3, 9, 11), ("cell", "plate", "ünder"))
    )
    with torch.no_grad():
        for parameter in detector.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape) * 0.1)
    return detector.merge()


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8)
        for size in ((60, 90), (120, 50), (56, 84))
    ]


def assert_same(found: Any, expected: Any) -> None:
    """Check for equality; detections with nearly equal scores may have changed places."""
    assert len(found) == len(expected) >= 27
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-4)
    near = np.abs(found.confidence[:, None] - expected.confidence) < 1e-4
    near &= (np.abs(found.xyxy[:, None] - expected.xyxy) < 0.05).all(-1)
    near &= found.class_id[:, None] == expected.class_id
    near &= found.data["class_name"][:, None] == expected.data["class_name"]
    assert near.any(0).all()
    assert near.any(1).all()


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> tuple[Detector, Path]:
    """Return a detector and its exported file."""
    detector, path = tiny_detector(), tmp_path_factory.mktemp("onnx") / "detector.onnx"
    detector.export(path)
    return detector, path


@pytest.mark.parametrize(
    ("suffix", "changes"),
    [
        (".onnx", {"two_stage": False, "use_deformable": False, "use_dora": True}),
        (".xml", {"resize_mode": "letterbox"}),
    ],
    ids=["learned query positions, full attention and DoRA", "letterbox"],
)
def test_an_exported_detector_detects_the_same_in_batches(suffix: str, changes: dict[str, Any], tmp_path: Path):
    detector = tiny_detector(**changes)
    expected = detector.predict(images(), threshold=0.0)
    detector.export(tmp_path / f"detector{suffix}", batch_size=2)
    exported = ExportedDetector.load(tmp_path / f"detector{suffix}", threads=1)
    for one, other in zip(exported.predict(images(), threshold=0.0), expected, strict=True):
        assert_same(one, other)
    assert exported.categories == detector.categories
    for one, other in zip(detector.predict(images(), threshold=0.0), expected, strict=True):
        assert_same(one, other)  # exporting does not change the detector


def test_an_optimized_detector_can_be_exported(tmp_path: Path):
    """An optimized detector has copies of layers, packed in blocks that only PyTorch's kernels read."""
    expected = tiny_detector().predict(images(), threshold=0.0)
    detector = tiny_detector().optimize(precision="bf16")
    found = detector.predict(images(), threshold=0.0)
    detector.export(tmp_path / "detector.onnx")
    exported = ExportedDetector.load(tmp_path / "detector.onnx", threads=1).predict(images(), threshold=0.0)
    for one, other in zip(exported, expected, strict=True):
        assert_same(one, other)
    for one, other in zip(detector.predict(images(), threshold=0.0), found, strict=True):
        np.testing.assert_array_equal(one.confidence, other.confidence)  # exporting does not change it


@pytest.mark.parametrize("tile_size", [None, 40])
def test_an_exported_detector_detects_images_of_all_sizes(onnx: tuple[Detector, Path], tile_size: int | None):
    detector, path = onnx
    expected = detector.predict(images(), threshold=0.0, tile_size=tile_size)
    found = ExportedDetector.load(path, threads=1).predict(images(), threshold=0.0, tile_size=tile_size)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("mode", ["stretch", "letterbox"])
def test_the_example_of_the_page_finds_what_the_package_finds(
    mode: str, onnx: tuple[Detector, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The boxes equal the boxes of `ExportedDetector.predict`, up to the rounding of two resizing libraries."""
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    (example,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "onnxruntime" in block)
    monkeypatch.chdir(tmp_path)
    model = load_model(onnx[1])
    (said,) = (entry for entry in model.metadata_props if entry.key == METADATA)
    said.value = json.dumps(json.loads(said.value) | {"resize_mode": mode})  # the graph is the same in both modes
    save_model(model, "detector.onnx")
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 9) * 255, size=(117, 200), mode="bilinear")
    Image.fromarray(smooth[0].byte().permute(1, 2, 0).numpy()).save("photo.jpg", quality=100)
    told: dict[str, Any] = {}
    exec(compile(example, "export.md", "exec"), told)
    expected = ExportedDetector.load("detector.onnx", threads=1).predict("photo.jpg", threshold=0.0)
    np.testing.assert_allclose(told["scores"][0], expected.confidence, atol=2e-3)
    best = int(expected.confidence.argmax())
    np.testing.assert_allclose(told["boxes_xyxy"][0].clip(0, [200, 117] * 2), expected.xyxy[best], atol=1.0)


def test_int8_detects_nearly_the_same_from_a_smaller_file(
    onnx: tuple[Detector, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Quantization begins with the file in 32 bits, which is here already."""
    detector, path = onnx
    monkeypatch.setattr(export, "_write_onnx", lambda network, images, target, metadata: shutil.copy(path, target))
    detector.export(tmp_path / "small.onnx", precision="int8")
    assert (tmp_path / "small.onnx").stat().st_size < path.stat().st_size
    assert len(list(tmp_path.iterdir())) == 1
    small = ExportedDetector.load(tmp_path / "small.onnx", threads=1)
    assert small.categories == detector.categories
    for one, other in zip(small.detect(images()), detector.detect(images()), strict=True):
        assert not torch.equal(one.scores, other.scores)
        torch.testing.assert_close(one.scores, other.scores, atol=0.05, rtol=0)


def test_the_graph_needs_nothing_of_this_package(onnx: tuple[Detector, Path]):
    """As documented, the graph takes pixels and returns boxes, scores and labels; the metadata has categories."""
    import onnxruntime

    detector, path = onnx
    (image,) = images()[2:]  # of the size of the network's input
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    boxes, scores, labels = session.run(["boxes_cxcywh", "scores", "labels"], {"images": image[None].numpy()})
    assert boxes.shape == (1, 27, 4)
    expected = detector.predict(image, threshold=0.0)
    corners = np.concatenate([boxes[0, :, :2] - boxes[0, :, 2:] / 2, boxes[0, :, :2] + boxes[0, :, 2:] / 2], axis=1)
    np.testing.assert_allclose((corners * [84, 56, 84, 56]).clip(0, [84, 56, 84, 56]), expected.xyxy, atol=0.05)
    np.testing.assert_allclose(scores[0], expected.confidence, atol=1e-4)
    said = json.loads(session.get_modelmeta().custom_metadata_map["dinov2_od"])
    assert [said["categories"]["ids"][label] for label in labels[0]] == expected.class_id.tolist()
    assert said["image_size"] == [56, 84]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_none_is_refused(suffix: str, tmp_path: Path):
    path = tmp_path / f"detector{suffix}"
    with pytest.raises(InputError, match="no such file"):
        ExportedDetector.load(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="can't be read"):
        ExportedDetector.load(path)


def test_a_model_of_another_program_is_refused(tmp_path: Path):
    torch.onnx.export(
        torch.nn.Linear(2, 2).eval(), (torch.zeros(1, 2),), tmp_path / "other.onnx", dynamo=True, verbose=False
    )
    with pytest.raises(InputError, match="not written by `dino-detector export`"):
        ExportedDetector.load(tmp_path / "other.onnx")


def test_what_can_not_be_exported_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    detector = tiny_detector()
    with pytest.raises(InputError, match=r"neither \.onnx, for ONNX Runtime, nor \.xml"):
        detector.export(tmp_path / "detector.engine")
    with pytest.raises(InputError, match="batch_size must be at least 1, not 0"):
        detector.export(tmp_path / "detector.onnx", batch_size=0)
    with pytest.raises(InputError, match=r"detector\.xml.*int8.*\.onnx"):
        detector.export(tmp_path / "detector.xml", precision="int8")
    with pytest.raises(InputError, match="precision '4' is neither 32 nor int8"):
        detector.export(tmp_path / "detector.onnx", precision="4")
    monkeypatch.setitem(export.WRITERS, ".onnx", ("onnx", "no_such_package"))
    with pytest.raises(InputError, match="needs the package no_such_package; pip install onnx no_such_package"):
        detector.export(tmp_path / "detector.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_detects_something_else_is_told(
    onnx: tuple[Detector, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, path = onnx
    monkeypatch.setattr(export, "_write_onnx", lambda network, images, target, metadata: shutil.copy(path, target))
    another = tiny_detector()
    with torch.no_grad():
        another.decoder.class_heads[-1].bias.add_(1.0)
    with pytest.raises(InputError, match=r"scores of the exported detector differ by .*nothing is written; try \.xml"):
        another.export(tmp_path / "detector.onnx")
    assert not list(tmp_path.iterdir())
