"""The compared systems and the presets of the comparison."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class System:
    """A row of the table."""

    title: str
    """name in the table"""
    module: str
    """module of this package that trains the system"""
    note: str
    """description below the table"""
    settings: dict[str, Any] = field(default_factory=dict)
    """settings under the system's own names; the preset's YAML file gives the settings of our detector"""
    own_environment: bool = False
    """whether the system runs in the environment of RF-DETR"""


OURS = "ours"

REFINED = {"with_box_refine": True}
RF_DETR_NOTE = (
    "rfdetr's nano size with its default settings (batch 4, AdamW with a constant rate of 1e-4 and 1.5e-4 in the "
    "encoder, moving average, training sizes from 0.4 to 1.6 times the nominal one, windowed attention in some "
    "layers), without pretrained weights; the common backbone replaces its ViT-S, and no layer has a lower rate"
)
DEFORMABLE_NOTE = (
    "transformers' DeformableDetrForObjectDetection with box refinement, on the last layer of the backbone; initial "
    "weights, learning rates, loss weights and schedule are those of its authors' code, with batch 8, flips and crops"
)
OUR_NOTE = (
    "trained by `dino-detector train` with the preset's YAML file, which has a smaller decoder and a higher learning "
    "rate than the defaults; the settings were chosen on the validation images of BCCD"
)

SYSTEMS: dict[str, System] = {
    OURS: System("dinov2-od", "ours", OUR_NOTE),
    "deformable_detr": System(
        "Deformable DETR",
        "deformable_detr",
        DEFORMABLE_NOTE,
        {"model": REFINED, "precision": "32"},
    ),
    "deformable_detr_bf16": System(
        "Deformable DETR, bf16",
        "deformable_detr",
        f"{DEFORMABLE_NOTE}; with bf16 autocast",
        {"model": REFINED, "precision": "bf16"},
    ),
    "deformable_detr_small": System(
        "Deformable DETR, 1 + 3 layers",
        "deformable_detr",
        f"{DEFORMABLE_NOTE}; one encoder layer and three decoder layers instead of six and six",
        {"model": REFINED | {"encoder_layers": 1, "decoder_layers": 3}, "precision": "32"},
    ),
    "rf_detr": System(
        "RF-DETR, 13 groups",
        "rf_detr",
        f"{RF_DETR_NOTE}; 13 query groups in training, the default",
        {"model": {}, "train": {}, "trainer": {}},
        own_environment=True,
    ),
    "rf_detr_1_group": System(
        "RF-DETR, 1 group",
        "rf_detr",
        f"{RF_DETR_NOTE}; one query group",
        {"model": {"group_detr": 1}, "train": {}, "trainer": {}},
        own_environment=True,
    ),
    "rf_detr_1_group_bf16": System(
        "RF-DETR, 1 group, bf16",
        "rf_detr",
        f"{RF_DETR_NOTE}; one query group, with bf16 autocast on a CPU too, where the package itself uses float32",
        {"model": {"group_detr": 1}, "train": {}, "trainer": {"precision": "bf16-mixed"}},
        own_environment=True,
    ),
}
"""by the name on the command line (``--systems``)"""


def precision(job: dict[str, Any]) -> str:
    """Return the number format that a job computes in, for the table."""
    settings, on_cpu = job["settings"], job["device"] == "cpu"
    if SYSTEMS[job["system"]].own_environment:
        return settings["trainer"].get("precision", "32" if on_cpu else "bf16").removesuffix("-mixed")
    return settings["precision"]


@dataclass(frozen=True)
class Preset:
    """A size of model and machine."""

    settings: str
    """YAML file in this folder with the settings of our detector; its backbone and image size apply to all systems"""
    device: str
    budget: float
    """training time of a run, in seconds"""
    systems: tuple[str, ...]
    """default rows of the table"""


PRESETS = {
    "cpu": Preset(
        "accuracy_cpu.yaml",
        "cpu",
        300.0,
        (OURS, "deformable_detr", "rf_detr", "rf_detr_1_group", "rf_detr_1_group_bf16"),
    ),
    "gpu": Preset("accuracy_gpu.yaml", "cuda", 480.0, (OURS, "deformable_detr_bf16", "rf_detr", "rf_detr_1_group")),
}
