"""The rows of the table: what is measured, in which settings, with which target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.speed.process import Measurement
from benchmarks.speed.table import Row
from dino_detector.config import LIGHTWEIGHT

BATCH = 4
WHOLE_RUNS: dict[str, dict[str, Any]] = {"headline": {}, "headline_frozen": {"train_backbone": "none"}}
"""rows that are whole training runs, and their changes of the lightweight preset"""
EPOCHS = 20
"""epochs of a whole run"""
SIZES: dict[str, Any] = {"num_queries": 300, "decoder_layers": 2, "lora_layers": 2}
"""sizes of RF-DETR nano's decoder, and the number of layers with adapters"""
INPUT: dict[str, Any] = {"dino_model": "facebook/dinov2-small", "image_size": 336}
IN_TRAINING = {"warm_up": 3, "steps": 12}
OF_LIGHT = "training of the lightweight preset"
DATA_TYPES = {"bf16": "bfloat16", "32": "float32"}
"""names of our precisions in RF-DETR"""


def rows_of(
    data: dict[str, str], large: dict[str, str], thousand: dict[str, str], *, best: str
) -> dict[str, list[Row]]:
    """Return all rows by the name that ``--only`` takes.

    Args:
        data: settings ``train_images`` and ``train_annotations`` of a small data set.
        large: the same settings of a data set of COCO's size.
        thousand: the same settings of 1,000 images.
        best: precision that suits the machine, 32 or bf16.
    """
    picture = str(Path(data["train_images"], "000001.jpg"))
    return {
        **_whole_runs(thousand, best=best),
        **_training(data, best=best),
        **_prediction(picture, best=best),
        **_parts(data, best=best),
        "start": _start(large),
    }


def _whole_runs(thousand: dict[str, str], *, best: str) -> dict[str, list[Row]]:
    settings = _sizes(lightweight=True) | _run(thousand) | {"precision": best, "epochs": EPOCHS}
    rows = {}
    for name, changes in WHOLE_RUNS.items():
        flags = "".join(f" with --{flag} {value}" for flag, value in changes.items())
        title = f"1,000 images, {EPOCHS} epochs, lightweight preset{flags}, filling the cache"
        measurement = Measurement(name, "ours", "whole_run", {"settings": settings | changes})
        rows[name] = [Row(title, "seconds", "<= 1200", measurement)]
    return rows


def _training(data: dict[str, str], *, best: str) -> dict[str, list[Row]]:
    def ours(title: str, precision: str, *, light: bool = False, cached: bool = False, **changes: Any) -> Measurement:
        settings = _sizes(lightweight=light) | _run(data) | {"precision": precision} | changes
        return Measurement(title, "ours", "training", {"settings": settings, "filled": cached} | IN_TRAINING)

    def peer(title: str, **model: Any) -> Measurement:
        return Measurement(title, "rf_detr", "training", {"data": data, "batch": BATCH, "model": model} | IN_TRAINING)

    whole, one_group = peer("RF-DETR, LoRA", backbone_lora=True), peer("RF-DETR, 1 group", group_detr=1)
    standard, standard_32 = ours(f"ours, {best}", best), ours("ours, 32", "32")
    light, cached = ours("light", best, light=True), ours("ours, cached", best, cached=True)
    pace, memory, beside = "images_per_second", "peak_memory_bytes", ", against 1 group"
    from_cache = "from the trunk cache, images/s"
    rows = [
        Row("training, images/s", pace, ">= 9", standard, whole),
        Row(f"training, images/s{beside}", pace, ">= 4", standard, one_group),
        Row("training in float32, images/s", pace, ">= 5", standard_32, whole),
        Row(f"{OF_LIGHT}, images/s", pace, ">= 9", light, whole),
        Row(f"{OF_LIGHT}, images/s{beside}", pace, ">= 4", light, one_group),
        Row("peak memory in training", memory, "<= 0.25", standard, whole),
        Row(f"peak memory in training{beside}", memory, "<= 0.5", standard, one_group),
        Row(f"peak memory in {OF_LIGHT}", memory, "<= 0.25", light, whole),
        Row(f"peak memory in {OF_LIGHT}{beside}", memory, "<= 0.5", light, one_group),
    ]
    cache = [
        Row(f"training {from_cache}", pace, ">= 30", cached, whole),
        Row(f"training {from_cache}{beside}", pace, ">= 13", cached, one_group),
    ]
    for title, changes in (("", {}), (" without adapters", {"train_backbone": "none"})):
        measurement = ours(f"light, cached{title}", best, light=True, cached=True, **changes)
        cache += [
            Row(f"{OF_LIGHT}{title} {from_cache}", pace, ">= 30", measurement, whole),
            Row(f"{OF_LIGHT}{title} {from_cache}{beside}", pace, ">= 13", measurement, one_group),
        ]
    return {"training": rows, "cache": cache}


def _prediction(picture: str, *, best: str) -> dict[str, list[Row]]:
    def ours(title: str, *, light: bool = False, **arguments: Any) -> Measurement:
        settings = {"settings": _sizes(lightweight=light), "picture": picture}
        return Measurement(title, "ours", "latency", settings | arguments)

    def peer(precision: str) -> Measurement:
        settings = {"picture": picture, "dtype": DATA_TYPES[precision]}
        return Measurement(f"RF-DETR, {precision}", "rf_detr", "latency", settings)

    light = ours("light", precision=best, light=True)
    latency = [
        Row("a picture", "seconds", "<= 0.4", ours(f"ours, {best}", precision=best), peer(best)),
        Row("a picture in float32", "seconds", "<= 0.8", ours("ours, 32", precision="32"), peer("32")),
        Row("a picture, lightweight preset", "seconds", "<= 0.4", light, peer(best)),
    ]
    export = []
    for suffix, exported in ((".onnx", "32"), (".onnx", "int8"), (".xml", "32")):
        measurement = ours(f"{suffix}, {exported}", precision="32", suffix=suffix, exported=exported)
        title = f"a picture, exported to {suffix} in {exported}"
        export.append(Row(title, "seconds", "<= 0.25", measurement, peer(best)))
    group = []
    for title, settings in (
        ("", _sizes(lightweight=False)),
        (", lightweight preset", _sizes(lightweight=True)),
        (", lightweight preset without adapters,", _sizes(lightweight=True) | {"train_backbone": "none"}),
    ):
        arguments = {"settings": settings, "picture": picture, "precision": best, "detectors": 4}
        measurement = Measurement(f"group{title}", "ours", "group", arguments)
        row = f"one more detector{title} on a trunk, share of one alone"
        group.append(Row(row, "share", "<= 0.2", measurement))
    return {"latency": latency, "export": export, "group": group}


def _parts(data: dict[str, str], *, best: str) -> dict[str, list[Row]]:
    sizes = _sizes(lightweight=False)
    layer = {"batch": 16, "queries": 300, "boxes": 100}
    matching = Measurement("ours", "ours", "matching", layer), Measurement("peer", "rf_detr", "matching", layer)
    loading = {"settings": sizes | data | {"batch_size": BATCH, "num_workers": 0}, "images": 96}
    pipeline = (
        Measurement("ours", "ours", "pipeline", loading),
        Measurement("RF-DETR", "rf_detr", "pipeline", {"data": data, "batch": BATCH, "images": 96}),
    )
    step = {"settings": sizes | {"precision": best}, "batch": 16, "boxes": 100}
    scored = {"images": 5000, "detections": 100}
    evaluation = (
        Measurement("ours", "evaluation", "ours", scored),
        Measurement("pycocotools", "evaluation", "pycocotools", scored),
    )
    inference = {"settings": sizes, "precision": best, "batch": BATCH}
    return {
        "matching": [Row("matching, a layer of 16 images of 100 boxes", "seconds", "<= 1", *matching)],
        "pipeline": [Row("from files to batches on one core, images/s", "images_per_second", ">= 1.5", *pipeline)],
        "losses": [
            Row(
                *("matching and losses, share of a step of 16 images of 100 boxes", "share", "<= 0.05"),
                Measurement("losses", "ours", "losses_share", step),
            )
        ],
        "evaluation": [
            Row(
                *("evaluation of 5,000 images with 100 detections each, beside pycocotools", "seconds", "<= 0.1"),
                *evaluation,
            )
        ],
        "backbone": [
            Row(
                *("share of the matrix rate in the backbone", "share", ">= 0.6"),
                Measurement("backbone", "ours", "backbone_share", inference),
            )
        ],
    }


def _start(large: dict[str, str]) -> list[Row]:
    small = SIZES | {"dino_model": "dinov2-demo", "image_size": 112, "batch_size": BATCH, "num_workers": 2}
    start = Measurement("start", "start", "train", {"settings": small | large})
    return [
        Row("from the start to the first step with 118,287 images", "seconds", "<= 10", start),
        Row("part of that for importing libraries", "seconds", "", Measurement("imports", "start", "imports")),
        Row("private memory of a data worker at that point", "worker_bytes", "", start),
    ]


def _sizes(*, lightweight: bool) -> dict[str, Any]:
    return (LIGHTWEIGHT if lightweight else SIZES) | INPUT


def _run(data: dict[str, str]) -> dict[str, Any]:
    """Return the settings of a training run without evaluation and logs."""
    return data | {"val_images": None, "val_annotations": None, "batch_size": BATCH, "num_workers": 0, "logger": []}
