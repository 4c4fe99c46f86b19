"""AdamW with a learning rate for each layer of the backbone, the schedule, and the moving average of the weights."""

from __future__ import annotations

import copy
import math

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from dino_detector.config import Config, TrainingConfig
from dino_detector.inference.detector import Detector
from dino_detector.models.dinov2_backbone import Dinov2Backbone

FINAL_RATE = 0.01
"""learning rate at the end of training, as a fraction of its peak"""

COOLDOWN_FRACTIONS = {"cosine": 1.0, "flat_cosine": 0.5, "wsd": 0.2}
"""default fraction of the steps in which the rate falls; the cosine falls in all steps after the warm-up"""


def build_optimizer(detector: Detector, config: Config) -> AdamW:
    """Build AdamW over the trained weights; matrices get weight decay, vectors, queries and embeddings do not.

    With layer decay, each layer has parameter groups of its own, named after the layer.
    """
    decoder_peak = config.training.learning_rate
    full = config.backbone.train_backbone == "full"
    fine_tunes = full and config.backbone.backbone_weights == "pretrained"
    backbone_peak = config.training.backbone_learning_rate or (decoder_peak / 10 if fine_tunes else decoder_peak)
    layer_decay = config.training.layer_decay or (0.8 if full else 1.0)
    decays = {
        id(parameter)
        for module in detector.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.MultiheadAttention)) and "bias" not in name
    }
    groups: dict[tuple[str, float, bool], list[nn.Parameter]] = {}
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            part, peak = "decoder", decoder_peak
            if name.startswith("backbone."):
                part, share = _backbone_group(name.removeprefix("backbone."), detector.backbone, layer_decay)
                peak = backbone_peak * share
            groups.setdefault((part, peak, id(parameter) in decays), []).append(parameter)
    # The fused kernel is the fastest, but with a gradient scaler it would unscale gradients after they are clipped.
    fused = None if config.training.precision == "16" else True
    optimizer = AdamW(
        [
            {
                "name": part if decay else f"{part}_no_decay",
                "params": parameters,
                "lr": peak,
                "weight_decay": config.training.weight_decay if decay else 0.0,
            }
            for (part, peak, decay), parameters in groups.items()
        ],
        fused=fused,
    )
    optimizer.register_load_state_dict_pre_hook(
        lambda _, state: state | {"param_groups": [group | {"fused": fused} for group in state["param_groups"]]}
    )  # a run that resumes in another precision must not restore the old kernel
    return optimizer


def _backbone_group(name: str, backbone: Dinov2Backbone, layer_decay: float) -> tuple[str, float]:
    """Return the name of a parameter's group, and its fraction of the backbone's learning rate.

    Layer l of d, counted from 0, has the fraction layer_decay ** (d - l), as in BEiT (https://arxiv.org/abs/2106.08254)
    and ViTDet (https://arxiv.org/abs/2203.16527). The embeddings count as layer -1, the final norm as layer d.
    """
    if layer_decay == 1:
        return "backbone", 1.0
    layer = backbone.layer_of(name)
    part = {-1: "embeddings", backbone.depth: "norm"}.get(layer, f"layer_{layer}")
    return f"backbone_{part}", layer_decay ** (backbone.depth - layer)


def build_schedule(
    optimizer: Optimizer, training: TrainingConfig, *, total_steps: int, planned_steps: int | None = None
) -> LambdaLR:
    """Build the learning rate schedule; step it after every optimizer step.

    The rates of all groups rise linearly in the warm-up, stay at their peaks, and fall to a hundredth of the peaks:

    - ``cosine`` falls along half a cosine right after the warm-up (https://arxiv.org/abs/1608.03983);
    - ``flat_cosine`` falls along half a cosine in the last steps (RTMDet, https://arxiv.org/abs/2212.07784);
    - ``wsd``, warm-up, stable, decay, falls by 1 - sqrt in the last steps (https://arxiv.org/abs/2405.18392).

    ``warmup_fraction`` is a fraction of ``planned_steps``, which is ``total_steps`` if None.
    """
    warmup_steps = max(1, round((planned_steps or total_steps) * training.warmup_fraction))
    cooldown_steps = min(round(total_steps * cooldown_fraction(training)), total_steps - warmup_steps)
    wsd = training.schedule == "wsd"

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        into_cooldown = step - (total_steps - cooldown_steps)
        progress = min(1.0, max(0, into_cooldown) / max(1, cooldown_steps))
        fall = 1 - math.sqrt(progress) if wsd else 0.5 * (1 + math.cos(math.pi * progress))
        return FINAL_RATE + (1 - FINAL_RATE) * fall

    return LambdaLR(optimizer, factor)


def cooldown_fraction(training: TrainingConfig) -> float:
    """Return the fraction of the steps in which the rate falls; for the cosine it includes the warm-up."""
    return training.cooldown_fraction or COOLDOWN_FRACTIONS[training.schedule]


class MovingAverage(WeightAveraging):
    """Lightning's weight averaging for a mostly frozen model.

    Validation uses the average, and the ``state_dict`` of a checkpoint holds it. The average shares the frozen
    parameters with the model, so a giant backbone is in memory once.

    After n steps the decay is ``(1 + n) / (warmup + n)``, up to ``decay``: the ramp of TensorFlow's
    ExponentialMovingAverage. The mean age of the averaged weights is then n / warmup steps, a fixed share of a run of
    any length, and the first weights soon leave the average.

    Args:
        decay: share of the old average that a step keeps, in 0..1.
        warmup: number of steps after which the decay is about one half; 0 and 1 turn the warm-up off.
    """

    def __init__(self, decay: float, *, warmup: int) -> None:
        super().__init__(use_buffers=False)
        self.decay = decay
        self.warmup = warmup

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the trained parameters and share the frozen ones."""
        if stage != "fit":
            return
        frozen = {id(parameter): parameter for parameter in pl_module.parameters() if not parameter.requires_grad}
        self._average_model = AveragedModel(nn.Identity(), use_buffers=False, multi_avg_fn=self._update)
        self._average_model.module = copy.deepcopy(pl_module, memo=frozen)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the average to the model's device; Lightning moves the model after `setup`."""
        self._average_model.to(pl_module.device)
        self._average_model.n_averaged = self._average_model.n_averaged.cpu()  # read at each step without a sync

    @property
    def averages(self) -> list[Tensor]:
        """Averaged weights, without the weights that the model shares."""
        return [parameter for parameter in self._average_model.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def _update(self, averages: list[Tensor], currents: list[Tensor], num_averaged: Tensor | int) -> None:
        count = int(self._average_model.n_averaged)  # num_averaged is a copy on the device
        decay = min(self.decay, (1 + count) / (self.warmup + count))
        pairs = zip(averages, currents, strict=True)
        trained = [(average, current) for average, current in pairs if average.data_ptr() != current.data_ptr()]
        torch._foreach_lerp_([average for average, _ in trained], [current for _, current in trained], 1 - decay)
