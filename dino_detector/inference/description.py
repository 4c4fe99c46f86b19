"""What a detector is, in a few lines: classes, base, sizes, and how good it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dino_detector.plain_text import counted, plain
from dino_detector.structures.categories import Categories
from dino_detector.structures.html import html_block, html_table

if TYPE_CHECKING:
    from dino_detector.inference.detector import Detector

MOST_NAMES = 8
"""most classes that a description names"""


def classes_text(categories: Categories) -> str:
    """Return the number of the classes and the first names: ``3 classes: cat, dog, owl``."""
    names = [plain(name, 20) for name in categories.shown[:MOST_NAMES]]
    more = f", and {len(categories) - MOST_NAMES:,} more" if len(categories) > MOST_NAMES else ""
    return f"{counted(len(categories), 'class', 'classes')}: {', '.join(names)}{more}"


def facts_of(detector: Detector) -> dict[str, str]:
    """Return the facts about a detector by name, each in a few words."""
    config, backbone = detector.config, detector.backbone
    parameters = list(detector.parameters())
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in parameters)
    data, decoder = config.data, config.decoder
    height, width = data.image_size
    layers = counted(decoder.decoder_layers, "layer")
    found = detector.header.evaluation
    accuracy = "not measured"
    if found is not None and found["AP"] != -1:
        numbers = f"AP {found['AP']:.3f}, AP50 {found['AP50']:.3f}"
        accuracy = f"{numbers} on {counted(found['images'], 'image')}, after epoch {found['epoch']}"
    return {
        "base": f"{plain(config.backbone.dino_model)}, {backbone.trunk_depth} of {backbone.depth} layers frozen",
        "input": f"{height} x {width} pixels (height x width), {data.resize_mode}",
        "decoder": f"{decoder.num_queries} queries, {layers}, {decoder.hidden_dim} wide",
        "parameters": f"{total:,}, of which {trained:,} train",
        "accuracy": accuracy,
        "runs on": f"{detector.device}, precision {detector.inference_precision}",
    }


def detector_text(detector: Detector) -> str:
    """Return the description as text."""
    lines = [f"Detector of {classes_text(detector.categories)}"]
    return "\n".join(lines + [f"  {name:<11} {text}" for name, text in facts_of(detector).items()])


def detector_html(detector: Detector) -> str:
    """Return the description as HTML."""
    return html_block(
        f"Detector of {classes_text(detector.categories)}", html_table((), list(facts_of(detector).items()))
    )
