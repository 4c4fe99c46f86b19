"""Report, charts, tables and pictures of metrics and detections: ``python3 analyze_results.py``."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_detector.commands.arguments import parse_settings
from dino_detector.commands.frame import configure_logging, run_command
from dino_detector.config.commands import AnalyzeSettings
from dino_detector.errors import InputError
from dino_detector.plain_text import columns, counted, plain, short_path
from dino_detector.storage.output_folder import locked, make_room

if TYPE_CHECKING:
    from dino_detector.analysis.annotated import Picture
    from dino_detector.analysis.inputs import AnalysisInput

NEEDED = {
    "predictions_file": ("test_images",),
    "run_eval": ("model_path", "val_images", "val_annotations"),
}
"""flags that an input needs; beside a metrics file, detections need no folder"""
SERVES = {
    "test_images": ("predictions_file",),
    "test_annotations": ("predictions_file",),
    "val_images": ("run_eval", "metrics_file"),
    "val_annotations": ("run_eval", "metrics_file"),
    "model_path": ("run_eval",),
    "dino_model": ("run_eval",),
}
"""flags that need one of these inputs, and would be ignored without it"""
SAME = (("test_images", "val_images"), ("test_annotations", "val_annotations"))
"""two names of the same thing beside a metrics file"""
FOLDERS = ("test_images", "val_images")
FILES = ("predictions_file", "test_annotations", "model_path", "val_annotations")
LONGEST_PATH = 200
"""columns of a path in a terminal"""

Written = dict[Path, str]
"""finished files in the order of the list, with their meanings"""


def main(argv: Sequence[str] | None = None, *, prog: str = "python3 analyze_results.py") -> int:
    """Run the command with ``argv`` or the arguments of the process; return the exit code."""

    def command() -> None:
        values, _ = parse_settings(
            [AnalyzeSettings],
            sys.argv[1:] if argv is None else argv,
            prog=prog,
            description="Show how good a detector is and what it gets wrong: report.html, which opens in any browser "
            "without a network, PNG charts and pictures, and tables here. Give one of these inputs: --metrics_file, "
            "whose detections and data are read too if they are still there (the first of two files is the baseline); "
            "--predictions_file, with the images in --test_images; --run_eval, which evaluates --model_path on "
            "--val_images with --val_annotations. All files are written to --output_dir.",
            usage="--metrics_file [BASELINE] FILE | --predictions_file FILE --test_images DIR | "
            "--run_eval --model_path FILE --val_images DIR --val_annotations FILE",
        )
        settings = AnalyzeSettings(**values)
        _check(settings)
        configure_logging()
        with locked(settings.output_dir, "evaluation"):
            _list_files(_analyze(settings))

    return run_command(command)


def _check(settings: AnalyzeSettings) -> None:
    """Raise `InputError` for settings that are wrong, without reading a file."""
    values = vars(settings)
    _check_combination(settings)
    for path in settings.metrics_file:
        if not path.is_file():
            raise InputError(f"{path}: no such file; correct --metrics_file")
    for name in (*FILES, *FOLDERS):
        path = values[name]
        if path is not None and not (path.is_dir() if name in FOLDERS else path.is_file()):
            raise InputError(f"{path}: no such {'folder' if name in FOLDERS else 'file'}; correct --{name}")
    if any(values[name] and values[name].resolve() == settings.output_dir.resolve() for name in FOLDERS):
        raise InputError(
            f"{settings.output_dir}: is where the images are, and they could be overwritten; change --output_dir"
        )


def _check_combination(settings: AnalyzeSettings) -> None:
    """Raise `InputError` for flags that exclude each other, and for a missing flag."""
    values = vars(settings)
    for name, ways in SERVES.items():
        if values[name] is not None and not any(values[way] for way in ways):
            absent = "which is not given" if len(ways) == 1 else "and neither is given"
            raise InputError(f"--{name} is for {' or '.join(f'--{way}' for way in ways)}, {absent}; see --help")
    if not settings.metrics_file and settings.predictions_file is None and not settings.run_eval:
        raise InputError(
            "give what to analyze: --metrics_file FILE, --predictions_file FILE with --test_images DIR, or --run_eval "
            "with --model_path FILE, --val_images DIR and --val_annotations FILE"
        )
    for way, needed in NEEDED.items():
        for name in needed if values[way] and not (way == "predictions_file" and settings.metrics_file) else ():
            if values[name] is None:
                raise InputError(f"--{way} needs --{name}; see --help")
    if settings.run_eval and settings.predictions_file is not None:
        raise InputError("--run_eval makes detections itself; analyze those of --predictions_file by themselves")
    for one, other in SAME:
        if values[one] is not None and values[other] is not None:
            raise InputError(f"--{one} and --{other} are the same beside --metrics_file; leave one out")
    most = 1 if settings.run_eval else 2
    if len(settings.metrics_file) > most:
        files = "one file beside --run_eval, the baseline" if most == 1 else "the baseline and the file to report"
        raise InputError(f"--metrics_file takes {files}, not {len(settings.metrics_file)} files")
    if len({path.resolve() for path in settings.metrics_file}) < len(settings.metrics_file):
        raise InputError(f"{settings.metrics_file[0]}: is given twice; compare it with another file")


def _list_files(written: Written) -> None:
    """Print the files and the address of the report."""
    print("\nWritten:" if written else "\nThere is nothing to draw")
    shown = {plain(path, LONGEST_PATH): meaning for path, meaning in written.items()}
    width = max(map(columns, shown), default=0)
    for path, meaning in shown.items():
        print(f"{path}{' ' * (width - columns(path))}  {meaning}")
    for report in (path for path in written if path.suffix == ".html"):
        print(f"\nOpen the report in a browser: {report.resolve().as_uri()}")


def _analyze(settings: AnalyzeSettings) -> Written:
    """Read and check all input, or evaluate; then print tables and write files."""
    from dino_detector.analysis.outputs import names_of
    from dino_detector.analysis.payload import report_payload
    from dino_detector.data.pictures.files import allow_megapixels

    allow_megapixels(settings.max_megapixels)
    given = _evaluate(settings) if settings.run_eval else _read_input(settings)
    payload = None
    if given.run is not None:
        named = settings.predictions_file is not None or settings.val_annotations is not None
        payload = report_payload(given.run, given.baseline, gallery_images=settings.gallery_images, data_given=named)
    pictures = _choose_pictures(given, settings)
    if not settings.run_eval:
        _make_room(settings, names_of(given.source, given.detections and given.detections.source))
    written = {} if payload is None else _write_evaluation(given, payload, settings)
    return written | _write_detections(given, pictures, settings)


def _read_input(settings: AnalyzeSettings) -> AnalysisInput:
    from dino_detector.analysis.inputs import read_metrics_input, read_results_input
    from dino_detector.analysis.runs import RunPaths

    folder = settings.test_images or settings.val_images
    listed = settings.test_annotations or settings.val_annotations
    if settings.metrics_file:
        return read_metrics_input(settings.metrics_file, RunPaths(settings.predictions_file, folder, listed))
    return read_results_input(settings.predictions_file, folder, listed, max_detections=settings.max_detections)


def _evaluate(settings: AnalyzeSettings) -> AnalysisInput:
    """Evaluate the checkpoint, and write its metrics and detections."""
    from dino_detector.analysis.inputs import AnalysisInput, DetectionSet
    from dino_detector.analysis.outputs import names_of
    from dino_detector.analysis.result_files import images_of
    from dino_detector.analysis.runs import Run, RunPaths, read_run
    from dino_detector.config import Config
    from dino_detector.structures.evaluation_files import EvaluationFiles
    from dino_detector.training.evaluation import evaluate

    folder, listed, checkpoint = settings.val_images, settings.val_annotations, settings.model_path
    baseline = read_run(settings.metrics_file[0], RunPaths(None, folder, listed)) if settings.metrics_file else None
    files = EvaluationFiles.of(settings.output_dir, "", images=folder, annotations=listed)
    names = [files.metrics.name, files.predictions.name, *names_of(files.metrics, files.predictions)]
    _refuse_overwriting(settings, names)
    shared = ("val_images", "val_annotations", "device", "batch_size", "num_workers", "max_megapixels", "output_dir")
    values = {name: vars(settings)[name] for name in (*shared, "max_detections")}
    evaluation = evaluate(Config.from_flat(values | {"checkpoint": checkpoint}), dino_model=settings.dino_model)
    _make_room(settings, names)
    facts = {"checkpoint": str(checkpoint), "precision": evaluation.config.training.precision}
    files.write(evaluation.metrics, evaluation.results, **facts)
    truth = evaluation.data.val.annotations
    run = Run(
        *(str(files.metrics), evaluation.metrics, evaluation.results, truth),
        predictions=files.predictions,
        images=folder,
        origin=f"{short_path(checkpoint)} on {short_path(listed)}",
    )
    detections = DetectionSet(files.predictions, evaluation.results, images_of(truth), folder)
    return AnalysisInput(files.metrics, run, baseline, detections)


def _write_evaluation(given: AnalysisInput, payload: dict[str, Any], settings: AnalyzeSettings) -> Written:
    """Print the tables and write the report and the charts of an evaluation."""
    from dino_detector.analysis.outputs import REPORT, save_metrics_charts
    from dino_detector.analysis.report import write_report
    from dino_detector.analysis.tables import comparison_table, metrics_table

    report, metrics = settings.output_dir / REPORT, given.run.metrics
    write_report(payload, report)
    written = {report: f"the report, {report.stat().st_size / 1e6:.1f} MB"}
    if settings.run_eval:
        written |= {given.source: f"metrics of {settings.model_path}"}
        written |= {given.detections.source: f"detections of {settings.model_path}"}
    print(f"\n{given.source}\n\n{metrics_table(metrics)}")
    if payload["comparison"] is not None:
        print(f"\n{given.source} compared with the baseline {given.baseline.name}\n")
        print(comparison_table(payload["comparison"]))
    return written | save_metrics_charts(metrics, payload, settings.output_dir, given.source)


def _choose_pictures(given: AnalysisInput, settings: AnalyzeSettings) -> list[Picture]:
    """Choose images to draw on; none without a shown detection and without ground truth."""
    from dino_detector.analysis.annotated import choose_pictures
    from dino_detector.analysis.outputs import PICTURES

    found = given.detections
    if found is None or found.folder is None or not settings.num_visualizations:
        return []
    shown = found.above(settings.confidence_threshold)
    if not shown and given.truth is None:
        return []
    target = settings.output_dir / f"{found.source.stem}_{PICTURES}"
    return choose_pictures(
        *(shown, found.images, found.folder),
        count=settings.num_visualizations,
        target=target,
        source=found.source,
        truth=given.truth,
    )


def _write_detections(given: AnalysisInput, pictures: list[Picture], settings: AnalyzeSettings) -> Written:
    """Print the number of detections, and write their charts and pictures."""
    from dino_detector.analysis.annotated import draw_pictures
    from dino_detector.analysis.outputs import save_results_charts

    found = given.detections
    if found is None:
        return {}
    threshold, classes = settings.confidence_threshold, found.classes
    shown = found.above(threshold)
    print(f"\n{found.source}: {_extent(found.results)}; with a score of at least {threshold:g}: {_extent(shown)}")
    if given.run is None:
        print("No report: it takes ground truth to tell good detections from bad; --test_annotations gives it")
    charts = save_results_charts(found.results, classes, settings.output_dir, found.source, threshold=threshold)
    return charts | draw_pictures(pictures, shown, classes, threshold=threshold, truth=given.truth)


def _make_room(settings: AnalyzeSettings, names: Sequence[str]) -> None:
    """Move files of an earlier call with these names aside."""
    _refuse_overwriting(settings, names)
    make_room(settings.output_dir, [glob.escape(name) for name in names])


def _refuse_overwriting(settings: AnalyzeSettings, names: Iterable[str]) -> None:
    """Raise `InputError` if an input is one of these files, or lies in one of these folders."""
    values = vars(settings)
    inputs = [*settings.metrics_file, *(values[name] for name in (*FILES, *FOLDERS) if values[name] is not None)]
    for target in (settings.output_dir / name for name in names):
        if any(path.resolve().is_relative_to(target.resolve()) for path in inputs):
            raise InputError(f"{target}: is an input, and would be overwritten; change --output_dir")


def _extent(rows: list[dict[str, Any]]) -> str:
    images = len({row["image_id"] for row in rows})
    return f"{counted(len(rows), 'detection')} in {counted(images, 'image')}"
