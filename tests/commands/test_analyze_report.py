"""The report that `analyze` writes, and the comparison with a baseline: content, missing inputs, kept files."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dino_detector.commands.analyze import main
from dino_detector.structures.evaluation_files import EvaluationFiles
from dino_detector.validate import coco_metrics

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
REPORT = Path("outputs/analysis/report.html")


def ground_truth(count: int = 8) -> dict[str, Any]:
    """Return images 1 to ``count`` of 200 x 150 pixels, each with cats of 40 and 30 pixels and a dog of 20."""
    boxes = [(3, [20, 30, 40, 40]), (9, [120, 60, 20, 20]), (3, [60, 90, 30, 30])]
    return {
        "images": [{"id": n, "file_name": f"{n:06}.jpg", "width": 200, "height": 150} for n in range(1, count + 1)],
        "annotations": [
            {"id": 3 * n + k, "image_id": n, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for n in range(1, count + 1)
            for k, (c, box) in enumerate(boxes)
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}, {"id": 11, "name": "<b>owl</b>"}],
    }


def detections(truth: dict[str, Any], *, shift: float, seed: int = 0) -> list[dict[str, Any]]:
    """Detect each large cat and dog, shifted by up to ``shift`` pixels, and one false object in each image."""
    rng = np.random.default_rng(seed)
    rows = []
    for entry in truth["annotations"]:
        x, y, w, h = entry["bbox"]
        if w == 30:
            continue
        dx, dy = rng.uniform(-shift, shift, 2).round(3).tolist()
        box = [x + dx, y + dy, w, h]
        rows.append({**row_of(entry["image_id"], entry["category_id"]), "bbox": box, "score": rng.uniform(0.5, 1)})
    rows += [row_of(image["id"], 3) for image in truth["images"]]
    return rows


def row_of(image_id: int, category_id: int) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category_id, "bbox": [150, 100, 30, 30], "score": 0.3}


def write_evaluation(folder: Path, ending: str, *, shift: float = 4) -> EvaluationFiles:
    """Write an evaluation of the images in ``images`` with the ground truth in ``val.json``."""
    files = EvaluationFiles.of(folder, ending, images=Path("images"), annotations=Path("val.json"))
    truth = json.loads(Path("val.json").read_text())
    rows = detections(truth, shift=shift)
    files.write(coco_metrics(truth, rows), rows, epoch=10)
    return files


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory: images, val.json, and evaluations of two epochs in outputs; epoch 20 is better."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dino_detector.commands.frame.configure_logging", lambda: None)
    (tmp_path / "images").mkdir()
    for number in range(1, 9):
        Image.new("RGB", (200, 150), (10 * number, 100, 100)).save(f"images/{number:06}.jpg")
    write("val.json", ground_truth())
    write_evaluation(Path("outputs"), "_epoch_10", shift=9)
    write_evaluation(Path("outputs"), "_epoch_20", shift=2)
    return tmp_path


NEW, OLD = "outputs/val_metrics_epoch_20.json", "outputs/val_metrics_epoch_10.json"


def write(name: str, content: Any) -> None:
    Path(name).write_text(json.dumps(content), encoding="utf-8")


def payload(path: Path = REPORT) -> dict[str, Any]:
    """Return the payload of a page."""
    (text,) = re.findall(r'<script type="application/json" id="payload">(.*?)</script>', path.read_text("utf-8"))
    return json.loads(text)


def pycocotools(results: Path) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO("val.json")
        evaluation = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def charts(stem: str, predictions: str) -> set[str]:
    kinds = ("coco", "ap_per_class", "curves", "mistakes", "confusion", "calibration")
    return {
        *(f"{stem}_{kind}.png" for kind in kinds),
        *(f"{predictions}_{kind}.png" for kind in ("scores", "class_counts")),
    }


def written() -> set[str]:
    return {path.name for path in REPORT.parent.iterdir()}


def test_the_report_of_a_metrics_file_has_the_numbers_of_pycocotools() -> None:
    assert main(["--metrics_file", NEW]) == 0
    shown = payload()
    reference = pycocotools(Path("outputs/val_predictions_epoch_20.json"))
    expected = [None if number == -1 else pytest.approx(number, abs=1e-4) for number in reference.stats]
    assert [shown["metrics"][name] for name in NAMES] == expected
    precision = reference.eval["precision"][:, :, :, 0, -1]  # [T, R, C]
    for label, name in enumerate(("cat", "dog")):
        assert shown["classes"][label]["name"] == name
        assert shown["classes"][label]["AP"] == pytest.approx(precision[:, :, label].mean(), abs=1e-4)
        assert np.allclose(shown["curves"]["precision"][label], precision[:, :, label], atol=1e-4)
    assert shown["curves"]["precision"][2] is None  # there is no owl
    assert (shown["images"], shown["boxes"], shown["detections"]) == (8, 24, 24)
    assert shown["title"] == NEW
    assert "epoch 10" in shown["subtitle"]


def test_every_chart_of_a_complete_evaluation_is_a_picture_of_sane_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--metrics_file", NEW]) == 0
    assert written() == {"report.html", *charts("val_metrics_epoch_20", "val_predictions_epoch_20")}
    for path in REPORT.parent.glob("*.png"):
        with Image.open(path) as picture:
            assert 500 < picture.width < 3000, path
            assert 200 < picture.height < 3000, path
    lines = capsys.readouterr().out.splitlines()
    assert lines[lines.index("Written:") + 1].startswith(str(REPORT))
    assert lines[-1] == f"Open the report in a browser: {REPORT.resolve().as_uri()}"


def test_the_gallery_shows_the_images_upright(caplog: pytest.LogCaptureFixture) -> None:
    picture = Image.new("RGB", (150, 200), "red")
    picture.paste("blue", (0, 0, 75, 200))  # on the left as stored, at the top after a clockwise turn
    exif = Image.Exif()
    exif[0x0112] = 6  # viewers must turn it clockwise
    picture.save("images/000003.jpg", exif=exif, quality=95)
    assert main(["--metrics_file", NEW]) == 0
    assert not caplog.messages
    shown = {entry["id"]: entry for entry in payload()["gallery"]["images"]}
    assert set(shown) == set(range(1, 9))
    for entry in shown.values():
        assert entry["thumbnail"].startswith("data:image/jpeg;base64,")
        with Image.open(io.BytesIO(base64.b64decode(entry["thumbnail"].partition(",")[2]))) as thumbnail:
            assert (thumbnail.format, thumbnail.size) == ("JPEG", (200, 150))
            if entry["id"] == 3:
                red, _, blue = thumbnail.getpixel((100, 10))
                assert blue > 200 > 50 > red


def test_images_that_can_not_be_shown_are_counted_in_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    Path("images/000002.jpg").unlink()
    Path("images/000005.jpg").write_bytes(b"no picture")
    Image.new("RGB", (20, 15)).save("images/000007.jpg")  # not the size in val.json
    assert main(["--metrics_file", NEW]) == 0
    missing = {entry["id"] for entry in payload()["gallery"]["images"] if entry["thumbnail"] is None}
    assert missing == {2, 5, 7}
    [message] = caplog.messages
    assert message.startswith("the report lacks the picture of 3 images: ")


def test_the_gallery_holds_no_more_images_than_asked_for() -> None:
    assert main(["--metrics_file", NEW, "--gallery_images", "2"]) == 0
    assert len(payload()["gallery"]["images"]) == 2


def test_what_is_gone_is_named_with_its_flag_and_the_numbers_are_reported(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Path("val.json").rename("moved.json")
    assert main(["--metrics_file", NEW]) == 0
    shown = payload()
    assert shown["metrics"]["AP"] > 0
    assert [shown[part] for part in ("curves", "errors", "confusion", "calibration", "gallery")] == [None] * 5
    [message] = caplog.messages
    assert message == f"{NEW}: the report shows only the metrics; not there: {folder}/val.json (--val_annotations)"


def test_annotations_that_were_corrected_since_leave_the_numbers(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = ground_truth()
    truth["annotations"] = [entry for entry in truth["annotations"] if entry["bbox"][2] != 30]
    write("val.json", truth)
    assert main(["--metrics_file", NEW]) == 0
    assert payload()["metrics"]["AP"] == pytest.approx(json.loads(Path(NEW).read_text())["AP"], abs=1e-4)
    assert payload()["gallery"] is None
    [message] = caplog.messages
    assert message.endswith("so the report shows only the metrics")
    assert main(["--metrics_file", NEW, "--val_annotations", "val.json"]) == 2
    assert "give metrics, detections and annotations of one evaluation" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["val", "test"])
def test_flags_say_where_the_data_is_now(flag: str, caplog: pytest.LogCaptureFixture) -> None:
    Path("val.json").rename("moved.json")
    Path("images").rename("pictures")
    Path("outputs/val_predictions_epoch_20.json").rename("found.json")
    argv = [f"--{flag}_annotations", "moved.json", f"--{flag}_images", "pictures"]
    assert main(["--metrics_file", NEW, "--predictions_file", "found.json", *argv]) == 0
    assert not caplog.messages
    assert {entry["thumbnail"] is None for entry in payload()["gallery"]["images"]} == {False}
    assert (REPORT.parent / "found_pictures" / "000001.jpg").exists()


def test_without_the_images_the_report_lacks_their_pictures_alone(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Path("images").rename("pictures")
    assert main(["--metrics_file", NEW]) == 0
    assert caplog.messages == [f"{NEW}: the report has no pictures; not there: {folder}/images (--val_images)"]
    assert {entry["thumbnail"] for entry in payload()["gallery"]["images"]} == {None}


@pytest.mark.parametrize("argv", [[OLD, NEW], [f"{OLD},{NEW}"], [OLD, "--metrics_file", NEW], [f'["{OLD}", "{NEW}"]']])
def test_the_second_of_two_files_is_compared_with_the_first(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--metrics_file", *argv]) == 0
    shown = payload()
    before, now = (pycocotools(Path(f"outputs/val_predictions_epoch_{epoch}.json")).stats[0] for epoch in (10, 20))
    assert now > before + 0.1
    assert shown["title"] == NEW
    comparison = shown["comparison"]
    assert comparison["baseline_title"] == OLD
    assert comparison["metrics"]["AP"]["baseline"] == pytest.approx(before, abs=1e-4)
    assert comparison["metrics"]["AP"]["value"] == pytest.approx(now, abs=1e-4)
    bootstrap = comparison["bootstrap"]
    assert bootstrap["difference"] == pytest.approx(now - before, abs=1e-4)
    assert bootstrap["low"] <= now - before <= bootstrap["high"]
    out = capsys.readouterr().out
    assert f"{NEW} compared with the baseline {OLD}\n" in out
    row = f"AP {before:.3f} {now:.3f} {now - before:+.3f}"
    assert row in [" ".join(line.split()) for line in out.splitlines()]
    assert f"AP {now - before:+.3f}, 95% interval {bootstrap['low']:+.3f} to {bootstrap['high']:+.3f}: " in out
    assert re.search(r"^gained: 2 of 3 ", out, re.MULTILINE)
    total = comparison["flipped"]
    gained, lost = total["total_gained"], total["total_lost"]
    assert re.search(rf"^{gained} images? became better and {lost} images? worse\.$", out, re.MULTILINE)
    before, now = total["baseline_threshold"], total["threshold"]
    assert f" {before:.2f} before, {now:.2f} now.\n" in out


def test_evaluations_of_other_images_are_not_compared(capsys: pytest.CaptureFixture[str]) -> None:
    write("val.json", ground_truth(5))
    write_evaluation(Path("other"), "")
    write("val.json", ground_truth(8))
    assert main(["--metrics_file", "other/val_metrics.json", NEW]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not REPORT.exists()


def test_a_baseline_without_its_detections_is_compared_by_its_numbers(caplog: pytest.LogCaptureFixture) -> None:
    Path("outputs/val_predictions_epoch_10.json").unlink()
    assert main(["--metrics_file", OLD, NEW]) == 0
    comparison = payload()["comparison"]
    assert comparison["bootstrap"] is None
    assert comparison["metrics"]["AP"]["baseline"] < comparison["metrics"]["AP"]["value"]
    [message] = caplog.messages
    assert message.startswith(f"{OLD}: the comparison shows only the metrics; not there: outputs/val_predictions_epoch")


def test_detections_with_ground_truth_are_evaluated() -> None:
    Path("outputs/val_predictions_epoch_20.json").rename("found.json")
    argv = ["--predictions_file", "found.json", "--test_images", "images", "--test_annotations", "val.json"]
    assert main([*argv, "--num_visualizations", "2"]) == 0
    assert payload()["metrics"]["AP"] == pytest.approx(pycocotools(Path("found.json")).stats[0], abs=1e-4)
    assert written() == {"report.html", "found_pictures", *charts("found", "found")}
    assert {path.name for path in (REPORT.parent / "found_pictures").iterdir()} == {"000001.jpg", "000005.jpg"}


def test_detections_without_ground_truth_have_no_report(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--predictions_file", "outputs/val_predictions_epoch_20.json", "--test_images", "images"]
    assert main(argv) == 0
    assert not REPORT.exists()
    assert "No report: it takes ground truth" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"image_id": 77}, "image 77 is not in val.json; give the annotations of its images"),
        ({"category_id": 4}, "category 4 is not in val.json; give the annotations of its classes"),
        ({"file_name": "street.jpg"}, "image 1 is 'street.jpg', but '000001.jpg' in val.json; give the annotations"),
    ],
)
def test_detections_in_other_images_or_of_other_classes_are_noticed(
    change: dict[str, Any], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("found.json", [row_of(1, 3) | change])
    argv = ["--predictions_file", "found.json", "--test_images", "images", "--test_annotations", "val.json"]
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith(f"error: found.json: {problem}")
    assert not REPORT.parent.exists()


def test_images_of_another_set_show_in_boxes_outside_them(caplog: pytest.LogCaptureFixture) -> None:
    write("found.json", [row_of(1, 3) | {"score": 0.9}, row_of(2, 3) | {"score": 0.9, "bbox": [150, 100, 90, 30]}])
    assert main(["--predictions_file", "found.json", "--test_images", "images"]) == 0
    [message] = caplog.messages
    assert message.startswith("images/000002.jpg: has detections far outside it, as have 1 of the 2 pictures")


def test_images_without_any_detection_count_and_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    write("found.json", [row_of(1, 3)])
    argv = ["--predictions_file", "found.json", "--test_images", "images", "--test_annotations", "val.json"]
    assert main(argv) == 0
    assert payload()["images"] == 8
    assert "7 of 8 images of val.json have no detection in it" in caplog.text


def test_what_an_earlier_call_wrote_is_moved_aside_and_nothing_of_the_users(folder: Path) -> None:
    argv = ["--predictions_file", "outputs/val_predictions_epoch_20.json", "--test_images", "images"]
    assert main([*argv, "--num_visualizations", "8"]) == 0
    output = REPORT.parent
    pictures = output / "val_predictions_epoch_20_pictures"
    (output / "notes.txt").write_text("mine")
    (pictures / "mine.txt").write_text("mine")
    (output / "holiday_pictures").mkdir()
    before = {path.name: path.read_bytes() for path in pictures.iterdir()}
    assert main([*argv, "--num_visualizations", "2"]) == 0
    assert {path.name for path in pictures.iterdir()} == {"000001.jpg", "000005.jpg"}
    [earlier] = output.glob("earlier_*")
    assert {path.name: path.read_bytes() for path in (earlier / pictures.name).iterdir()} == before
    assert (output / "notes.txt").read_text() == "mine"
    assert (output / "holiday_pictures").is_dir()


def test_a_report_shows_names_as_they_are() -> None:
    assert main(["--metrics_file", NEW]) == 0
    assert payload()["classes"][2]["name"] == "<b>owl</b>"
    assert "<b>owl</b>" not in REPORT.read_text("utf-8")
