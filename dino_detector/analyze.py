"""Charts, tables and pictures of metrics and detections: ``python3 analyze_results.py``."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dino_detector.arguments import parse_settings
from dino_detector.command import configure_logging, run_command
from dino_detector.config import AnalyzeSettings
from dino_detector.data.categories import Categories
from dino_detector.data.picture_files import EXTENSIONS
from dino_detector.errors import InputError

if TYPE_CHECKING:
    from dino_detector.analysis.result_files import ImageList

log = logging.getLogger(__name__)

EVALUATED = ("val_metrics.json", "val_predictions.json")
WAYS = {
    "metrics_file": ((), ()),
    "predictions_file": (("test_images",), ("test_annotations",)),
    "run_eval": (("model_path", "val_images", "val_annotations"), ("dino_model",)),
}
"""what can be analyzed, and the settings that each needs and may have"""
FOLDERS = ("test_images", "val_images")
FILES = ("metrics_file", "predictions_file", "test_annotations", "model_path", "val_annotations")


Written = dict[Path, str]
"""files that are finished, in this order, and what each is"""
Report = Callable[[], Written]
"""prints and writes what was read and checked before"""


class Picture(NamedTuple):
    """An image to draw detections on, its (height, width) where a list states it, and the file to write."""

    image_id: int
    file: Path
    size: tuple[int, int] | None
    target: Path


def main(argv: Sequence[str] | None = None, *, prog: str = "python3 analyze_results.py") -> int:
    """Analyze what ``argv``, or the command line of the process, names; returns the exit code."""

    def command() -> None:
        values, _ = parse_settings(
            [AnalyzeSettings],
            sys.argv[1:] if argv is None else argv,
            prog=prog,
            description="Show how good a detector is, by one or more of: the metrics in --metrics_file; the detections "
            "in --predictions_file on the images in --test_images; --run_eval, which evaluates --model_path on "
            "--val_images with --val_annotations and shows both. Files go to --output_dir alone.",
            usage="--metrics_file FILE | --predictions_file FILE --test_images DIR | "
            "--run_eval --model_path FILE --val_images DIR --val_annotations FILE",
        )
        settings = AnalyzeSettings(**values)
        _check(settings)
        configure_logging()
        written = _analyze(settings)
        print("\nWritten:" if written else "\nThere is nothing to draw")
        width = max((len(str(path)) for path in written), default=0)
        for path, meaning in written.items():
            print(f"{path!s:{width}}  {meaning}")

    return run_command(command)


def _check(settings: AnalyzeSettings) -> None:
    """Raise `InputError` for all that can be known to be wrong without reading a file."""
    values = vars(settings)
    for way, (needed, optional) in WAYS.items():
        for name in (*needed, *optional):
            if values[name] is not None and not values[way]:
                raise InputError(f"--{name} is for --{way}, which is not given; see --help")
            if values[way] and name in needed and values[name] is None:
                raise InputError(f"--{way} needs --{name}; see --help")
    if not any(values[way] for way in WAYS):
        raise InputError(
            "give what to analyze: --metrics_file FILE, --predictions_file FILE with --test_images DIR, or --run_eval "
            "with --model_path FILE, --val_images DIR and --val_annotations FILE"
        )
    for name, least in (("num_visualizations", 0), ("batch_size", 1)):
        if values[name] < least:
            raise InputError(f"--{name} must be at least {least}, not {values[name]}")
    if not 0 <= settings.confidence_threshold <= 1:
        raise InputError(f"--confidence_threshold must be between 0 and 1, not {settings.confidence_threshold}")
    for name in (*FILES, *FOLDERS):
        path = values[name]
        if path is not None and not (path.is_dir() if name in FOLDERS else path.is_file()):
            raise InputError(f"{path}: no such {'folder' if name in FOLDERS else 'file'}; correct --{name}")

    output_dir = settings.output_dir
    if settings.run_eval:
        _refuse_overwriting((output_dir / name for name in EVALUATED), (values[name] for name in FILES if values[name]))
        for path, name in zip((settings.metrics_file, settings.predictions_file), EVALUATED, strict=True):
            if path is not None and path.stem == Path(name).stem:
                raise InputError(f"{path}: --run_eval writes results of the same name; analyze this file by itself")
    if any(values[name] and values[name].resolve() == output_dir.resolve() for name in FOLDERS):
        raise InputError(f"{output_dir}: is where the images are, and they could be overwritten; change --output_dir")


def _analyze(settings: AnalyzeSettings) -> Written:
    """Read and check everything, then evaluate, then write."""
    from dino_detector.analysis.result_files import find_image_list, read_image_list
    from dino_detector.training.output_dir import make_output_dir

    reports: list[Report] = []
    if settings.metrics_file is not None:
        reports.append(_metrics_report(settings.metrics_file, settings))
    if settings.predictions_file is not None:
        listed = settings.test_annotations
        images = read_image_list(listed) if listed else find_image_list(settings.predictions_file, settings.test_images)
        reports.append(_results_report(settings.predictions_file, settings.test_images, images, settings))
    images = read_image_list(settings.val_annotations) if settings.run_eval else None
    make_output_dir(settings.output_dir)
    written = _evaluate(settings) if settings.run_eval else {}
    if written:
        numbers, results = written
        reports.append(_metrics_report(numbers, settings))
        reports.append(_results_report(results, settings.val_images, images, settings))
    for report in reports:
        written |= report()
    return written


def _evaluate(settings: AnalyzeSettings) -> Written:
    """Write the metrics and the detections of the checkpoint, in this order."""
    from dino_detector.config import Config
    from dino_detector.training.evaluation import evaluate
    from dino_detector.validate import write_results

    names = ("val_images", "val_annotations", "device", "batch_size", "output_dir")
    config = Config.from_flat({name: vars(settings)[name] for name in names} | {"checkpoint": settings.model_path})
    evaluation = evaluate(config, dino_model=settings.dino_model)
    numbers, results = (settings.output_dir / name for name in EVALUATED)
    evaluation.metrics.write(numbers, checkpoint=str(settings.model_path))
    write_results(results, evaluation.results)
    return {numbers: f"metrics of {settings.model_path}", results: f"detections of {settings.model_path}"}


def _metrics_report(source: Path, settings: AnalyzeSettings) -> Report:
    from dino_detector.validate import CocoMetrics

    metrics = CocoMetrics.read(source)

    def report() -> Written:
        from dino_detector.analysis.charts import class_chart, metrics_chart
        from dino_detector.analysis.tables import metrics_table

        print(f"\n{source}\n\n{metrics_table(metrics)}")
        charts = [(metrics_chart(metrics), "coco", "the twelve COCO numbers")]
        if metrics.per_class:
            charts.append((class_chart(metrics), "ap_per_class", "AP of each class"))
        return _save(charts, settings.output_dir, source)

    return report


def _results_report(source: Path, folder: Path, images: ImageList, settings: AnalyzeSettings) -> Report:
    from dino_detector.analysis.result_files import read_results

    threshold = settings.confidence_threshold
    results = read_results(source)
    shown = [row for row in results if row["score"] >= threshold]
    pictures = _choose(source, shown, folder, images, settings) if shown and settings.num_visualizations else []
    names = {row["category_id"]: f"class {row['category_id']}" for row in results}
    names |= dict(zip(images.classes.ids, images.classes.names, strict=True))
    classes = Categories(tuple(sorted(names)), tuple(names[number] for number in sorted(names)))

    def report() -> Written:
        from dino_detector.analysis.charts import count_chart, score_chart

        print(f"\n{source}: {_extent(results)}; with a score of at least {threshold:g}: {_extent(shown)}")
        charts = []
        if results:
            scores = [row["score"] for row in results]
            charts.append((score_chart(scores, threshold=threshold), "scores", "how many detections have which score"))
        if shown:
            counts = Counter(row["category_id"] for row in shown)
            named = [(name, counts[number]) for number, name in zip(classes.ids, classes.names, strict=True)]
            meaning = f"detections of each class with a score of at least {threshold:g}"
            charts.append((count_chart(named, threshold=threshold), "class_counts", meaning))
        return _save(charts, settings.output_dir, source) | _draw(pictures, shown, classes)

    return report


def _save(charts: Sequence[tuple[Any, str, str]], output_dir: Path, source: Path) -> Written:
    """Write figures, each with the end of its name and what it shows."""
    from dino_detector.analysis.charts import save_chart

    written = {output_dir / f"{source.stem}_{name}.png": meaning for _, name, meaning in charts}
    for path, (figure, _, _) in zip(written, charts, strict=True):
        save_chart(figure, path)
    return written


def _choose(
    source: Path, shown: list[dict[str, Any]], folder: Path, images: ImageList, settings: AnalyzeSettings
) -> list[Picture]:
    """Images to draw ``shown`` on; raises `InputError` where none is found or one would be overwritten.

    The file of an image is the one that its rows name; else the one in the list; else the one whose name is its id.
    """
    from dino_detector.analysis.result_files import file_inside

    names = {row["image_id"]: row["file_name"] for row in shown if "file_name" in row}
    numbered = {
        int(file.stem): file.name
        for file in sorted(folder.iterdir(), reverse=True)
        if file.suffix.lower() in EXTENSIONS and file.stem.isascii() and file.stem.isdecimal()
    }
    pictures, missing = [], []
    for image_id in sorted({row["image_id"] for row in shown}):
        listed, size = images.files.get(image_id, (None, None))
        name = names.get(image_id) or listed or numbered.get(image_id)
        file = None if name is None else file_inside(folder, name)
        if file is None:
            missing.append(f"image {image_id}" + (f" ({name!r})" if name else ""))
            continue
        target = settings.output_dir / f"{source.stem}_pictures" / file.relative_to(folder)
        if file.suffix.lower() not in EXTENSIONS:
            target = target.with_name(f"{target.name}.png")
        pictures.append(Picture(image_id, file, size if name == listed else None, target))
    if missing:
        absent = f"{folder}: {missing[0]} of {source} is not there"
        if not pictures:
            remedy = "correct the folder, or give a COCO file with the names of the files with --test_annotations"
            raise InputError(f"{absent}, nor any other of {_counted(len(missing), 'image')}; {remedy}")
        log.warning("%s (%d of %d images are missing)", absent, len(missing), len(missing) + len(pictures))
    count = min(settings.num_visualizations, len(pictures))
    chosen = [pictures[number * len(pictures) // count] for number in range(count)]
    _refuse_overwriting((picture.target for picture in chosen), (picture.file for picture in pictures))
    return chosen


def _draw(pictures: Sequence[Picture], shown: list[dict[str, Any]], classes: Categories) -> Written:
    """Write a picture with its boxes for each image; one that can't be read is named in a warning."""
    import torch

    from dino_detector.analysis.pictures import draw_detections
    from dino_detector.data.images import read_image
    from dino_detector.detections import supervision_detections
    from dino_detector.training.output_dir import make_output_dir

    written = {}
    for picture in pictures:
        try:
            image = read_image(picture.file, expected_size=picture.size)  # [3, H, W]
        except InputError as error:
            log.warning("%s", error)
            continue
        rows = [row for row in shown if row["image_id"] == picture.image_id]
        boxes_xywh = torch.tensor([row["bbox"] for row in rows], dtype=torch.float32)  # [N, 4]
        detections = supervision_detections(
            torch.cat([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], dim=1),
            torch.tensor([classes.label(row["category_id"]) for row in rows]),
            classes,
            scores=torch.tensor([row["score"] for row in rows]),
        )
        drawn = draw_detections(image, detections, categories=classes, scores=True)
        make_output_dir(picture.target.parent)
        drawn.save(picture.target)
        written[picture.target] = f"image {picture.image_id}, {_counted(len(rows), 'detection')}"
    return written


def _refuse_overwriting(targets: Iterable[Path], inputs: Iterable[Path]) -> None:
    known = {path.resolve() for path in inputs}
    for target in targets:
        if target.resolve() in known:
            raise InputError(f"{target}: is an input, or stands for two images, and would be overwritten; rename one")
        known.add(target.resolve())


def _extent(rows: list[dict[str, Any]]) -> str:
    images = len({row["image_id"] for row in rows})
    return f"{_counted(len(rows), 'detection')} in {_counted(images, 'image')}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
