"""Report, charts, tables and pictures of metrics and detections: ``python3 analyze_results.py``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dino_detector.commands.frame import command
from dino_detector.config.commands import AnalyzeSettings
from dino_detector.errors import InputError
from dino_detector.plain_text import columns, counted, plain, short_path
from dino_detector.storage.output_folder import locked, move_aside
from dino_detector.terminal import with_headings

if TYPE_CHECKING:
    from dino_detector.analysis.runs import Run

SERVES = {
    "data": ("predictions_file", "run_eval", "metrics_file"),
    "test_images": ("predictions_file",),
    "test_annotations": ("predictions_file",),
    "val_images": ("run_eval", "metrics_file"),
    "val_annotations": ("run_eval", "metrics_file"),
    "model_path": ("run_eval",),
    "dino_model": ("run_eval",),
}
"""flags that need one of these inputs, and would be ignored without it"""
FOLDERS = ("test_images", "val_images")
FILES = ("data", "predictions_file", "test_annotations", "model_path", "val_annotations")
LONGEST_PATH = 200
"""columns of a path in a terminal"""


@command(
    AnalyzeSettings,
    usage="[DATA] --metrics_file [BASELINE] FILE | DATA --predictions_file FILE | DATA --run_eval --model_path FILE",
)
def main(settings: AnalyzeSettings) -> None:
    """Show how good a detector is and what it gets wrong.

    Prints tables, and writes report.html, which opens in any browser without a network, and PNG charts and pictures to
    --output_dir. Give one of three inputs. --metrics_file: metrics of a training or an evaluation; their detections and
    data are read too if they are still there, and the first of two files is the baseline. --predictions_file:
    detections in the images of DATA or --test_images. --run_eval: evaluate --model_path on DATA, or on --val_images
    with --val_annotations.
    """
    analyzed = analyze(settings)
    _print_tables(analyzed, settings)
    _list_files(analyzed.written)


class Analyzed(NamedTuple):
    """An analysis.

    Attributes:
        run: the analyzed evaluation or detections.
        baseline: the evaluation that it is compared with, if any.
        payload: contents of the report; None without ground truth.
        shown: detections that score at least the threshold.
        written: files, each with its meaning.
    """

    run: Run
    baseline: Run | None
    payload: dict[str, Any] | None
    shown: list[dict[str, Any]]
    written: dict[Path, str]


def analyze(settings: AnalyzeSettings) -> Analyzed:
    """Read and check all input, or evaluate, and write the files; raise `InputError` for wrong settings or input."""
    _check(settings)
    with locked(settings.output_dir, "evaluation"):
        return _analyze(settings)


def _check(settings: AnalyzeSettings) -> None:
    """Raise `InputError` for settings that exclude each other or are wrong, without reading a file."""
    values, metrics, evaluates = vars(settings), settings.metrics_file, settings.run_eval
    for name, ways in SERVES.items():
        if values[name] is not None and not any(values[way] for way in ways):
            absent = ("which is not given", "and neither is given", "and none is given")[len(ways) - 1]
            shown = "DATA" if name == "data" else f"--{name}"
            raise InputError(f"{shown} is for {' or '.join(f'--{way}' for way in ways)}, {absent}; see --help")
    if not metrics and settings.predictions_file is None and not evaluates:
        raise InputError(
            "give what to analyze: --metrics_file FILE, DATA --predictions_file FILE, or DATA --run_eval --model_path "
            "FILE; --test_images DIR, or --val_images DIR and --val_annotations FILE, can stand for DATA"
        )
    parts = [f"{split}_{part}" for split in ("test", "val") for part in ("images", "annotations")]
    if settings.data is not None and (given := [name for name in parts if values[name] is not None]):
        raise InputError(
            f"{settings.data} names the images and annotations, so it excludes --{given[0]}; leave one out"
        )
    if settings.val_fraction is not None and settings.data is None:
        raise InputError("--val_fraction needs DATA; see --help")
    needed = [("run_eval", name) for name in ("model_path", "val_images", "val_annotations") if evaluates]
    if settings.predictions_file is not None and not metrics:
        needed.insert(0, ("predictions_file", "test_images"))
    for way, name in needed:
        if values[name] is None and (settings.data is None or name == "model_path"):
            instead = "" if name == "model_path" else "DATA or "
            raise InputError(f"--{way} needs {instead}--{name}; see --help")
    if evaluates and settings.predictions_file is not None:
        raise InputError("--run_eval makes its own detections; analyze --predictions_file in a call of its own")
    for part in ("images", "annotations"):
        if values[f"test_{part}"] is not None and values[f"val_{part}"] is not None:
            raise InputError(f"--test_{part} and --val_{part} are the same beside --metrics_file; leave one out")
    if len(metrics) > (1 if evaluates else 2):
        files = "one file beside --run_eval, the baseline" if evaluates else "the baseline and the file to report"
        raise InputError(f"--metrics_file takes {files}, not {len(metrics)} files")
    if len({path.resolve() for path in metrics}) < len(metrics):
        raise InputError(f"{metrics[0]}: is given twice; compare it with another file")
    for name, path in _inputs(settings):
        if not (path.is_dir() if name in FOLDERS else path.is_file() or _exists(name, path)):
            what = "folder" if name in FOLDERS else "folder or annotation file" if name == "data" else "file"
            raise InputError(f"{path}: no such {what}; correct {'the path' if name == 'data' else f'--{name}'}")
        if name in (*FOLDERS, "data") and path.resolve() == settings.output_dir.resolve():
            raise InputError(f"{path}: has the images, which could be overwritten; change --output_dir")


def _exists(name: str, path: Path) -> bool:
    """Return whether annotations are there that are no file, such as ``data.yaml:val``."""
    if name != "data" and not name.endswith("annotations"):
        return False
    from dino_detector.data.layouts import annotations_exist

    return annotations_exist(path)


def _inputs(settings: AnalyzeSettings) -> list[tuple[str, Path]]:
    """Return the given files and folders, each with its flag."""
    values = vars(settings)
    single = [(name, values[name]) for name in (*FILES, *FOLDERS) if values[name] is not None]
    return [("metrics_file", path) for path in settings.metrics_file] + single


def _list_files(written: dict[Path, str]) -> None:
    """Print the files with their meanings, and the address of the report."""
    print("\nWritten:" if written else "\nThere is nothing to draw")
    shown = {plain(path, LONGEST_PATH): meaning for path, meaning in written.items()}
    width = max(map(columns, shown), default=0)
    for path, meaning in shown.items():
        print(f"{path}{' ' * (width - columns(path))}  {meaning}")
    for report in (path for path in written if path.suffix == ".html"):
        print(f"\nOpen the report in a browser: {report.resolve().as_uri()}")


def _print_tables(analyzed: Analyzed, settings: AnalyzeSettings) -> None:
    """Print metrics, the comparison with the baseline, and how many detections there are."""
    from dino_detector.analysis.tables import comparison_table, metrics_table

    run, baseline, payload, shown, _ = analyzed
    if payload is not None:
        print(f"\n{run.source}\n\n{with_headings(metrics_table(run.metrics), sys.stdout)}")
        if baseline is not None:
            print(f"\n{run.source} compared with the baseline {baseline.source}\n")
            print(with_headings(comparison_table(payload["comparison"]), sys.stdout))
    if run.results is not None:
        threshold = f"with a score of at least {settings.confidence_threshold:g}"
        print(f"\n{run.predictions}: {_extent(run.results)}; {threshold}: {_extent(shown)}")
        if payload is None:
            print("No report: it takes ground truth to tell good detections from bad; --test_annotations gives it")


def _analyze(settings: AnalyzeSettings) -> Analyzed:
    """Read all input, or evaluate; then write the files."""
    from dino_detector.analysis.drawn_images import choose_pictures, draw_pictures
    from dino_detector.analysis.outputs import PICTURES, REPORT, names_of, save_metrics_charts, save_results_charts
    from dino_detector.analysis.payload import report_payload
    from dino_detector.analysis.report.page import write_report
    from dino_detector.data.pictures.opening import allow_megapixels

    allow_megapixels(settings.max_megapixels)
    folder, threshold, named = settings.output_dir, settings.confidence_threshold, settings.predictions_file is not None
    run, baseline = _evaluate(settings) if settings.run_eval else _read(settings)
    payload, written = None, {}
    if run.metrics is not None:
        given = named or settings.val_annotations is not None or settings.data is not None
        payload = report_payload(run, baseline, gallery_images=settings.gallery_images, data_given=given)
    shown = [row for row in run.results or () if row["score"] >= threshold]
    pictures = []
    can_draw = run.images is not None and (shown or run.annotations is not None)
    if can_draw and (named or settings.run_eval) and settings.num_visualizations:
        target = folder / f"{run.predictions.stem}_{PICTURES}"
        pictures = choose_pictures(run, shown, count=settings.num_visualizations, target=target)
    if not settings.run_eval:
        names = names_of(run.metrics and run.source, run.predictions)
        _refuse_overwriting(settings, names)
        move_aside([file for name in names if (file := folder / name).exists()], folder)
    if payload is not None:
        write_report(payload, folder / REPORT)
        written[folder / REPORT] = f"the report, {(folder / REPORT).stat().st_size / 1e6:.1f} MB"
        if settings.run_eval:
            written |= {run.source: f"metrics of {settings.model_path}"}
            written |= {run.predictions: f"detections of {settings.model_path}"}
        written |= save_metrics_charts(payload, folder, run.source)
    if run.results is not None:
        written |= save_results_charts(run, folder, threshold=threshold)
        written |= draw_pictures(run, pictures, shown, threshold=threshold)
    return Analyzed(run, baseline, payload, shown, written)


def _read(settings: AnalyzeSettings) -> tuple[Run, Run | None]:
    """Read the run and its baseline."""
    from dino_detector.analysis.runs import read_detections, read_metrics

    predictions, images = settings.predictions_file, settings.test_images or settings.val_images
    annotations = settings.test_annotations or settings.val_annotations
    if settings.data is not None:
        images, annotations = _validation_split(settings.data)
    if settings.metrics_file:
        given = {"predictions": predictions, "annotations": annotations, "images": images}
        return read_metrics(settings.metrics_file, given)
    return read_detections(predictions, images, annotations, max_detections=settings.max_detections), None


def _validation_split(data: Path) -> tuple[Path, Path]:
    """Return the folder of the images and the annotations of the split of a data set that an evaluation uses."""
    from dino_detector.config import Config
    from dino_detector.training.run_data import read_run_data

    val = read_run_data(Config.from_flat({"data": data}), training=False).val
    return val.folder, val.annotations.path


def _evaluate(settings: AnalyzeSettings) -> tuple[Run, Run | None]:
    """Evaluate the checkpoint, write its metrics and detections, and return the run and its baseline."""
    from dino_detector.analysis.outputs import names_of
    from dino_detector.analysis.runs import Run, read_run
    from dino_detector.config import Config
    from dino_detector.structures.evaluation_files import EvaluationFiles
    from dino_detector.training.evaluation import evaluate

    checkpoint, given = settings.model_path, {"images": settings.val_images, "annotations": settings.val_annotations}
    baseline = read_run(settings.metrics_file[0], given) if settings.metrics_file else None
    files = EvaluationFiles.of(settings.output_dir, "", images=Path(), annotations=Path())
    names = [files.metrics.name, files.predictions.name, *names_of(files.metrics, files.predictions)]
    _refuse_overwriting(settings, names)
    shared = ("data", "val_images", "val_annotations", "val_fraction", "by_name", "skip_unreadable", "device")
    shared += ("batch_size", "num_workers", "max_megapixels", "output_dir", "max_detections")
    values = {name: vars(settings)[name] for name in shared}
    evaluation = evaluate(Config.from_flat(values | {"checkpoint": checkpoint}), dino_model=settings.dino_model)
    move_aside([file for name in names if (file := settings.output_dir / name).exists()], settings.output_dir)
    facts = {"checkpoint": str(checkpoint), "precision": evaluation.config.training.precision}
    images, truth = evaluation.data.val.folder, evaluation.data.val.annotations
    files = files._replace(images=images, annotations=truth.path)
    files.write(evaluation.metrics, evaluation.results, **facts)
    origin = f"{short_path(checkpoint)} on {short_path(truth.path)}"
    found = {"results": evaluation.results, "predictions": files.predictions, "annotations": truth, "listed": truth}
    return Run(files.metrics, evaluation.metrics, **found, images=images, origin=origin), baseline


def _refuse_overwriting(settings: AnalyzeSettings, names: Sequence[str]) -> None:
    """Raise `InputError` if an input is one of these files, or lies in one of these folders."""
    for target in (settings.output_dir / name for name in names):
        if any(path.resolve().is_relative_to(target.resolve()) for _, path in _inputs(settings)):
            raise InputError(f"{target}: is an input, and would be overwritten; change --output_dir")


def _extent(rows: list[dict[str, object]]) -> str:
    images = len({row["image_id"] for row in rows})
    return f"{counted(len(rows), 'detection')} in {counted(images, 'image')}"
