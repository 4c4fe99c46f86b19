"""Made-up payloads of the report, in the format of real payloads."""

from __future__ import annotations

import base64
import io
import random
from typing import Any

from PIL import Image, ImageDraw

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "$x$ ${alert(4)} {{payload}} `alert(5)`",
    "\u202eright to left\u202c עברית العربية",
    "血小板 赤血球 백혈구",
    "line\u2028and\u2029ends <!--",
    "&lt;b&gt; &amp; '\" \\ \\u003c",
    "a name without any place to break it " + "x" * 120,
    "javascript:alert(6)",
]
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
BINS = [{"low": step / 10, "high": (step + 1) / 10} for step in range(10)]
KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
IOUS = [0.5 + 0.05 * step for step in range(10)]


def hostile_payload(*, images: int = 200, detections: int = 100) -> dict[str, Any]:
    """Return 80 classes and many images; the names of the first ten classes would break a careless page."""
    dice = random.Random(0)
    names = HOSTILE + [f"class {number}" for number in range(10, 80)]
    classes = [class_row(dice, label, name) for label, name in enumerate(names)]
    classes[20] = {**dict.fromkeys(classes[20]), "id": 21, "name": "never there", "boxes": 0}
    return {
        "title": "<b>val</b> & </title><script>alert(7)</script>.json",
        "subtitle": "outputs/{{script}}/dino_detector_epoch_10.pth, <i>instances_val.json</i>",
        "created": "2026-11-24 17:05",
        "images": 5000,
        "boxes": sum(row["boxes"] for row in classes),
        "detections": 480_123,
        "max_detections": 100,
        "metrics": {name: round(dice.uniform(0.2, 0.7), 5) for name in METRICS} | {"APs": None, "ARs": None},
        "classes": classes,
        "curves": curves(dice, classes),
        "errors": errors(dice, classes),
        "confusion": {"threshold": 0.31, "iou": 0.5, "counts": confusion_counts(dice, classes)},
        "calibration": calibration(dice),
        "gallery": gallery(dice, count=images, labels=len(names), detections=detections),
        "scores": {"edges": [step / 20 for step in range(21)], "counts": [int(3e5 / 2**step) for step in range(20)]},
        "comparison": None,
    }


def small_payload() -> dict[str, Any]:
    """Return 3 classes, two images whose boxes are written out below, and a comparison with a baseline."""
    dice = random.Random(1)
    classes = [class_row(dice, label, name) for label, name in enumerate(("RBC", "WBC", "Platelets"))]
    numbers: dict[str, Any] = {
        name: {"baseline": 0.4 + place / 100, "value": 0.43 + place / 100} for place, name in enumerate(METRICS)
    }
    numbers["APs"] = {"baseline": None, "value": None}
    return {
        "title": "val_metrics.json",
        "subtitle": "dino_detector_best.pth, annotations/val.json",
        "created": "2026-11-24 17:05",
        "images": 87,
        "boxes": 1183,
        "detections": 8700,
        "max_detections": 100,
        "metrics": {name: row["value"] for name, row in numbers.items()},
        "classes": classes,
        "curves": curves(dice, classes),
        "errors": errors(dice, classes),
        "confusion": {"threshold": 0.4, "iou": 0.5, "counts": confusion_counts(dice, classes)},
        "calibration": calibration(dice),
        "gallery": {"threshold": 0.4, "lowest": 0.05, "total": 31, "images": [SEEN, DARK]},
        "scores": {"edges": [step / 20 for step in range(21)], "counts": [5000, 900] + [130] * 17 + [0]},
        "comparison": {
            "title": "val_metrics.json",
            "baseline_title": "baseline <u>run</u>",
            "metrics": numbers,
            "classes": [
                {"name": "RBC", "boxes": 900, "baseline": 0.5, "AP": 0.45, "change": -0.05},
                {"name": "WBC", "boxes": 80, "baseline": 0.5, "AP": 0.62, "change": 0.12},
                {"name": "Platelets", "boxes": 0, "baseline": None, "AP": None, "change": None},
            ],
            "bootstrap": {"resamples": 1000, "difference": 0.031, "low": -0.002, "high": 0.064, "level": 0.95},
            "flipped": {
                "threshold": 0.4,
                "baseline_threshold": 0.35,
                "gained": [{"id": 7, "file_name": "seen.jpg", "baseline_mistakes": 6, "mistakes": 0}],
                "lost": [{"id": 99, "file_name": "absent.jpg", "baseline_mistakes": 0, "mistakes": 2}],
                "total_gained": 1,
                "total_lost": 12,
            },
        },
    }


def metrics_payload() -> dict[str, Any]:
    """Return the payload of a metrics file alone: the numbers and the classes."""
    lower = ("curves", "errors", "confusion", "calibration", "gallery", "scores", "comparison")
    unknown = dict.fromkeys(("F1", "threshold", "precision", "recall", "APs", "APm", "APl", "AP75", "AR100"))
    payload = small_payload()
    return payload | dict.fromkeys(lower) | {"classes": [row | unknown for row in payload["classes"]]}


def bare_payload() -> dict[str, Any]:
    """Return the payload of annotations without objects, and of no detections: each part is there, and is empty."""
    payload = metrics_payload()
    classes = [{**dict.fromkeys(row), "id": row["id"], "name": row["name"], "boxes": 0} for row in payload["classes"]]
    kinds = dict.fromkeys(KINDS)
    return payload | {
        "boxes": 0,
        "detections": 0,
        "max_detections": 100,
        "metrics": dict.fromkeys(METRICS),
        "classes": classes,
        "errors": {
            "AP50": None,
            "types": [{"key": kind, "cost": None, "count": 0} for kind in KINDS],
            "special": [{"key": key, "cost": None} for key in ("false_positives", "false_negatives")],
            "per_class": [{"label": label, "costs": kinds} for label in range(len(classes))],
        },
        "confusion": {"threshold": 0.5, "iou": 0.5, "counts": [[0] * 4 for _ in range(4)]},
        "calibration": {"error": None, "bins": [{**row, "count": 0, "score": None, "precision": None} for row in BINS]},
        "gallery": {"threshold": 0.4163, "lowest": 0.05, "total": 0, "images": []},
        "scores": {"edges": [step / 20 for step in range(21)], "counts": [0] * 20},
    }


def detection(box: list[float], label: int, score: float, kind: str, iou: float) -> dict[str, Any]:
    return {"box": box, "label": label, "score": score, "kind": kind, "iou": iou}


SEEN = {
    "id": 7, "file_name": "seen.jpg", "width": 640, "height": 480, "thumbnail": None, "cost": 3.0,
    "truth": [
        {"box": [40.0, 40.0, 100.0, 100.0], "label": 0, "crowd": False, "found": 0.8},
        {"box": [300.0, 60.0, 120.0, 90.0], "label": 1, "crowd": False, "found": 0.35},
        {"box": [450.0, 300.0, 90.0, 120.0], "label": 2, "crowd": False, "found": None},
        {"box": [10.0, 350.0, 200.0, 100.0], "label": 0, "crowd": True, "found": None},
    ],
    "detections": [
        detection([42.0, 41.0, 98.0, 97.0], 0, 0.8, "correct", 0.93),
        detection([302.0, 60.0, 118.0, 90.0], 1, 0.35, "correct", 0.95),
        detection([40.0, 44.0, 100.0, 92.0], 0, 0.6, "duplicate", 0.9),
        detection([448.0, 310.0, 92.0, 108.0], 1, 0.92, "classification", 0.86),
        detection([20.0, 360.0, 80.0, 60.0], 0, 0.05, "ignored", 0.0),
    ],
}  # fmt: skip
"""At 0.10 four objects and four detections are seen, at 0.90 four and one; at 0.40 (missed 2) 4 and 3."""

DARK = {
    "id": 8, "file_name": "<i>dark</i>.jpg", "width": 300, "height": 600, "thumbnail": None, "cost": 1.0,
    "truth": [{"box": [100.0, 100.0, 90.0, 90.0], "label": 0, "crowd": False, "found": 0.7}],
    "detections": [
        detection([101.0, 99.0, 90.0, 90.0], 0, 0.7, "correct", 0.96),
        detection([20.0, 400.0, 120.0, 150.0], 2, 0.55, "background", 0.0),
    ],
}  # fmt: skip


def class_row(dice: random.Random, label: int, name: str) -> dict[str, Any]:
    fractions = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100", "threshold", "F1", "precision", "recall")
    row = {key: round(dice.uniform(0.05, 0.95), 5) for key in fractions}
    return {"id": label + 1, "name": name, "boxes": dice.randrange(1, 4000), **row}


def curves(dice: random.Random, classes: list[dict[str, Any]]) -> dict[str, Any]:
    def falling(iou: float) -> list[float]:
        end = dice.uniform(0.9, 1.0) * (1.15 - iou)
        return [
            round(max(0.0, 1 - (recall / 100 / end) ** 3), 4) if recall / 100 < end else 0.0 for recall in range(101)
        ]

    precision = [None if row["AP"] is None else [falling(iou) for iou in IOUS] for row in classes]
    return {"ious": IOUS, "precision": precision, "mean": [falling(iou) for iou in IOUS]}


def errors(dice: random.Random, classes: list[dict[str, Any]]) -> dict[str, Any]:
    costs = dict(zip(KINDS, (0.031, 0.062, 0.008, 0.004, 0.047, 0.112), strict=True))
    per_class = [
        {
            "label": label,
            "costs": {kind: None if row["AP"] is None else round(dice.uniform(0, 0.2), 4) for kind in KINDS},
        }
        for label, row in enumerate(classes)
    ]
    return {
        "AP50": 0.61,
        "types": [{"key": kind, "cost": cost, "count": int(9000 * cost)} for kind, cost in costs.items()],
        "special": [{"key": "false_positives", "cost": 0.14}, {"key": "false_negatives", "cost": 0.21}],
        "per_class": per_class,
    }


def confusion_counts(dice: random.Random, classes: list[dict[str, Any]]) -> list[list[int]]:
    size = len(classes) + 1
    counts = [[dice.choice((0, 0, 0, 0, 1, 2, 9)) for _ in range(size)] for _ in range(size)]
    for label, row in enumerate(classes):
        counts[label][label] = row["boxes"] * 2 // 3
        counts[label][-1] = row["boxes"] // 4
    counts[-1][-1] = 0
    return counts


def calibration(dice: random.Random) -> dict[str, Any]:
    bins = []
    for step in range(10):
        low, empty = step / 10, step == 9
        score = None if empty else round(low + 0.05, 4)
        precision = None if empty else round(max(0.0, (low + 0.05) ** 1.4 + dice.uniform(-0.02, 0.02)), 4)
        count = 0 if empty else 20_000 // 2**step
        bins.append({"low": low, "high": low + 0.1, "count": count, "score": score, "precision": precision})
    return {"error": 0.071, "bins": bins}


def gallery(dice: random.Random, *, count: int, labels: int, detections: int) -> dict[str, Any]:
    picture = thumbnail()
    kinds = ("correct", "classification", "localisation", "both", "duplicate", "background", "ignored")

    def box() -> list[float]:
        return [
            round(dice.uniform(0, 520), 2), round(dice.uniform(0, 360), 2),
            round(dice.uniform(20, 120), 2), round(dice.uniform(20, 120), 2),
        ]  # fmt: skip

    images = [
        {
            "id": number, "file_name": f"{'very_long_folder_name/' * 4}{number:06d} {HOSTILE[number % 10]}.jpg",
            "width": 640, "height": 480, "cost": float(count - number),
            "thumbnail": None if number % 7 == 3 else picture,
            "truth": [
                {"box": box(), "label": dice.randrange(labels), "crowd": dice.random() < 0.05,
                 "found": dice.choice((None, round(dice.random(), 4)))}
                for _ in range(12)
            ],
            "detections": [
                detection(box(), dice.randrange(labels), round(dice.random() ** 3, 4), dice.choice(kinds), 0.4)
                for _ in range(detections)
            ],
        }
        for number in range(count)
    ]  # fmt: skip
    return {"threshold": 0.4, "lowest": 0.05, "total": 2 * count, "images": images}


def thumbnail() -> str:
    """Draw a scene with light and dark structure."""
    image = Image.linear_gradient("L").resize((320, 240)).convert("RGB")
    draw = ImageDraw.Draw(image)
    draw.ellipse((40, 60, 140, 160), fill=(180, 60, 60))
    draw.rectangle((190, 110, 280, 210), fill=(60, 110, 180))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=70)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
