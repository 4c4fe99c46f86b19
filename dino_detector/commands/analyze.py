"""Report, charts, tables and pictures of metrics and detections: ``python3 analyze_results.py``."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_detector.commands.arguments import parse_settings
from dino_detector.commands.frame import configure_logging, run_command
from dino_detector.config import MAX_DETECTIONS, AnalyzeSettings
from dino_detector.errors import InputError
from dino_detector.plain_text import columns, counted, plain, short_path
from dino_detector.storage.output_folder import locked, make_room

if TYPE_CHECKING:
    from dino_detector.analysis.annotated import Picture
    from dino_detector.analysis.subject import Subject

NEEDED = {
    "predictions_file": ("test_images",),
    "run_eval": ("model_path", "val_images", "val_annotations"),
}
"""what each way to analyze needs; the detections of a metrics file need no folder"""
SERVES = {
    "test_images": ("predictions_file",),
    "test_annotations": ("predictions_file",),
    "val_images": ("run_eval", "metrics_file"),
    "val_annotations": ("run_eval", "metrics_file"),
    "model_path": ("run_eval",),
    "dino_model": ("run_eval",),
}
"""what else can be given, and the ways that it is for: without one of them it would be ignored"""
SAME = (("test_images", "val_images"), ("test_annotations", "val_annotations"))
"""two names of one thing where the detections of a metrics file are given"""
FOLDERS = ("test_images", "val_images")
FILES = ("predictions_file", "test_annotations", "model_path", "val_annotations")
LONGEST_PATH = 200
"""columns of a path in a terminal"""
LEAST = {
    "num_visualizations": 0,
    "gallery_images": 0,
    "batch_size": 1,
    "num_workers": 0,
    "max_detections": MAX_DETECTIONS,
}
"""the smallest values of the settings that are counts"""

Written = dict[Path, str]
"""files that are finished, in this order, and what each is"""


def main(argv: Sequence[str] | None = None, *, prog: str = "python3 analyze_results.py") -> int:
    """Analyze what ``argv``, or the command line of the process, names; returns the exit code."""

    def command() -> None:
        values, _ = parse_settings(
            [AnalyzeSettings],
            sys.argv[1:] if argv is None else argv,
            prog=prog,
            description="Show how good a detector is and what it gets wrong: report.html, which opens in any browser "
            "without a network, PNG charts and pictures, and tables here. Give one of: the metrics in --metrics_file, "
            "with what they were made of where it is still there, and of two files the first is the baseline; the "
            "detections in --predictions_file on the images in --test_images; --run_eval, which evaluates --model_path "
            "on --val_images with --val_annotations first. Files go to --output_dir alone.",
            usage="--metrics_file [BASELINE] FILE | --predictions_file FILE --test_images DIR | "
            "--run_eval --model_path FILE --val_images DIR --val_annotations FILE",
        )
        settings = AnalyzeSettings(**values)
        _check(settings)
        configure_logging()
        with locked(settings.output_dir, "evaluation"):
            _tell_of(_analyze(settings))

    return run_command(command)


def _check(settings: AnalyzeSettings) -> None:
    """Raise `InputError` for all that can be known to be wrong without reading a file."""
    values = vars(settings)
    _check_combination(settings)
    for name, least in LEAST.items():
        if values[name] < least:
            raise InputError(f"--{name} must be at least {least}, not {values[name]}")
    if not 0 <= settings.confidence_threshold <= 1:
        raise InputError(f"--confidence_threshold must be between 0 and 1, not {settings.confidence_threshold}")
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
    """Raise `InputError` where flags are given that do not go together, or one is missing."""
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


def _tell_of(written: Written) -> None:
    """List the files, the report first, and say how to open it."""
    print("\nWritten:" if written else "\nThere is nothing to draw")
    shown = {plain(path, LONGEST_PATH): meaning for path, meaning in written.items()}
    width = max(map(columns, shown), default=0)
    for path, meaning in shown.items():
        print(f"{path}{' ' * (width - columns(path))}  {meaning}")
    for report in (path for path in written if path.suffix == ".html"):
        print(f"\nOpen the report in a browser: {report.resolve().as_uri()}")


def _analyze(settings: AnalyzeSettings) -> Written:
    """Read and check everything, or evaluate, then print and write."""
    from dino_detector.analysis.outputs import names_of
    from dino_detector.analysis.subject import report_payload
    from dino_detector.data.pictures.files import allow_megapixels

    allow_megapixels(settings.max_megapixels)
    subject = _evaluate(settings) if settings.run_eval else _read_subject(settings)
    payload = None
    if subject.evaluated is not None:
        given = any(vars(settings)[name] for name in ("predictions_file", "val_annotations"))
        payload = report_payload(subject, gallery_images=settings.gallery_images, data_given=given)
    pictures = _choose_pictures(subject, settings)
    if not settings.run_eval:
        _make_room(settings, names_of(subject.source, subject.found and subject.found.source))
    written: Written = {}
    if payload is not None:
        written |= _write_report(payload, settings)
        if settings.run_eval:  # which has written them itself
            written[subject.source] = f"metrics of {settings.model_path}"
            written[subject.found.source] = f"detections of {settings.model_path}"
        written |= _show_metrics(subject, payload, settings)
    return written | _show_results(subject, pictures, settings)


def _read_subject(settings: AnalyzeSettings) -> Subject:
    """What --metrics_file and --predictions_file name."""
    from dino_detector.analysis.runs import Places
    from dino_detector.analysis.subject import read_metrics_subject, read_results_subject

    folder = settings.test_images or settings.val_images
    listed = settings.test_annotations or settings.val_annotations
    if settings.metrics_file:
        return read_metrics_subject(settings.metrics_file, Places(settings.predictions_file, folder, listed))
    limit = settings.max_detections
    return read_results_subject(settings.predictions_file, folder, listed, max_detections=limit)


def _evaluate(settings: AnalyzeSettings) -> Subject:
    """The evaluation of the checkpoint, whose metrics and detections are written, in this order."""
    from dino_detector.analysis.outputs import names_of
    from dino_detector.analysis.payload import Run
    from dino_detector.analysis.result_files import images_of
    from dino_detector.analysis.runs import Evaluated, Places, read_evaluation
    from dino_detector.analysis.subject import Found, Subject
    from dino_detector.config import Config
    from dino_detector.training.evaluation import evaluate
    from dino_detector.validate import EvaluationFiles

    folder, listed, output_dir = settings.val_images, settings.val_annotations, settings.output_dir
    places = Places(None, folder, listed)
    baseline = read_evaluation(settings.metrics_file[0], places) if settings.metrics_file else None
    files = EvaluationFiles.of(output_dir, "", images=folder, annotations=listed)
    written = [files.metrics.name, files.predictions.name, *names_of(files.metrics, files.predictions)]
    _refuse_moving(settings, written)
    names = (
        *("val_images", "val_annotations", "device", "batch_size", "num_workers", "max_megapixels"),
        *("max_detections", "output_dir"),
    )
    config = Config.from_flat({name: vars(settings)[name] for name in names} | {"checkpoint": settings.model_path})
    evaluation = evaluate(config, dino_model=settings.dino_model)
    _make_room(settings, written)
    facts = {"checkpoint": str(settings.model_path), "precision": evaluation.config.training.precision}
    files.write(evaluation.metrics, evaluation.results, **facts)
    truth = evaluation.sources.val.annotations
    run = Run(str(files.metrics), evaluation.metrics, evaluation.results, truth)
    return Subject(
        files.metrics,
        Evaluated(run, files.predictions, folder, f"{short_path(settings.model_path)} on {short_path(listed)}", ()),
        baseline,
        Found(files.predictions, evaluation.results, images_of(truth), folder),
    )


def _write_report(payload: dict[str, Any], settings: AnalyzeSettings) -> Written:
    from dino_detector.analysis.outputs import REPORT
    from dino_detector.analysis.report import write_report

    path = settings.output_dir / REPORT
    write_report(payload, path)
    return {path: f"the report, {path.stat().st_size / 1e6:.1f} MB"}


def _show_metrics(subject: Subject, payload: dict[str, Any], settings: AnalyzeSettings) -> Written:
    """Print the tables and write the charts of an evaluation."""
    from dino_detector.analysis.outputs import save_metrics_charts
    from dino_detector.analysis.tables import comparison_table, metrics_table

    metrics = subject.evaluated.run.metrics
    print(f"\n{subject.source}\n\n{metrics_table(metrics)}")
    if payload["comparison"] is not None:
        print(f"\n{subject.source} compared with the baseline {subject.baseline.run.name}\n")
        print(comparison_table(payload["comparison"]))
    return save_metrics_charts(metrics, payload, settings.output_dir, subject.source)


def _choose_pictures(subject: Subject, settings: AnalyzeSettings) -> list[Picture]:
    """Images to draw detections on; none where no detection is to be drawn and no ground truth is known."""
    from dino_detector.analysis.annotated import choose_pictures
    from dino_detector.analysis.outputs import PICTURES

    found = subject.found
    if found is None or found.folder is None or not settings.num_visualizations:
        return []
    shown = found.above(settings.confidence_threshold)
    if not shown and subject.truth is None:
        return []
    return choose_pictures(
        shown,
        found.images,
        found.folder,
        count=settings.num_visualizations,
        target=settings.output_dir / f"{found.source.stem}_{PICTURES}",
        source=found.source,
        truth=subject.truth,
    )


def _show_results(subject: Subject, pictures: list[Picture], settings: AnalyzeSettings) -> Written:
    """Print how many detections there are, and write their charts and pictures."""
    from dino_detector.analysis.annotated import draw_pictures
    from dino_detector.analysis.outputs import save_results_charts

    found = subject.found
    if found is None:
        return {}
    threshold, classes = settings.confidence_threshold, found.classes
    shown = found.above(threshold)
    print(f"\n{found.source}: {_extent(found.results)}; with a score of at least {threshold:g}: {_extent(shown)}")
    if subject.evaluated is None:
        print("No report: it takes ground truth to tell good detections from bad; --test_annotations gives it")
    charts = save_results_charts(found.results, classes, settings.output_dir, found.source, threshold=threshold)
    return charts | draw_pictures(pictures, shown, classes, threshold=threshold, truth=subject.truth)


def _make_room(settings: AnalyzeSettings, names: Sequence[str]) -> None:
    """Move aside what an earlier call left in the output folder by these names."""
    _refuse_moving(settings, names)
    make_room(settings.output_dir, [glob.escape(name) for name in names])


def _refuse_moving(settings: AnalyzeSettings, names: Iterable[str]) -> None:
    """Raise `InputError` where an input is, or lies in, what would be moved aside and written anew."""
    values = vars(settings)
    given = [*settings.metrics_file, *(values[name] for name in (*FILES, *FOLDERS) if values[name] is not None)]
    for target in (settings.output_dir / name for name in names):
        if any(path.resolve().is_relative_to(target.resolve()) for path in given):
            raise InputError(f"{target}: is an input, and would be overwritten; change --output_dir")


def _extent(rows: list[dict[str, Any]]) -> str:
    images = len({row["image_id"] for row in rows})
    return f"{counted(len(rows), 'detection')} in {counted(images, 'image')}"
