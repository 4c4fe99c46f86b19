from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dino_detector import cli
from dino_detector.config import Config
from dino_detector.data.pictures.finding import find_pictures


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, save_detector: Callable[..., Path]) -> Path:
    """Return the file of an untrained detector of two categories with the ids 3 and 9."""
    path = tmp_path_factory.mktemp("checkpoint") / "detector.pth"
    return save_detector(path, ("cell", "plate"), num_queries=60, two_stage=False)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, size in (("b.jpg", (60, 40)), ("a.PNG", (30, 80)), ("b.png", (50, 50))):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("not a picture")
    (folder / "more.jpg").mkdir()
    return folder


JSON = ["predictions.json", "predictions_images.json"]


def predict(*argv: str | Path) -> int:
    return cli.main(["predict", "--precision", "32", *map(str, argv), "--device", "cpu"])


def test_each_picture_gets_its_own_file_and_all_detections_go_to_the_json(
    pictures: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert predict(pictures, "--checkpoint", checkpoint, "--output_dir", out, "--batch_size", "2") == 0
    assert sorted(file.name for file in out.iterdir()) == ["a.PNG", "b.jpg", "b.png", *JSON]
    assert Image.open(out / "a.PNG").size == (30, 80)
    assert Image.open(out / "b.jpg").size == (60, 40)
    results = json.loads((out / "predictions.json").read_text())
    assert [result["image_id"] for result in results] == [1] * 100 + [2] * 100 + [3] * 100
    assert {(result["image_id"], result["file_name"]) for result in results} == {
        (1, "a.PNG"),
        (2, "b.jpg"),
        (3, "b.png"),
    }
    assert {result["category_id"] for result in results} == {3, 9}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"3 pictures in {pictures}; on cpu, precision 32"
    assert lines[1] == f"{pictures}: left out 1 file that is no picture (notes.txt)"
    assert lines[2:5] == ["a.PNG: nothing", "b.jpg: nothing", "b.png: nothing"]
    assert str(out) in lines[-1]


def test_the_precision_is_the_machines_unless_it_is_given(
    pictures: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from dino_detector.models.device import resolve_precision

    given = (pictures / "b.jpg", "--checkpoint", checkpoint, "--output_dir", tmp_path / "out", "--precision")
    of_machine = resolve_precision("auto", torch.device("cpu"))
    scores = {}
    for precision, shown in (("auto", of_machine), ("bf16", "bf16"), ("32", "32")):
        assert predict(*given, precision) == 0
        assert capsys.readouterr().out.splitlines()[0].endswith(f"on cpu, precision {shown}")
        scores[precision] = [row["score"] for row in json.loads((tmp_path / "out" / "predictions.json").read_text())]
    assert scores["auto"] == scores[of_machine]
    assert scores["bf16"] != scores["32"]
    np.testing.assert_allclose(scores["bf16"], scores["32"], rtol=0.05)
    assert predict(*given, "16") == 2
    assert "precision 16 is not for a CPU" in capsys.readouterr().err


def test_counts_and_boxes_are_of_what_reaches_the_threshold(
    pictures: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    predict(pictures / "b.png", "--checkpoint", checkpoint, "--output_dir", out)
    untouched = np.asarray(Image.open(out / "b.png"))
    results = json.loads((out / "predictions.json").read_text())
    threshold = sorted(result["score"] for result in results)[-10]
    capsys.readouterr()
    predict(pictures / "b.png", "--checkpoint", checkpoint, "--output_dir", out, "--threshold", repr(threshold - 1e-7))
    kept = [result["category_id"] for result in results if result["score"] >= threshold - 1e-7]
    names = {3: "cell", 9: "plate"}
    expected = ", ".join(f"{kept.count(key)} {name}" for key, name in names.items() if key in kept)
    assert capsys.readouterr().out.splitlines()[1] == f"b.png: {expected}"
    assert (untouched == np.asarray(Image.open(pictures / "b.png"))).all()
    assert not (untouched == np.asarray(Image.open(out / "b.png"))).all()


def test_pictures_that_fit_in_a_tile_get_the_same_detections(pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    for out, *flags in (("plain",), ("tiles", "--tile_size", "80", "--tile_overlap", "0.5")):
        assert predict(pictures, "--checkpoint", checkpoint, "--output_dir", tmp_path / out, *flags) == 0
    plain, tiles = ((tmp_path / out / "predictions.json").read_bytes() for out in ("plain", "tiles"))
    assert tiles == plain


def test_tiles_give_the_json_every_box_that_is_drawn_and_at_least_the_best_hundred(
    pictures: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """Compare with the Python API; a picture of 30 x 80 pixels gives 4 views: the whole picture and 3 tiles."""
    from dino_detector.inference.detector import Detector

    every = Detector.load(checkpoint, device="cpu").predict(pictures / "a.PNG", threshold=0.0, tile_size=(30, 35))
    assert len(every) > 150
    median = float(np.median(every.confidence))
    for threshold, count in ((0.0, len(every)), (median, int((every.confidence >= median).sum())), (1.0, 100)):
        flags = ["--tile_size", "30x35", "--threshold", repr(threshold), "--output_dir", tmp_path / "out"]
        assert predict(pictures / "a.PNG", "--checkpoint", checkpoint, *flags) == 0
        rows = json.loads((tmp_path / "out" / "predictions.json").read_text())
        assert [row["score"] for row in rows] == pytest.approx(every.confidence[: max(count, 100)].tolist(), abs=1e-5)


def test_a_broken_picture_among_those_that_are_cut_leaves_the_others_in_their_places(
    pictures: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (pictures / "aa.jpg").write_bytes((pictures / "b.jpg").read_bytes()[:400])
    flags = ["--tile_size", "30", "--batch_size", "3", "--output_dir", tmp_path / "out"]
    assert predict(pictures, "--checkpoint", checkpoint, *flags) == 2
    rows = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert {(row["image_id"], row["file_name"]) for row in rows} == {(1, "a.PNG"), (3, "b.jpg"), (4, "b.png")}
    sizes = {"a.PNG": (30, 80), "b.jpg": (60, 40), "b.png": (50, 50)}
    for row in rows:
        left, top, width, height = row["bbox"]
        assert left + width <= sizes[row["file_name"]][0] + 0.01
        assert top + height <= sizes[row["file_name"]][1] + 0.01


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--tile_size", "0"],
            "--tile_size 0 is neither a number of pixels (518) nor HEIGHTxWIDTH (504x896)",
        ),
        (
            ["--tile_size", "-640"],
            "--tile_size -640 is neither a number of pixels (518) nor HEIGHTxWIDTH (504x896)",
        ),
        (
            ["--tile_size", "big"],
            "--tile_size 'big' is neither a number of pixels (518) nor HEIGHTxWIDTH (504x896)",
        ),
        (["--tile_size", "64", "--tile_overlap", "1"], "--tile_overlap must be at least 0 and below 1, not 1.0"),
        (["--tile_size", "64", "--tile_overlap", "-0.1"], "--tile_overlap must be at least 0 and below 1, not -0.1"),
        (["--tile_size", "64", "--tile_overlap", "much"], "--tile_overlap must be a number, not 'much'"),
        (
            ["--tile_overlap", "0.3"],
            "--tile_overlap has no effect without --tile_size; give both or neither",
        ),
    ],
)
def test_settings_that_make_no_tiles_are_refused(
    flags: list[str], message: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(pictures, "--checkpoint", "x.pth", "--output_dir", tmp_path / "out", *flags) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / "out").exists()


def test_the_help_explains_tiles(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        predict("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "--tile_size SIZE detect in tiles of this size" in text
    assert "(default: 0.2)" in text
    assert ".help" not in text


def test_a_broken_picture_is_named_at_the_end_and_the_others_are_done(
    pictures: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (pictures / "b.jpg").read_bytes()
    (pictures / "aa.jpg").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    assert predict(pictures, "--checkpoint", checkpoint, "--output_dir", out) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"error: {pictures / 'aa.jpg'}: ")
    results = json.loads((out / "predictions.json").read_text())
    assert {(result["image_id"], result["file_name"]) for result in results} == {
        (1, "a.PNG"),
        (3, "b.jpg"),
        (4, "b.png"),
    }
    assert sorted(file.name for file in out.iterdir()) == ["a.PNG", "b.jpg", "b.png", *JSON]
    listed = json.loads((out / "predictions_images.json").read_text())["images"]
    assert {one["file_name"]: one["drawn"] for one in listed} == {
        **{name: name for name in ("a.PNG", "b.jpg", "b.png")},
        "aa.jpg": None,
    }
    assert predict(pictures / "b.png", "--checkpoint", checkpoint, "--output_dir", out) == 0
    assert sorted(file.name for file in out.iterdir() if file.is_file()) == ["b.png", *JSON]


def test_the_pictures_are_never_overwritten(
    pictures: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file.name: file.read_bytes() for file in pictures.iterdir() if file.is_file()}
    for source, out in ((pictures, pictures), (pictures / "b.png", pictures / "more.jpg" / "..")):
        assert predict(source, "--checkpoint", checkpoint, "--output_dir", out) == 2
        assert "would be overwritten; change --output_dir" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in pictures.iterdir() if file.is_file()} == before


def test_an_output_folder_that_is_a_file_is_refused(
    pictures: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = pictures / "notes.txt"
    assert predict(pictures, "--checkpoint", checkpoint, "--output_dir", out) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {out}: ")
    assert "--output_dir" in line


def test_a_folder_without_pictures_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    assert predict(tmp_path, "--checkpoint", "x.pth", "--output_dir", tmp_path / "out") == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: holds no pictures")


def test_a_missing_checkpoint_is_one_line(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(pictures, "--checkpoint", tmp_path / "x.pth", "--output_dir", tmp_path / "out") == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'x.pth'}: no such checkpoint")
    assert not (tmp_path / "out").exists(), "no empty folder is left"
    (tmp_path / "mine").mkdir()
    assert predict(pictures, "--checkpoint", tmp_path / "x.pth", "--output_dir", tmp_path / "mine") == 2
    assert (tmp_path / "mine").exists()


def test_pictures_are_those_directly_in_the_folder_by_name(pictures: Path) -> None:
    (pictures / "more.jpg" / "inside.png").write_bytes((pictures / "b.png").read_bytes())
    found = find_pictures(pictures)
    assert [file.name for file in found.pictures] == ["a.PNG", "b.jpg", "b.png"]
    assert found.left_out == ["notes.txt"]
    assert found.nested == 1
    everything = find_pictures(pictures, recursive=True)
    assert [file.name for file in everything.pictures] == ["a.PNG", "b.jpg", "b.png", "inside.png"]
    assert everything.nested == 0
    assert find_pictures(pictures / "notes.txt").pictures == [pictures / "notes.txt"]


def test_pictures_are_known_by_what_they_hold_and_litter_is_none(tmp_path: Path) -> None:
    whole = Image.new("RGB", (8, 8), "red")
    for name, kind in (("a.gif", "GIF"), ("a.jfif", "JPEG"), ("noext", "PNG"), ("a.mpo", "MPO"), ("a.txt", "PNG")):
        whole.save(tmp_path / name, kind)
    for name in ("._a.gif", ".DS_Store", "Thumbs.db", "notes.md", "film.mpg"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    found = find_pictures(tmp_path)
    assert [file.name for file in found.pictures] == ["a.gif", "a.jfif", "a.mpo", "a.txt", "noext"]
    assert sorted(found.left_out) == [".DS_Store", "._a.gif", "Thumbs.db", "film.mpg", "notes.md"]


def test_subfolders_are_counted_and_taken_where_that_is_asked_for(
    pictures: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b.png", "c.gif"):
        Image.new("RGB", (20, 20)).save(pictures / "more.jpg" / name)
    flags = (pictures, "--checkpoint", checkpoint, "--output_dir", tmp_path / "out")
    assert predict(*flags) == 0
    assert "left out 2 pictures in subfolders" in capsys.readouterr().out
    assert predict(*flags, "--recursive") == 0
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert {"a.PNG", "b.png", "more.jpg/b.png", "more.jpg/c.gif.png"} <= written
    rows = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert {row["file_name"] for row in rows} == {"a.PNG", "b.jpg", "b.png", "more.jpg/b.png", "more.jpg/c.gif"}


def test_results_below_the_pictures_are_no_pictures(
    pictures: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = (pictures, "--checkpoint", checkpoint, "--output_dir", pictures / "found" / "here", "--recursive")
    for _ in range(3):
        assert predict(*flags) == 0
    assert "3 pictures in" in (out := capsys.readouterr().out)
    assert "left out 1 file that is no picture (notes.txt) and the results of earlier calls in found/here" in out
    rows = json.loads((pictures / "found" / "here" / "predictions.json").read_text())
    assert {row["file_name"] for row in rows} == {"a.PNG", "b.jpg", "b.png"}


@pytest.mark.parametrize("below", [".", "deep"])
def test_pictures_in_the_output_folder_are_not_overwritten(
    below: str, pictures: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = pictures / "sub" / below / "b.jpg"
    (pictures / below).mkdir(exist_ok=True)
    mine.parent.mkdir(parents=True)
    Image.new("RGB", (20, 20), "red").save(mine)
    Image.new("RGB", (20, 20), "blue").save(pictures / below / "b.jpg")
    before = mine.read_bytes()
    flags = (pictures, "--checkpoint", checkpoint, "--output_dir", pictures / "sub", "--recursive")
    assert predict(*flags) == 2
    assert "change --output_dir" in capsys.readouterr().err
    assert mine.read_bytes() == before


def test_a_name_that_is_an_extension_and_a_pipe_do_no_harm(
    pictures: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (20, 20), "red").save(pictures / ".jpg", "JPEG")
    os.mkfifo(pictures / "pipe.jpg")
    assert predict(pictures, "--checkpoint", checkpoint, "--output_dir", tmp_path / "out") == 0
    assert (tmp_path / "out" / ".jpg.png").is_file()
    assert "(notes.txt, pipe.jpg)" in capsys.readouterr().out


def test_a_second_call_moves_the_results_of_the_first_aside(pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    flags = ("--checkpoint", checkpoint, "--output_dir", out)
    assert predict(pictures, *flags) == 0
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert predict(pictures / "b.png", *flags, "--threshold", "0") == 0
    (aside,) = out.glob("earlier_*")
    assert {path.name: path.read_bytes() for path in aside.iterdir()} | {"mine.txt": b"kept"} == first
    assert sorted(path.name for path in out.iterdir() if path.is_file()) == ["b.png", "mine.txt", *JSON]


def test_who_stops_it_has_the_detections_in_the_pictures_that_are_done(
    pictures: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from dino_detector.data.pictures import decoding as images

    read = images.read_image

    def interrupted(path: Path, **how: Any) -> Any:
        if path.name == "b.png":
            raise KeyboardInterrupt
        return read(path, **how)

    monkeypatch.setattr(images, "read_image", interrupted)
    flags = ("--checkpoint", checkpoint, "--output_dir", tmp_path / "out", "--batch_size", "1")
    assert predict(pictures, *flags) == 130
    assert "stopped after 2 of 3 pictures" in capsys.readouterr().err
    rows = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert {row["file_name"] for row in rows} == {"a.PNG", "b.jpg"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.PNG", "b.jpg", *JSON]


def test_several_frames_are_said_once_and_the_first_is_used(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    first, second = Image.new("RGB", (30, 20), "red"), Image.new("RGB", (30, 20), "blue")
    for name in ("a.gif", "b.tif", "c.webp", "d.png"):
        first.save(tmp_path / "in" / name, save_all=True, append_images=[second])
    assert predict(tmp_path / "in", "--checkpoint", checkpoint, "--output_dir", tmp_path / "out") == 0
    assert capsys.readouterr().out.count("4 pictures have several frames; the first was used") == 1
    assert Image.open(tmp_path / "out" / "d.png").getpixel((0, 0)) == (255, 0, 0)


def test_a_picture_over_the_limit_names_the_setting_that_raises_it(
    pictures: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = (pictures / "b.jpg", "--checkpoint", checkpoint, "--output_dir", tmp_path / "out")
    assert predict(*flags, "--max_megapixels", "0.001") == 2
    assert "--max_megapixels" in capsys.readouterr().err
    assert predict(*flags, "--max_megapixels", "179", "--tile_size", "20") == 0


@pytest.fixture(scope="module")
def two(dinov2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return detectors of cells and of plates on one base, in files of the same name."""
    import torch

    from dino_detector.inference.detector import build_detector
    from dino_detector.structures.categories import Categories

    paths = []
    for seed, (name, key) in enumerate({"cell": 3, "plate": 9}.items()):
        config = Config.from_flat(
            {"dino_model": str(dinov2_folder), "image_size": 56, "lora_layers": 2, "num_queries": 60}
            | {"decoder_layers": 1, "hidden_dim": 32, "feature_scales": [1.0]}
        )
        torch.manual_seed(seed)
        paths.append(tmp_path_factory.mktemp(name) / "best.pth")
        build_detector(config, categories=Categories(ids=(key,), names=(name,))).save(paths[-1])
    return paths


def test_several_detectors_write_to_a_folder_each_what_each_writes_alone(
    pictures: Path, two: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--threshold", "0", "--batch_size", "2", "--output_dir"]
    for name, path in zip("ab", two, strict=True):
        assert predict(pictures, "--checkpoint", path, *flags, tmp_path / name) == 0
    alone = capsys.readouterr().out.splitlines()
    assert predict(pictures, "--checkpoint", *two, *flags, tmp_path / "out") == 0
    together = capsys.readouterr().out.splitlines()
    names = [f"{path.parent.name}_best" for path in two]
    assert sorted(folder.name for folder in (tmp_path / "out").iterdir()) == sorted(names)
    for name, single in zip(names, "ab", strict=True):
        for file in (tmp_path / single).iterdir():
            assert (tmp_path / "out" / name / file.name).read_bytes() == file.read_bytes(), (name, file.name)
    alone, together = ([line for line in lines if "left out" not in line] for lines in (alone, together))
    pictures_alone = [line for line in alone if ": " in line]
    assert len(pictures_alone) == 6
    assert [line for line in together if ": " in line] == [
        f"{names[half]}/{pictures_alone[3 * half + number]}" for number in range(3) for half in range(2)
    ]


def test_folders_are_named_by_what_tells_the_checkpoints_apart(
    pictures: Path, two: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [tmp_path / f"{name}.pth" for name in ("cells", "plates")]
    for path, copy in zip(two, named, strict=True):
        copy.write_bytes(path.read_bytes())
    assert predict("--checkpoint", *named, pictures, "--output_dir", tmp_path / "out") == 0, "the picture may come last"
    assert {folder.name for folder in (tmp_path / "out").iterdir()} == {"cells", "plates"}
    deep = [tmp_path / "best.pth", tmp_path / "again" / tmp_path.relative_to("/") / "best.pth"]
    deep[1].parent.mkdir(parents=True)
    for path, copy in zip(two, deep, strict=True):
        copy.write_bytes(path.read_bytes())
    assert predict("--checkpoint", *deep, pictures, "--output_dir", tmp_path / "ends") == 0, (
        "one path ends as the other"
    )
    assert len(list((tmp_path / "ends").iterdir())) == 2
    capsys.readouterr()
    assert predict(pictures, "--checkpoint", two[0], two[0], "--output_dir", tmp_path / "more") == 2
    assert capsys.readouterr().err == f"error: --checkpoint has {two[0]} twice; give it once\n"
    assert not (tmp_path / "more").exists()


def test_a_detector_without_the_trunk_of_the_others_is_named(
    pictures: Path, two: list[Path], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(pictures, "--checkpoint", two[0], checkpoint, "--output_dir", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {checkpoint}: has a backbone of its own")
    assert not (tmp_path / "out").exists()
    assert error.count("\n") == 1
