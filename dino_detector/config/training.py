"""Settings of a run: losses, optimizer, processes, logs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class MatchingConfig:
    """Costs of the Hungarian matching between queries and ground truth."""

    set_cost_class: float = 2.0
    """weight of the classification cost"""
    set_cost_bbox: float = 5.0
    """weight of the L1 distance of the boxes"""
    set_cost_giou: float = 2.0
    """weight of the generalized IoU"""
    set_cost_quality: float = 0.0
    """the score of a query counts times its overlap with the box to this power, so that of two queries with one score
    the better placed is matched; 0 ignores the overlap"""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses, and how scores are learned."""

    classification_loss: Literal["focal", "varifocal", "iou_aware", "matchability_aware"] = "focal"
    """focal wants a score of 1 from every matched query; the others want scores that tell how well the box lies"""
    loss_weight_class: float = 2.0
    """weight of the classification loss"""
    loss_weight_bbox: float = 5.0
    """weight of the L1 box loss"""
    loss_weight_giou: float = 2.0
    """weight of the generalized IoU loss"""
    focal_alpha: float = 0.25
    """weight of positives in the focal loss, and in the cost of matching"""
    focal_gamma: float = 2.0
    """focusing exponent of the focal loss, and of the cost of matching, 0 or at least 1"""


@dataclass(frozen=True)
class TrainingConfig:
    """The run: length, optimizer, device and files."""

    output_dir: Path = Path("outputs")
    """folder for checkpoints, metrics and logs"""
    checkpoint: Path | None = None
    """checkpoint to resume, or to evaluate; from one without training state the weights are taken"""
    skip_checkpoint_load: bool = False
    """start anew all the same, without the checkpoint"""
    only_evaluate: bool = False
    """evaluate the checkpoint on the validation images, detect in the test images, and stop"""
    lightweight: bool = False
    """the lightweight preset: dinov2-small with adapters on its last layers, 25 queries, 2 decoder layers. Settings
    given explicitly win over the preset"""
    epochs: int = 50
    """passes over the training images"""
    batch_size: int = 4
    """images in a step, per process"""
    accumulate_batches: int = 1
    """batches whose gradients are averaged before an optimizer step"""
    learning_rate: float = 2e-4
    """peak learning rate of the neck, the decoder and the heads"""
    backbone_learning_rate: float | None = None
    """peak learning rate of the trained part of the backbone; null means learning_rate, and a tenth of it where
    pretrained weights are trained in full"""
    layer_decay: float | None = None
    """layer-wise decay of the backbone's learning rate: layer l of d, counted from 0, has layer_decay ** (d - l) of it,
    and the embeddings layer_decay ** (d + 1); 1 does not decay. null means 0.8 where the backbone trains in full, and 1
    for adapters"""
    weight_decay: float = 1e-4
    """weight decay of AdamW on matrices; biases, norms, queries and embeddings have none"""
    warmup_fraction: float = 0.05
    """share of the steps, at the beginning, in which the learning rate rises to its peak"""
    schedule: Literal["cosine", "flat_cosine", "wsd"] = "flat_cosine"
    """course of the learning rate after its warm-up: cosine falls from then on; flat_cosine stays and falls in the end;
    wsd (warm-up, stable, decay) too, but by 1 - sqrt, at first faster"""
    cooldown_fraction: float | None = None
    """share of the steps, at the end, in which the learning rate of flat_cosine or wsd falls; null means 0.5 and 0.2"""
    gradient_clip: float = 0.1
    """largest norm of the gradient; 0 does not clip"""
    ema_decay: float = 0.999
    """decay of the exponential moving average of the weights, which is evaluated and saved; 0 turns it off"""
    ema_warmup: int = 10
    """warm-up of ema_decay: after n steps it is (1 + n) / (ema_warmup + n), until that is more; the average lags about
    n / ema_warmup steps behind. 0 has no warm-up"""
    val_frequency: int = 5
    """evaluate and write a checkpoint every so many epochs, and after the last"""
    early_stopping_patience: int = 0
    """stop after so many evaluations in a row without a better AP; 0 trains all epochs"""
    early_stopping_min_delta: float = 0.0
    """how much higher than the best an AP must be to count as better, 0 to 1"""
    seed: int = 42
    """seed of the weights, the order of the images and the augmentation"""
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    """number format of the computation; auto is bf16 on a CUDA device or an x86 CPU with instructions for it, and 32
    elsewhere. In an evaluation auto is that of the checkpoint, if it was given there"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps"""


@dataclass(frozen=True)
class DistributedConfig:
    """Several processes on one machine."""

    distributed: bool = False
    """train and evaluate in several processes, started from this one command"""
    world_size: int | None = None
    """number of processes; null means one for each GPU, or 2 on a CPU"""
    dist_url: str = "env://"
    """where the processes meet: tcp://HOST:PORT, or env:// for a free port of this machine"""

    @property
    def processes(self) -> int:
        """How many there are, once the machine has been asked."""
        return self.world_size if self.distributed else 1


@dataclass(frozen=True)
class LoggingConfig:
    """What a run tells of itself."""

    logger: list[Literal["tensorboard", "csv", "wandb", "mlflow"]] = field(default_factory=lambda: ["tensorboard"])
    """where to log: tensorboard, csv, wandb, mlflow, one or more; the last two have to be installed. An empty list logs
    nothing"""
    log_dir: Path | None = None
    """logs go to tensorboard/, csv/ and so on in this folder; null means output_dir"""
    experiment_name: str | None = None
    """name of the run, added to the time that names its folder of logs"""
    log_frequency: int = 10
    """log losses, rates, speed and memory after the first step and then every so many"""
    log_layers: bool = False
    """log the losses of each decoder layer too"""
    log_images: bool = False
    """log training images as the network sees them, with their boxes, and validation images with what is found"""
    log_images_frequency: int = 100
    """log training images every so many steps; validation images are logged at each evaluation"""
    memory_monitor: bool = False
    """tell and log what memory goes to, and its peak in every epoch"""
