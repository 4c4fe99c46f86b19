from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from dino_detector.config import Config
from dino_detector.errors import InputError
from dino_detector.models.checkpoint import FORMAT, HEADER, CheckpointHeader, read_checkpoint, write_checkpoint
from dino_detector.structures.categories import Categories


@pytest.fixture
def header() -> CheckpointHeader:
    return CheckpointHeader(
        config=Config().replace(
            image_size="504x896", dino_model="models/own", lora_layers=None, feature_layers=[5, -1]
        ),
        categories=Categories(ids=(0, 3, 90), names=("person", "car", "toothbrush")),
        mean=[0.5, 0.4, 0.3],
        std=[0.2, 0.25, 0.3],
        architecture={"model_type": "dinov2", "hidden_size": 32},
        base_fingerprint="abc",
    )


@pytest.fixture
def checkpoint(header: CheckpointHeader, tmp_path: Path) -> Path:
    path = tmp_path / "detector.pth"
    write_checkpoint({HEADER: header.to_dict(), "state_dict": {"detector.weight": torch.ones(50)}}, path)
    return path


def test_header_survives_the_file(header: CheckpointHeader, checkpoint: Path):
    read, contents = read_checkpoint(checkpoint)
    assert read == header
    assert torch.equal(contents["state_dict"]["detector.weight"], torch.ones(50))


def test_header_holds_plain_values_only(header: CheckpointHeader):
    def plain(value: object) -> bool:
        if type(value) is dict:
            return all(type(name) is str and plain(item) for name, item in value.items())
        if type(value) is list:
            return all(plain(item) for item in value)
        return type(value) in (str, int, float, bool, type(None))

    assert plain(header.to_dict())


def test_a_missing_file_is_named(tmp_path: Path):
    path = tmp_path / "none.pth"
    with pytest.raises(InputError, match=f"{path}: no such checkpoint; check its path"):
        read_checkpoint(path)


def test_a_folder_is_told_from_a_missing_file(tmp_path: Path):
    with pytest.raises(InputError, match=r"is a folder; give a checkpoint, a file that ends in \.pth"):
        read_checkpoint(tmp_path)
    (tmp_path / "dino_detector_best.pth").touch()
    with pytest.raises(InputError, match=r"is a folder; give a checkpoint in it, such as .*dino_detector_best.pth"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_named(checkpoint: Path, share: float):
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=f"{checkpoint}: not a readable checkpoint") as caught:
        read_checkpoint(checkpoint)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_file_of_any_other_kind_is_named(tmp_path: Path):
    """The first byte decides how torch's reader fails, so try all values, alone and after a pickle header."""
    path = tmp_path / "other.pth"
    for first in range(256):
        for content in (bytes([first]) + b"nothing of torch\n" * 3, b"\x80\x02" + bytes([first]) + b"abc." * 4):
            path.write_bytes(content)
            with pytest.raises(InputError, match=f"{path}: not a "):
                read_checkpoint(path)


def test_text_in_the_place_of_a_checkpoint_is_called_what_it_is(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text("accumulate_batches: 1\naugmentation: true\n")
    with pytest.raises(InputError, match=r"config\.yaml: not a readable checkpoint .*torch did not write it"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [{"model": torch.ones(3)}, [1, 2], torch.ones(3)])
def test_a_checkpoint_of_another_program_is_named(tmp_path: Path, content: object):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(InputError, match=f"{path}: not a checkpoint of dino_detector"):
        read_checkpoint(path)


def test_a_checkpoint_with_code_in_it_is_not_run(tmp_path: Path):
    path = tmp_path / "code.pth"
    torch.save({HEADER: Path("a path is an object that weights_only refuses")}, path)
    with pytest.raises(InputError, match=f"{path}: not a readable checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize("stated", [FORMAT + 1, FORMAT - 1, 0, None, "2"])
def test_another_format_is_named(header: CheckpointHeader, tmp_path: Path, stated: object):
    path = tmp_path / "other.pth"
    write_checkpoint({HEADER: header.to_dict() | {"format": stated}}, path)
    with pytest.raises(InputError, match=f"{path}: written by another version of dino_detector"):
        read_checkpoint(path)


def test_a_committed_checkpoint_counts_before_it_is_in_its_place(header: CheckpointHeader, tmp_path: Path):
    """The run was killed after it renamed the folder of its files, and before it had moved all of them."""
    write_checkpoint({HEADER: header.to_dict(), "state_dict": {"age": torch.zeros(1)}}, tmp_path / "best.pth")
    finished = tmp_path / ".finished"
    write_checkpoint({HEADER: header.to_dict(), "state_dict": {"age": torch.ones(1)}}, finished / "best.pth")
    (finished / ".manifest.json").write_text("{}")
    assert read_checkpoint(tmp_path / "best.pth")[1]["state_dict"]["age"] == 1


def test_a_setting_of_another_version_is_named_with_the_file(header: CheckpointHeader, tmp_path: Path):
    path = tmp_path / "older.pth"
    stored = header.to_dict()
    stored["config"]["number_of_queries"] = 10
    write_checkpoint({HEADER: stored}, path)
    with pytest.raises(InputError, match=f"{path}: number_of_queries is no setting"):
        read_checkpoint(path)


def test_no_flipped_bit_is_read_as_another_detector(header: CheckpointHeader, tmp_path: Path):
    """Only bits that a zip archive ignores, such as a file's time, may flip; every other flip is detected."""
    path, weights = tmp_path / "whole.pth", torch.randn(500)
    write_checkpoint({HEADER: header.to_dict(), "state_dict": {"detector.weight": weights}}, path)
    whole = path.read_bytes()
    rng = random.Random(0)
    messages = []
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            read, contents = read_checkpoint(path)
        except InputError as error:
            messages.append(str(error))
        else:
            assert read == header
            assert torch.equal(contents["state_dict"]["detector.weight"], weights)
    assert len(messages) > 200
    assert all(message.startswith(f"{path}: ") and "\n" not in message for message in messages)


def test_a_hole_of_zeros_is_found(checkpoint: Path):
    whole = checkpoint.read_bytes()
    weights = whole.index(torch.ones(50).numpy().tobytes())
    checkpoint.write_bytes(whole[:weights] + bytes(120) + whole[weights + 120 :])
    with pytest.raises(InputError, match=f"{checkpoint}: not a readable checkpoint .*checksum"):
        read_checkpoint(checkpoint)


@pytest.mark.parametrize(
    "change",
    [
        lambda contents: contents["state_dict"].clear(),
        lambda contents: contents.pop("state_dict"),
        lambda contents: contents.update(optimizer_states=[]),
        lambda contents: contents[HEADER]["category_ids"].reverse(),
        lambda contents: contents[HEADER].update(mean=None),
        lambda contents: contents.pop("digest"),
    ],
)
def test_contents_that_somebody_changed_are_refused(checkpoint: Path, change):
    contents = torch.load(checkpoint, weights_only=True)
    change(contents)
    torch.save(contents, checkpoint)
    with pytest.raises(InputError, match=f"{checkpoint}: changed since dino_detector wrote it"):
        read_checkpoint(checkpoint)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("entry", ["state_dict", "current_model_state", "optimizer_states"])
def test_what_is_not_finite_is_not_written(header: CheckpointHeader, checkpoint: Path, entry: str, value: float):
    before = checkpoint.read_bytes()
    broken = {"a": {"b": [torch.ones(3), torch.tensor([1.0, value]), torch.ones(0)]}}
    with pytest.raises(FloatingPointError, match="not finite"):
        write_checkpoint({HEADER: header.to_dict(), "state_dict": {}, entry: broken}, checkpoint)
    assert checkpoint.read_bytes() == before
    assert list(checkpoint.parent.iterdir()) == [checkpoint]
    write_checkpoint({HEADER: header.to_dict(), "state_dict": {}, "callbacks": torch.tensor(value)}, checkpoint)
