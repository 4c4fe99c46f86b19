"""Settings of a run: losses, optimizer, evaluation, processes, logs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dino_detector.config.setting import ImageSize, Range, convert, setting, settings_of

MAX_DETECTIONS = 100
"""detections per image and class that COCO's metrics count"""
TRAINED = ("train_backbone", "lora", "full")
ADDRESS = Range(
    "env:// or tcp://HOST:PORT, such as tcp://127.0.0.1:29500", re.compile(r"env://|tcp://[^/:]+:\d{1,5}").fullmatch
)
FOLDER_NAME = Range(
    "letters, digits, spaces and . _ + - only, since it names a folder", re.compile(r"[\w.+ -]*").fullmatch
)


@dataclass(frozen=True)
class MatchingConfig:
    """Costs of the Hungarian matching between queries and ground truth."""

    set_cost_class: float = setting(2.0, at_least=0)
    """weight of the classification cost"""
    set_cost_bbox: float = setting(5.0, at_least=0)
    """weight of the L1 distance of the boxes"""
    set_cost_giou: float = setting(2.0, at_least=0)
    """weight of the generalized IoU"""
    set_cost_quality: float = setting(0.0, at_least=0)
    """exponent q of the overlap in the classification cost: scores are multiplied by ((1 + GIoU) / 2) ** q, so that the
    better placed of two queries with equal scores is matched; 0 ignores the overlap"""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses, and the targets of the scores."""

    classification_loss: Literal["focal", "varifocal", "iou_aware", "matchability_aware"] = "focal"
    """focal trains matched queries towards a score of 1; the other losses train the score to predict the box quality"""
    loss_weight_class: float = setting(2.0, at_least=0)
    """weight of the classification loss"""
    loss_weight_bbox: float = setting(5.0, at_least=0)
    """weight of the L1 box loss"""
    loss_weight_giou: float = setting(2.0, at_least=0)
    """weight of the generalized IoU loss"""
    focal_alpha: float = setting(0.25, above=0, below=1)
    """weight of positives in the focal loss and in the classification cost of the matching"""
    focal_gamma: float = setting(2.0, Range("0, or at least 1", lambda gamma: gamma == 0 or gamma >= 1))
    """focusing exponent of the focal loss and of the classification cost; between 0 and 1 the gradient is unbounded"""


@dataclass(frozen=True)
class TrainingConfig:
    """The run: length, optimizer, device and files."""

    output_dir: Path = Path("outputs")
    """folder for checkpoints, metrics and logs"""
    checkpoint: Path | None = None
    """checkpoint to resume or to evaluate; if it has no training state, training starts from its weights"""
    skip_checkpoint_load: bool = setting(False, effective_with="checkpoint")
    """ignore the checkpoint and train from scratch"""
    only_evaluate: bool = False
    """evaluate the checkpoint on the validation images, detect in the test images, and stop"""
    lightweight: bool = False
    """preset: dinov2-small, adapters on its last layers, 25 queries, 2 decoder layers; explicit settings win over it"""
    epochs: int = setting(50, at_least=1)
    """passes over the training images"""
    batch_size: int = setting(4, at_least=1)
    """images per step and process"""
    accumulate_batches: int = setting(1, at_least=1)
    """batches whose gradients are averaged before an optimizer step"""
    learning_rate: float = setting(2e-4, above=0)
    """peak learning rate of the neck, the decoder and the heads"""
    backbone_learning_rate: float | None = setting(None, above=0, effective_with=TRAINED)
    """peak learning rate of the backbone; null: learning_rate, or a tenth of it if pretrained weights train in full"""
    layer_decay: float | None = setting(None, above=0, at_most=1, effective_with=TRAINED)
    """layer-wise decay of the backbone's learning rate: the rate of layer l of d, counted from 0, is multiplied by
    layer_decay ** (d - l), and the rate of the embeddings by layer_decay ** (d + 1); 1 turns it off. null means 0.8
    where the backbone trains in full, and 1 for adapters"""
    weight_decay: float = setting(1e-4, at_least=0)
    """weight decay of AdamW on matrices; biases, norms, queries and embeddings have none"""
    warmup_fraction: float = setting(0.05, at_least=0, below=1)
    """fraction of the steps, at the beginning, in which the learning rate rises to its peak"""
    schedule: Literal["cosine", "flat_cosine", "wsd"] = "flat_cosine"
    """learning rate after the warm-up: cosine falls at once; flat_cosine is constant and falls at the end; wsd
    (warm-up, stable, decay) is constant too, then falls as 1 - sqrt(progress): fast at first, slowly at the end"""
    cooldown_fraction: float | None = None
    """fraction of the steps, at the end, in which the learning rate falls; null: 0.5 for flat_cosine, 0.2 for wsd"""
    gradient_clip: float = setting(0.1, at_least=0)
    """largest norm of the gradient; 0 turns clipping off"""
    ema_decay: float = setting(0.999, at_least=0, below=1)
    """decay of the exponential moving average of the weights, which is evaluated and saved; 0 turns it off"""
    ema_warmup: int = setting(10, at_least=0, effective_with="ema_decay")
    """warm-up of ema_decay: after n steps the decay is at most (1 + n) / (ema_warmup + n); 0 turns the warm-up off"""
    val_frequency: int = setting(5, at_least=1)
    """epochs between evaluations; each evaluation writes a checkpoint, and the last epoch is always evaluated"""
    early_stopping_patience: int = setting(0, at_least=0)
    """stop after this number of evaluations in a row without a better AP; 0 trains all epochs"""
    early_stopping_min_delta: float = setting(0.0, at_least=0, below=1, effective_with="early_stopping_patience")
    """smallest increase over the best AP that counts as better, 0 to 1"""
    seed: int = setting(42, at_least=0, below=2**32)
    """seed of the weights, the order of the images and the augmentation"""
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    """number format of the computation; auto is bf16 on a CUDA device or an x86 CPU with instructions for it, and 32
    elsewhere. In an evaluation, auto is the precision of the checkpoint if its training was given one"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps"""


@dataclass(frozen=True)
class EvaluationConfig:
    """Detections that the metrics count."""

    max_detections: int = setting(MAX_DETECTIONS, at_least=MAX_DETECTIONS)
    """detections per image and class that the metrics count, at least COCO's 100; raise it where images have more
    objects of a class. With 300, AR100 is called AR300"""


@dataclass(frozen=True)
class TilingConfig:
    """Detection in overlapping tiles, for small objects in large images; training uses whole images."""

    tile_size: ImageSize | None = None
    """detect in tiles of this size besides the whole image, in pixels of the image, a number or HEIGHTxWIDTH; each tile
    is resized to the input size of the network. An image that fits in one tile is not divided"""
    tile_overlap: float = setting(0.2, at_least=0, below=1, effective_with="tile_size")
    """fraction of a tile's side that overlaps the next tile; a small object should fit in the overlap"""

    def __post_init__(self) -> None:
        convert(vars(self), settings_of(TilingConfig))


@dataclass(frozen=True)
class DistributedConfig:
    """Several processes on one machine."""

    distributed: bool = False
    """train and evaluate in several processes, which this one command starts"""
    world_size: int | None = setting(None, at_least=1, effective_with="distributed")
    """number of processes; null means one for each GPU, or 2 on a CPU"""
    dist_url: str = setting("env://", ADDRESS, effective_with="distributed")
    """address where the processes meet: tcp://HOST:PORT, or env:// for a free port of this machine"""


@dataclass(frozen=True)
class LoggingConfig:
    """Logs of a run."""

    logger: list[Literal["tensorboard", "csv", "wandb", "mlflow"]] = setting(["tensorboard"])
    """loggers; wandb and mlflow need their own packages, and an empty list logs nothing"""
    log_dir: Path | None = setting(None, effective_with="logger")
    """folder of the logs, which go to its subfolders tensorboard/, csv/ and so on; null means output_dir"""
    experiment_name: str | None = setting(None, FOLDER_NAME, effective_with="logger")
    """name of the run; the folder of its logs is named by the time and this name"""
    log_frequency: int = setting(10, at_least=1)
    """steps between logs of losses, rates, speed and memory; the first step is logged too"""
    log_layers: bool = setting(False, effective_with="logger")
    """log the losses of each decoder layer too"""
    log_images: bool = False
    """log training images with their boxes, in the form that the network gets, and validation images with detections"""
    log_images_frequency: int = setting(100, at_least=1, effective_with="log_images")
    """steps between logs of training images; each evaluation logs validation images"""
    memory_monitor: bool = False
    """print and log the memory that each part takes, and the peak of each epoch"""
