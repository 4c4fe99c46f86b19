from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dino_detector.analysis.drawing import class_color
from dino_detector.commands.analyze import _list_files, main
from dino_detector.errors import InputError
from dino_detector.structures.metrics import ClassMetrics, CocoMetrics

GREY = (100, 100, 100)
ROOT = Path(__file__).parents[2]
METRICS = CocoMetrics(
    *(0.4216, 0.7, 0.45, -1.0, 0.3, 0.0),
    *(0.11, 0.52, 1.0, -1.0, 0.33, 0.44),
    per_class=(ClassMetrics(3, "cat", 0.5, 0.75, 12), ClassMetrics(9, "Жук", -1, -1, 0)),
    num_images=50,
    num_detections=1234,
)
PREDICTIONS = ["--predictions_file", "empty.json", "--test_images", "images"]
EVAL = ["--run_eval", "--model_path", "m.pth", "--val_images", "images", "--val_annotations", "val.json"]


def row(image_id: int, score: float, category_id: int = 3, **more: Any) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category_id, "bbox": [10, 20, 30, 15], "score": score, **more}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory: images 000001.png to 000006.png, metrics.json, empty.json without detections."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dino_detector.commands.frame.configure_logging", lambda: None)
    (tmp_path / "images").mkdir()
    for number in range(1, 7):
        Image.new("RGB", (64, 48), GREY).save(tmp_path / "images" / f"{number:06}.png")
    METRICS.write(tmp_path / "metrics.json", epoch=10)
    write("empty.json", [])
    return tmp_path


def write(name: str, content: Any) -> None:
    Path(name).write_text(json.dumps(content), encoding="utf-8")


def image_list(files: dict[int, str], **more: Any) -> dict[str, Any]:
    entries = [{"id": number, "file_name": name, "height": 48, "width": 64} for number, name in files.items()]
    return {"images": entries, "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}], **more}


def analyze(rows: list[dict[str, Any]], *argv: str) -> int:
    """Analyze rows as found.json, with the pictures in ``images``."""
    write("found.json", rows)
    return main(["--predictions_file", "found.json", "--test_images", "images", *argv])


def written(folder: str = "outputs/analysis") -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def drawn() -> list[str]:
    return sorted(name.rpartition("/")[2] for name in written() if "_pictures/" in name)


def error_of(code: int, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one-line error of a command that left no file."""
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert not written()
    return captured.err.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            [],
            "give what to analyze: --metrics_file FILE, DATA --predictions_file FILE, or DATA --run_eval --model_path "
            "FILE; --test_images DIR, or --val_images DIR and --val_annotations FILE, can stand for DATA",
        ),
        (["--num_visualizations", "3"], "give what to analyze: "),
        (["--metric_file", "x"], "unknown flag --metric_file; did you mean --metrics_file?"),
        (["--metrics_file", "none.json"], "none.json: no such file; correct --metrics_file"),
        (["--metrics_file", "images"], "images: no such file; correct --metrics_file"),
        (["--predictions_file", "empty.json"], "--predictions_file needs DATA or --test_images; see --help"),
        (["--test_images", "images"], "--test_images is for --predictions_file, which is not given; see --help"),
        (
            ["--predictions_file", "empty.json", "--test_images", "none"],
            "none: no such folder; correct --test_images",
        ),
        (["--run_eval"], "--run_eval needs --model_path; see --help"),
        (["--model_path", "m.pth"], "--model_path is for --run_eval, which is not given; see --help"),
        (EVAL, "m.pth: no such file; correct --model_path"),
        (
            ["--metrics_file", "metrics.json", "--num_visualizations", "-1"],
            "--num_visualizations must be at least 0, not -1",
        ),
        (
            ["--metrics_file", "metrics.json", "--confidence_threshold", "1.5"],
            "--confidence_threshold must be between 0 and 1, not 1.5",
        ),
        (["--metrics_file", "metrics.json", "--batch_size", "0"], "--batch_size must be at least 1, not 0"),
        (["--metrics_file", "metrics.json", "--gallery_images", "-1"], "--gallery_images must be at least 0, not -1"),
        (
            ["--val_images", "images"],
            "--val_images is for --run_eval or --metrics_file, and neither is given; see --help",
        ),
        (
            ["--metrics_file", "metrics.json", "--test_images", "images"],
            "--test_images is for --predictions_file, which is not given; see --help",
        ),
        (
            [*PREDICTIONS, "--metrics_file", "metrics.json", "--val_images", "images"],
            "--test_images and --val_images are the same beside --metrics_file; leave one out",
        ),
        ([*EVAL, *PREDICTIONS], "--run_eval makes its own detections; analyze --predictions_file in a call of its own"),
        (
            ["--metrics_file", "a.json", "b.json", "c.json"],
            "--metrics_file takes the baseline and the file to report, not 3 files",
        ),
        (
            [*EVAL, "--metrics_file", "a.json,b.json"],
            "--metrics_file takes one file beside --run_eval, the baseline, not 2 files",
        ),
        (["--metrics_file", "metrics.json", "./metrics.json"], "metrics.json: is given twice; compare it with another"),
        (["--metrics_file", "metrics.json", "none.json"], "none.json: no such file; correct --metrics_file"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    argv: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    assert error_of(main(argv), capsys).startswith(message)
    assert sorted(folder.rglob("*")) == before


def test_help_and_mistakes_import_nothing_heavy() -> None:
    code = (
        "import contextlib, io, sys\n"
        "from dino_detector.commands.analyze import main\n"
        "with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):\n"
        "    assert [main(argv) for argv in ([], ['--run_eval'], ['--metrics_file', 'none'])] == [2, 2, 2]\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main(['--help'])\n"
        "print(*{'torch', 'matplotlib', 'numpy', 'PIL'} & sys.modules.keys())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_the_script_is_the_command() -> None:
    script = [sys.executable, str(ROOT / "analyze_results.py")]
    helped = subprocess.run([*script, "--help"], capture_output=True, text=True, check=True)
    assert helped.stdout.startswith("usage: python3 analyze_results.py [DATA] --metrics_file [BASELINE] FILE")
    assert "evenly spaced over the sorted" in helped.stdout
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: give what to analyze: ")


def test_metrics_become_a_table_charts_and_a_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(folder.iterdir())
    assert main(["--metrics_file", "metrics.json"]) == 0
    assert written() == {"report.html", "metrics_coco.png", "metrics_ap_per_class.png"}
    assert set(folder.iterdir()) - before == {folder / "outputs"}
    for name in written() - {"report.html"}:
        with Image.open(folder / "outputs" / "analysis" / name) as picture:
            assert picture.format == "PNG"
            assert picture.width > 900
    lines = capsys.readouterr().out.splitlines()
    assert ["precision", "0.422", "0.700", "0.450", "-", "0.300", "0.000"] in [line.split() for line in lines]
    assert ["Жук", "-", "-", "0"] in [line.split() for line in lines]
    assert lines[-6] == "Written:"
    assert lines[-5].startswith("outputs/analysis/report.html               the report, 0.")
    assert lines[-4:] == [
        "outputs/analysis/metrics_coco.png          the twelve COCO numbers",
        "outputs/analysis/metrics_ap_per_class.png  AP of each class",
        "",
        f"Open the report in a browser: {folder.as_uri()}/outputs/analysis/report.html",
    ]


def test_metrics_are_read_as_they_were_written() -> None:
    assert CocoMetrics.read(Path("metrics.json")) == METRICS


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"AP75": None}, 'its "AP75" is None'),
        ({"AP75": "0.5"}, "its \"AP75\" is '0.5'"),
        ({"AP75": True}, 'its "AP75" is True'),
        ({"AP75": float("nan")}, 'its "AP75" is nan'),
        ({"ARs": -0.5}, 'its "ARs" is -0.5'),
        ({"AP": 42.1}, 'its "AP" is 42.1'),
        ({"num_images": 5.5}, 'its "num_images" is 5.5'),
        ({"per_class": {"cat": 0.5}}, 'its "per_class" is '),
        ({"per_class": [0.5]}, "it has 0.5 where names and numbers belong"),
        ({"per_class": [{"category_id": 3, "name": "cat", "AP": 0.5, "boxes": 1}]}, 'its "AP50" is missing'),
        ({"per_class": [{"category_id": 3, "name": 7, "AP": 0.5, "AP50": 1, "boxes": 1}]}, 'its "name" is 7'),
    ],
)
def test_wrong_metrics_are_named_with_their_file(
    change: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("metrics.json", METRICS.to_json() | change)
    message = error_of(main(["--metrics_file", "metrics.json"]), capsys)
    assert message.startswith(f"metrics.json: not metrics of this program, {reason}")
    assert message.endswith("give a val_metrics*.json that training or evaluation wrote")


@pytest.mark.parametrize("content", [b"", b'{"AP": 0.5', b"\xff\xfe\x00", b"AP=0.5"])
def test_metrics_that_are_not_json_are_refused(content: bytes) -> None:
    Path("metrics.json").write_bytes(content)
    with pytest.raises(InputError, match=r"metrics\.json: cannot be read as JSON .*; correct the file or the path"):
        CocoMetrics.read(Path("metrics.json"))


def test_results_given_as_metrics_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "not metrics of this program" in error_of(main(["--metrics_file", "empty.json"]), capsys)


def test_detections_become_pictures_and_charts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(1, 0.9), row(1, 0.5, 9), row(2, 0.49), row(3, 0.6, file_name="000004.png")]
    before = set(folder.iterdir())
    assert analyze(rows) == 0
    charts = {"found_scores.png", "found_class_counts.png"}
    assert written() == charts | {"found_pictures/000001.png", "found_pictures/000004.png"}
    assert set(folder.iterdir()) - before == {folder / "outputs", folder / "found.json"}
    out = capsys.readouterr().out
    assert "4 detections in 3 images; with a score of at least 0.5: 3 detections in 2 images" in out
    assert "outputs/analysis/found_pictures/000001.png  image 1, 2 detections\n" in out
    assert "outputs/analysis/found_pictures/000004.png  image 3, 1 detection\n" in out
    for name in charts:
        with Image.open(folder / "outputs" / "analysis" / name) as picture:
            assert (picture.format, picture.mode) == ("PNG", "RGBA")


def test_boxes_are_drawn_where_they_are() -> None:
    write("list.json", image_list({1: "000001.png"}))
    assert analyze([row(1, 0.9, 9)], "--test_annotations", "list.json") == 0
    with Image.open("outputs/analysis/found_pictures/000001.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape == (480, 640, 3)  # ten times as large, so that the label does not cover the box
    # The box of 30 x 15 pixels at (10, 20), in the colour of the second class; the label is above it.
    for x, y in ((10, 30), (40, 30), (30, 35)):
        assert tuple(pixels[10 * y, 10 * x]) == class_color(1)
    assert tuple(pixels[280, 250]) == tuple(pixels[400, 500]) == GREY


def names_drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the class names that are drawn from now on."""
    import dino_detector.analysis.drawn_images as drawn_images

    seen: list[str] = []
    draw = drawn_images.draw_detections

    def draw_and_note(image: Any, detections: Any, **more: Any) -> Image.Image:
        seen.extend(detections.data["class_name"].tolist())
        return draw(image, detections, **more)

    monkeypatch.setattr(drawn_images, "draw_detections", draw_and_note)
    return seen


def test_names_come_from_the_list_beside_the_detections_and_else_from_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    names = names_drawn(monkeypatch)
    assert analyze([row(1, 0.9, 9), row(1, 0.8, 7)]) == 0
    assert sorted(names) == ["class 7", "class 9"]
    names.clear()
    write("testdev_image_info.json", image_list({1: "000002.png"}))
    assert analyze([row(1, 0.9, 9), row(1, 0.8, 7)]) == 0
    assert sorted(names) == ["class 7", "dog"]
    assert drawn() == ["000001.png", "000002.png"]


def test_names_come_from_the_list_that_predict_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    names = names_drawn(monkeypatch)
    write("found_images.json", {"images": [], "categories": [{"id": 9, "name": "emu"}]})
    assert analyze([row(1, 0.9, 9), row(1, 0.8, 7)]) == 0
    assert sorted(names) == ["class 7", "emu"]


def test_a_given_list_wins_over_one_that_lies_there() -> None:
    write("testdev_image_info.json", image_list({1: "000002.png"}))
    write("mine.json", image_list({1: "000003.png"}, annotations=[]))
    assert analyze([row(1, 0.9)], "--test_annotations", "mine.json") == 0
    assert drawn() == ["000003.png"]


def test_the_list_of_coco_is_found_beside_the_images(folder: Path) -> None:
    (folder / "annotations").mkdir()
    write("annotations/image_info_test-dev2017.json", image_list({1: "000005.png"}))
    assert analyze([row(1, 0.9)]) == 0
    assert drawn() == ["000005.png"]


def test_the_file_in_a_row_wins_over_lists_and_numbers() -> None:
    write("testdev_image_info.json", image_list({1: "000002.png"}))
    assert analyze([row(1, 0.9, file_name="000006.png")]) == 0
    assert drawn() == ["000006.png"]


def test_the_pictures_are_evenly_spaced_over_the_ids() -> None:
    rows = [row(number, 0.9) for number in (6, 2, 4, 1, 5, 3)]
    assert analyze(rows, "--num_visualizations", "3") == 0
    assert drawn() == ["000001.png", "000003.png", "000005.png"]


def test_no_pictures_are_drawn_where_none_are_wanted() -> None:
    assert analyze([row(1, 0.9)], "--num_visualizations", "0") == 0
    assert written() == {"found_scores.png", "found_class_counts.png"}


def test_a_score_at_the_threshold_counts_and_one_below_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze([row(1, 0.6), row(2, 0.59)], "--confidence_threshold", "0.6") == 0
    assert drawn() == ["000001.png"]
    assert "with a score of at least 0.6: 1 detection in 1 image\n" in capsys.readouterr().out


def test_without_a_detection_above_the_threshold_only_scores_are_drawn() -> None:
    assert analyze([row(99, 0.4)]) == 0
    assert written() == {"found_scores.png"}


def test_no_detections_at_all_are_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze([]) == 0
    assert not written()
    assert "found.json: 0 detections in 0 images" in capsys.readouterr().out


def test_missing_images_are_named_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    write("list.json", image_list({8: "gone.png"}))
    assert analyze([row(1, 0.9), row(9, 0.9), row(8, 0.9)], "--test_annotations", "list.json") == 0
    assert drawn() == ["000001.png"]
    assert caplog.messages == [
        "images: image 8 ('gone.png') is not there (2 of 3 images are missing)",
    ]


def test_it_is_an_error_that_no_image_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    message = error_of(analyze([row(7, 0.9), row(8, 0.9)]), capsys)
    assert message.startswith("images: image 7 is not there, nor any other of 2 images; correct ")
    assert "--test_annotations" in message


@pytest.mark.parametrize("name", ["../secret.png", "{root}/secret.png", "../images/../secret.png", "x" * 300, "\0"])
def test_a_name_can_not_lead_out_of_the_folder(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (64, 48), GREY).save(folder / "secret.png")
    before = (folder / "secret.png").read_bytes()
    rows = [row(1, 0.9, file_name=name.replace("{root}", str(folder)))]
    assert "is not there" in error_of(analyze(rows), capsys)
    write("list.json", image_list({1: rows[0]["file_name"]}))
    assert "is not there" in error_of(analyze([row(1, 0.9)], "--test_annotations", "list.json"), capsys)
    assert (folder / "secret.png").read_bytes() == before


def test_a_picture_in_a_folder_of_its_own_keeps_it(folder: Path) -> None:
    (folder / "images" / "deep").mkdir()
    Image.new("RGB", (64, 48), GREY).save(folder / "images" / "deep" / "a.gif")
    assert analyze([row(1, 0.9, file_name="deep/a.gif")]) == 0
    assert "found_pictures/deep/a.gif.png" in written()


def test_a_broken_picture_is_named_and_the_others_are_drawn(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "images" / "000002.png").write_bytes(b"no picture")
    assert analyze([row(1, 0.9), row(2, 0.9)]) == 0
    assert drawn() == ["000001.png"]
    [message] = caplog.messages
    assert message.startswith("images/000002.png: cannot be read as an image")


def test_a_picture_of_another_size_than_the_list_says_is_not_drawn(caplog: pytest.LogCaptureFixture) -> None:
    entry = {"id": 1, "file_name": "000001.png", "height": 64, "width": 48}
    write("list.json", {"images": [entry, {**entry, "id": 2, "file_name": "000002.png", "height": 48, "width": 64}]})
    assert analyze([row(1, 0.9), row(2, 0.9)], "--test_annotations", "list.json") == 0
    assert drawn() == ["000002.png"]
    assert "48 x 64 pixels (height x width), but its annotations say 64 x 48" in caplog.text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (7, "is not an object; give image_id, category_id, bbox and score"),
        ({"image_id": "1"}, "has \"image_id\" '1'; give a whole number"),
        ({"category_id": None}, 'has "category_id" None; give a whole number'),
        ({"category_id": True}, 'has "category_id" True; give a whole number'),
        ({"score": 1.5}, 'has "score" 1.5; give a number from 0 to 1'),
        ({"score": float("nan")}, 'has "score" nan; give a number from 0 to 1'),
        ({"score": None}, 'has "score" None; give a number from 0 to 1'),
        ({"bbox": [1, 2, 3]}, 'has "bbox" [1, 2, 3]; give [x, y, width, height] in pixels'),
        ({"bbox": [1, 2, 3, -4]}, 'has "bbox" [1, 2, 3, -4]; give [x, y, width, height] in pixels'),
        ({"bbox": [1, 2, 3, float("inf")]}, 'has "bbox" [1, 2, 3, inf]; give [x, y, width, height] in pixels'),
        ({"bbox": None}, 'has "bbox" None; give [x, y, width, height] in pixels'),
        ({"file_name": 5}, 'has "file_name" 5; give the name of a file in the folder of the images'),
        (
            {"file_name": "b.png"},
            "has \"file_name\" 'b.png', but entries before it of image 1 have None; give each file its own id",
        ),
    ],
)
def test_a_malformed_row_is_named_by_its_position(
    change: Any, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = row(1, 0.9) | change if isinstance(change, dict) else change
    assert error_of(analyze([row(1, 0.9), bad]), capsys) == f"found.json: entry 1 {problem}"


def test_other_files_than_results_and_lists_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--predictions_file", "metrics.json", "--test_images", "images"]
    assert error_of(main(argv), capsys).startswith("metrics.json: not in COCO's results format")
    Path("testdev_image_info.json").write_text("{")
    assert error_of(analyze([]), capsys).startswith("testdev_image_info.json: cannot be read as JSON")
    write("testdev_image_info.json", [1])
    assert error_of(analyze([]), capsys).startswith("testdev_image_info.json: is a list, ")


def test_inputs_are_never_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def inputs() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in folder.rglob("*.png")}

    before = inputs()
    message = error_of(analyze([row(1, 0.9)], "--output_dir", "images"), capsys)
    assert message.startswith("images: has the images, which could be overwritten; change --output_dir")
    assert inputs() == before
    (folder / "out").mkdir()
    (folder / "images").rename(folder / "out" / "found_pictures")
    before = inputs()
    (folder / "images").symlink_to(folder / "out" / "found_pictures")
    assert "would be overwritten" in error_of(analyze([row(1, 0.9)], "--output_dir", "out"), capsys)
    assert inputs() == before


def test_two_images_of_one_file_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(1, 0.9, file_name="000001.png"), row(2, 0.9, file_name="000001.png")]
    assert "stands for two images" in error_of(analyze(rows), capsys)


def test_an_output_folder_that_is_a_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    message = error_of(main(["--metrics_file", "metrics.json", "--output_dir", "empty.json"]), capsys)
    assert message.startswith("empty.json: can't be written to (File exists)")


@pytest.fixture
def checkpoint(folder: Path, save_detector: Callable[..., Path]) -> Callable[..., int]:
    """Analyze m.pth, an untrained detector of the categories 3 and 9, on two of the images."""
    save_detector(folder / "m.pth", ("cat", "dog"), num_queries=5)
    boxes = [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 20, 30, 15], "area": 450, "iscrowd": 0}]
    write("val.json", image_list({1: "000001.png", 2: "000002.png"}, annotations=boxes))
    return lambda *argv: main([*EVAL, "--device", "cpu", *argv])


def test_an_evaluation_is_written_and_analyzed(
    checkpoint: Callable[..., int], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(folder.iterdir())
    assert checkpoint("--confidence_threshold", "0") == 0
    assert set(folder.iterdir()) - before == {folder / "outputs"}
    charts = ("coco", "ap_per_class", "curves", "mistakes", "confusion", "calibration")
    assert written() == {
        *("report.html", "val_metrics.json", *(f"val_metrics_{kind}.png" for kind in charts)),
        *("val_predictions.json", "val_predictions_scores.png", "val_predictions_class_counts.png"),
        *("val_predictions_pictures/000001.png", "val_predictions_pictures/000002.png"),
    }
    metrics = CocoMetrics.read(Path("outputs/analysis/val_metrics.json"))
    results = json.loads(Path("outputs/analysis/val_predictions.json").read_text())
    assert metrics.num_images == 2
    assert {result["image_id"] for result in results} == {1, 2}
    assert metrics.num_detections == len(results) > 0
    assert [(entry.name, entry.boxes) for entry in metrics.per_class] == [("cat", 1), ("dog", 0)]
    out = capsys.readouterr().out
    assert "outputs/analysis/val_metrics.json " in out
    assert f"outputs/analysis/val_predictions.json: {len(results)} detections in 2 images" in out
    for name in written():
        assert f"outputs/analysis/{name}" in out.split("Written:")[1]


def test_pictures_of_an_evaluation_show_ground_truth_on_the_left(checkpoint: Callable[..., int]) -> None:
    assert checkpoint("--confidence_threshold", "1") == 0  # no detection is drawn
    assert drawn() == ["000001.png"]  # the only image with ground truth
    with Image.open("outputs/analysis/val_predictions_pictures/000001.png") as picture:
        assert picture.width > 2 * 640
        pixels = np.asarray(picture.convert("RGB"))
    red = (pixels == class_color(0)).all(axis=2).any(axis=0).nonzero()[0]
    assert red.max() < 640 + 40 < picture.width / 2 + 40
    assert red.max() - red.min() >= 300  # the box of 30 of 64 pixels, ten times as large


def test_a_metrics_file_beside_an_evaluation_is_its_baseline(
    checkpoint: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert checkpoint("--metrics_file", "metrics.json") == 0
    assert "outputs/analysis/val_metrics.json compared with the baseline metrics.json\n" in capsys.readouterr().out
    assert "metrics_coco.png" not in written()


def test_an_evaluation_does_not_overwrite_what_it_reads(
    checkpoint: Callable[..., int], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    METRICS.write(folder / "val_metrics.json")
    message = error_of(checkpoint("--metrics_file", "val_metrics.json", "--output_dir", "."), capsys)
    assert message == "val_metrics.json: is an input, and would be overwritten; change --output_dir"
    assert CocoMetrics.read(folder / "val_metrics.json") == METRICS


def test_broken_inputs_are_found_before_an_evaluation(
    checkpoint: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import dino_detector.training.evaluation as evaluation

    monkeypatch.setattr(evaluation, "evaluate", lambda *_, **__: pytest.fail("it was evaluated"))
    message = error_of(checkpoint("--metrics_file", "empty.json"), capsys)
    assert message.startswith("empty.json: not metrics")


def test_names_of_files_reach_the_terminal_clean(capsys: pytest.CaptureFixture[str]) -> None:
    _list_files({Path("a\x1b[31m\nb.png"): "image 1"})
    assert capsys.readouterr().out == "\nWritten:\na?[31m b.png  image 1\n"
