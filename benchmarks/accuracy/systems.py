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
    "rfdetr's nano size at its own settings (batch 4, AdamW 1e-4 and 1.5e-4 in the encoder, a rate that stays the "
    "same, moving average, input sizes from 0.4 to 1.6 times the nominal one in training, windowed attention in some "
    "layers), without pretrained weights; its ViT-S is replaced by the backbone that all train, and no layer has a "
    "lower rate"
)
DEFORMABLE_NOTE = (
    "transformers' DeformableDetrForObjectDetection with box refinement, on the last layer of the backbone: the "
    "initial weights, rates, weights of the losses and schedule of its authors' code with batch 8, flips and crops"
)
OUR_NOTE = (
    "trained by `dino-detector train` with the settings of the preset's YAML file, which makes the decoder smaller "
    "than the default and its rate higher; they were chosen on the validation images of BCCD"
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


@dataclass(frozen=True)
class Preset:
    """A size of model and machine."""

    settings: str
    """YAML file of our settings beside this package; the backbone and the image size that it has are everybody's"""
    device: str
    budget: float
    """seconds of training a run"""
    systems: tuple[str, ...]
    """rows of the table, unless others are asked for"""


PRESETS = {
    "cpu": Preset(
        "accuracy_cpu.yaml",
        "cpu",
        300.0,
        (OURS, "deformable_detr", "rf_detr", "rf_detr_1_group", "rf_detr_1_group_bf16"),
    ),
    "gpu": Preset("accuracy_gpu.yaml", "cuda", 480.0, (OURS, "deformable_detr_bf16", "rf_detr", "rf_detr_1_group")),
}
