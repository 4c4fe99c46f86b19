"""The systems that are compared, and how each is started."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class System:
    """A row of the table."""

    title: str
    """as the table calls it"""
    module: str
    """the module of this package that trains it, as a command"""
    note: str
    """what a reader has to know of it, below the table"""
    settings: dict[str, Any] = field(default_factory=dict)
    """settings in the module's own words"""
    own_environment: bool = False
    """whether it needs the environment of RF-DETR"""


OURS = "ours"

REFINED = {"with_box_refine": True}
RF_DETR_NOTE = (
    "rfdetr's nano size at its own settings (batch 4, AdamW 1e-4, moving average, several scales a run), without "
    "pretrained weights; its ViT-S is replaced by the backbone that all train, with one learning rate"
)
DEFORMABLE_NOTE = (
    "transformers' DeformableDetrForObjectDetection with box refinement: batch 8, AdamW 2e-4 throughout, the paper's "
    "schedule, augmentation and losses"
)

SYSTEMS: dict[str, System] = {
    OURS: System("dinov2-od", "ours", "trained by `fit` with the settings of the preset's YAML file"),
    "deformable_detr": System(
        "Deformable DETR",
        "deformable_detr",
        DEFORMABLE_NOTE,
        {"model": REFINED, "precision": "32"},
    ),
    "deformable_detr_bf16": System(
        "Deformable DETR, bf16",
        "deformable_detr",
        f"{DEFORMABLE_NOTE}; under bf16 autocast",
        {"model": REFINED, "precision": "bf16"},
    ),
    "deformable_detr_small": System(
        "Deformable DETR, 1 + 3 layers",
        "deformable_detr",
        f"{DEFORMABLE_NOTE}; one encoder and three decoder layers in place of six and six",
        {"model": REFINED | {"encoder_layers": 1, "decoder_layers": 3}, "precision": "32"},
    ),
    "rf_detr": System(
        "RF-DETR, 13 groups",
        "rf_detr",
        f"{RF_DETR_NOTE}; 13 groups of queries in training, the default",
        {"model": {}, "train": {}, "trainer": {}},
        own_environment=True,
    ),
    "rf_detr_1_group": System(
        "RF-DETR, 1 group",
        "rf_detr",
        f"{RF_DETR_NOTE}; one group of queries",
        {"model": {"group_detr": 1}, "train": {}, "trainer": {}},
        own_environment=True,
    ),
    "rf_detr_1_group_bf16": System(
        "RF-DETR, 1 group, bf16",
        "rf_detr",
        f"{RF_DETR_NOTE}; one group of queries, under bf16 autocast on a CPU too, where the package itself takes 32",
        {"model": {"group_detr": 1}, "train": {}, "trainer": {"precision": "bf16-mixed"}},
        own_environment=True,
    ),
}
"""by the name that ``--systems`` takes"""


def precision(job: dict[str, Any]) -> str:
    """The number format that a job computes in, for the table."""
    settings, on_cpu = job["settings"], job["device"] == "cpu"
    if SYSTEMS[job["system"]].own_environment:
        return settings["trainer"].get("precision", "32" if on_cpu else "bf16").removesuffix("-mixed")
    return settings["precision"]


DEFAULT = (OURS, "deformable_detr", "rf_detr", "rf_detr_1_group")


@dataclass(frozen=True)
class Preset:
    """A size of model and machine."""

    settings: str
    """YAML file of our settings beside this package; the backbone and the image size that it has are everybody's"""
    device: str
    budget: float
    """seconds of training a run"""


PRESETS = {
    "cpu": Preset("accuracy_cpu.yaml", "cpu", 300.0),
    "gpu": Preset("accuracy_gpu.yaml", "cuda", 480.0),
}
