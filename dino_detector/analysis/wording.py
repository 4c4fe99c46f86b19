"""Names, labels and captions that the report, the PNG charts and the terminal share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from dino_detector.analysis.mistakes import BACKGROUND_IOU, FOREGROUND_IOU
from dino_detector.plain_text import counted

Payload = Mapping[str, Any]
"""content of a report or of one of its parts, see `payload`"""
DASH = "\N{EN DASH}"
"""stands for a number without ground truth"""
BACKGROUND = "background"
AXES = {
    "score": "score",
    "recall": "recall",
    "precision": "precision",
    "detections": "detections",
    "detections_log": "detections (logarithmic)",
    "calibrated": "perfect calibration",
    "truth": "true class",
    "predicted": "predicted class",
}
"""titles of axes and names of series"""


class MistakeLabel(NamedTuple):
    """A kind of box: its code in pictures, its name, its plural in sentences, and a sentence on its meaning."""

    code: str
    name: str
    many: str = ""
    meaning: str = ""


LOW, HIGH = BACKGROUND_IOU, FOREGROUND_IOU
MISTAKES = {
    "classification": MistakeLabel(
        "C", "wrong class", "wrong classes", f"It fits an object of another class, IoU {HIGH} or more."
    ),
    "localisation": MistakeLabel(
        "L", "poor box", "poor boxes", f"The class is right, but the IoU is only {LOW} to {HIGH}."
    ),
    "both": MistakeLabel(
        *("CL", "wrong class and poor box", "poor boxes of a wrong class"),
        f"The object has another class, and the IoU is only {LOW} to {HIGH}.",
    ),
    "duplicate": MistakeLabel(
        "D", "duplicate", "duplicates", "A detection with a higher score has already found the object."
    ),
    "background": MistakeLabel(
        "B", "nothing there", "boxes where nothing is", f"No object is near: every IoU is below {LOW}."
    ),
    "missed": MistakeLabel(
        *("M", "missed", "missed objects"), "No detection finds the object, not even with a wrong class or a poor box."
    ),
}
"""kinds of mistakes by their key in the payload, in TIDE's order"""
NO_MISTAKES = {"correct": MistakeLabel("✓", "correct"), "ignored": MistakeLabel(DASH, "not counted")}
ALL_MISTAKES = {"false_positives": "all false detections", "false_negatives": "all missed objects"}


def for_script() -> dict[str, Any]:
    """Return the words that the report's script shows, ready for JSON."""
    kinds = {"mistakes": MISTAKES, "other": NO_MISTAKES}
    named = {group: {key: kind._asdict() for key, kind in of.items()} for group, of in kinds.items()}
    return {"axes": AXES, "background": BACKGROUND, **named}


def metric_meanings(max_detections: int) -> dict[str, str]:
    """Return a meaning for each of the twelve COCO numbers, by their names with these ``max_detections``."""
    return {
        "AP": "mean over IoU 0.50 to 0.95",
        "AP50": "at IoU 0.50: loose boxes count",
        "AP75": "at IoU 0.75: tight boxes only",
        "APs": "small objects, below 32² pixels",
        "APm": "medium objects, 32² to 96² pixels",
        "APl": "large objects, above 96² pixels",
        "AR1": "1 box per image and class",
        "AR10": "10 boxes per image and class",
        f"AR{max_detections}": f"{max_detections} boxes per image and class",
        "ARs": "small objects",
        "ARm": "medium objects",
        "ARl": "large objects",
    }


def fraction(value: float | None, digits: int = 3) -> str:
    """Return a fraction as text; a dash for None."""
    return DASH if value is None else f"{value:.{digits}f}"


def threshold_text(value: float) -> str:
    """Return a score threshold with all decimals, at least two: a rounded one would count other detections."""
    return f"{value:.2f}" if round(value, 2) == value else str(value)


def calibration_caption(calibration: Payload) -> str:
    """Return the expected calibration error in words."""
    if calibration["error"] is None:
        return "There are no detections to compare with their scores."
    return f"Scores are off by {fraction(calibration['error'])} on average (expected calibration error, at IoU 0.50)."


def confusion_caption(confusion: Payload) -> str:
    """Return which detections a confusion matrix counts."""
    threshold, iou = threshold_text(confusion["threshold"]), fraction(confusion["iou"], 2)
    return f"Detections with a score of at least {threshold}, matched to objects at IoU {iou}."


def costs_caption(errors: Payload) -> str:
    """Return AP50, and its gain without all false detections and without all misses."""
    if errors["AP50"] is None:
        return "There is no ground truth, so the costs are unknown."
    gains = {row["key"]: fraction(row["cost"]) for row in errors["special"]}
    return (
        f"AP50 is {fraction(errors['AP50'])}. Without any false detection it would rise by {gains['false_positives']}. "
        f"With every object found it would rise by {gains['false_negatives']}."
    )


def comparison_verdict(comparison: Payload) -> str:
    """Return the change of AP, its interval, and whether it may be chance."""
    before, now = comparison["metrics"]["AP"]["baseline"], comparison["metrics"]["AP"]["value"]
    interval = comparison["bootstrap"]
    if interval is not None:
        low, high = interval["low"], interval["high"]
        verdict = "better beyond chance" if low > 0 else "worse beyond chance" if high < 0 else "may be chance"
        return (
            f"AP {interval['difference']:+.3f}, {interval['level']:.0%} interval {low:+.3f} to {high:+.3f}: {verdict} "
            f"({interval['resamples']:,} resamples of the images)."
        )
    if before is None or now is None:
        return "AP can't be compared: one of the runs has none."
    change = f"AP {now - before:+.3f}, from {fraction(before)} to {fraction(now)}."
    return f"{change} Metrics alone do not tell whether this is chance."


def flipped_captions(flipped: Payload) -> tuple[str, str]:
    """Return how many images became better and worse, and the rule that decides."""
    gained, lost = (counted(flipped[key], "image") for key in ("total_gained", "total_lost"))
    thresholds = (threshold_text(flipped[key]) for key in ("baseline_threshold", "threshold"))
    return (
        f"{gained} became better and {lost} worse.",
        "An image became better if it had mistakes and has none now, and worse if it had none and has some now. "
        "Mistakes count from the score with the best F1 on: {} before, {} now.".format(*thresholds),
    )
