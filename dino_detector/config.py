"""Every setting of the toolkit, as dataclasses whose field names are the command-line flags and the YAML keys.

A name means one setting everywhere: `--num_queries 50`, `num_queries: 50` in a YAML file, `num_queries` in a
checkpoint and ``DecoderConfig(num_queries=50)``. Each default lives here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple

from dino_detector.errors import InputError, nearest


class ImageSize(NamedTuple):
    """Height and width of the network's input, in pixels."""

    height: int
    width: int

    @classmethod
    def parse(cls, value: int | str | ImageSize | list[int] | tuple[int, ...]) -> ImageSize:
        """``518`` and ``"518"`` are square; ``"504x896"`` and ``[504, 896]`` are height x width."""
        if isinstance(value, (list, tuple)):
            numbers = [str(number) for number in value]
        else:
            numbers = re.split("[xX]", str(value).strip())
        if len(numbers) not in (1, 2) or not all(re.fullmatch("[1-9][0-9]*", number) for number in numbers):
            raise InputError(f"image_size {value!r} is neither a number of pixels (518) nor HEIGHTxWIDTH (504x896)")
        return cls(int(numbers[0]), int(numbers[-1]))

    def __str__(self) -> str:
        return str(self.height) if self.height == self.width else f"{self.height}x{self.width}"


@dataclass(frozen=True)
class DataConfig:
    """Images and annotations, and how an image becomes the network's input."""

    train_images: Path | None = None
    """folder of the training images"""
    train_annotations: Path | None = None
    """COCO detection JSON of the training images"""
    val_images: Path | None = None
    """folder of the validation images"""
    val_annotations: Path | None = None
    """COCO detection JSON of the validation images"""
    image_size: ImageSize = ImageSize(518, 518)
    """input size in pixels, a number or HEIGHTxWIDTH, each a multiple of the backbone's patch (14)"""
    resize_mode: Literal["stretch", "letterbox"] = "stretch"
    """stretch the image to the input size, or keep its aspect ratio and pad"""
    augmentation: bool = True
    """random photometric distortion, zoom-out, crop, flip and scale jitter in training"""
    num_workers: int = 2
    """processes that load images; 0 loads in the training process"""


@dataclass(frozen=True)
class BackboneConfig:
    """The DINOv2 backbone and which part of it trains."""

    dino_model: str = "facebook/dinov2-base"
    """Hugging Face name or local folder of a DINOv2 model, with or without registers"""
    backbone_weights: Literal["pretrained", "random"] = "pretrained"
    """random builds the architecture untrained"""
    backbone_architecture: dict[str, Any] = field(default_factory=dict)
    """with random weights, settings of transformers' Dinov2Config that replace those of dino_model, as JSON or YAML,
    such as {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3}"""
    train_backbone: Literal["lora", "full", "none"] = "lora"
    """lora trains low-rank adapters, full trains every weight, none trains nothing of the backbone"""
    lora_rank: int = 16
    """rank r of the adapters"""
    lora_alpha: float = 16.0
    """adapters are scaled by lora_alpha / lora_rank"""
    lora_dropout: float = 0.0
    """dropout on the input of the adapters"""
    lora_targets: list[Literal["query", "key", "value", "output", "mlp"]] = field(
        default_factory=lambda: ["query", "value"]
    )
    """projections of a layer that get adapters; mlp means all its linear layers"""
    lora_layers: int | None = 6
    """adapt the last so many layers; null adapts all. Layers below run without gradient"""
    feature_layers: list[int] = field(default_factory=lambda: [-1])
    """backbone layers whose outputs the neck reads, counted from 0; -1 is the last"""


@dataclass(frozen=True)
class DecoderConfig:
    """The neck, the DETR-like decoder and its heads."""

    num_queries: int = 100
    """object queries, the most boxes found in one image"""
    decoder_layers: int = 6
    """decoder layers, each of which refines the boxes"""
    hidden_dim: int = 256
    """width of the neck and the decoder"""
    num_heads: int = 8
    """attention heads; must divide hidden_dim"""
    feedforward_dim: int = 1024
    """width of the feed-forward network in a decoder layer"""
    decoder_dropout: float = 0.0
    """dropout in the decoder layers"""
    use_deformable: bool = True
    """deformable attention; false attends to every position, with sine position encodings on the keys"""
    n_points: int = 4
    """sampling points of deformable attention per head and feature level"""
    feature_scales: list[float] = field(default_factory=lambda: [2.0, 1.0, 0.5])
    """feature levels, as multiples of the patch grid: powers of two from 0.25 to 4"""
    box_head_dim: int = 256
    """width of the 3-layer box head"""


@dataclass(frozen=True)
class MatchingConfig:
    """Costs of the Hungarian matching between queries and ground truth."""

    set_cost_class: float = 2.0
    """weight of the classification cost"""
    set_cost_bbox: float = 5.0
    """weight of the L1 distance of the boxes"""
    set_cost_giou: float = 2.0
    """weight of the generalized IoU"""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses, and the focal loss."""

    loss_weight_class: float = 2.0
    """weight of the focal classification loss"""
    loss_weight_bbox: float = 5.0
    """weight of the L1 box loss"""
    loss_weight_giou: float = 2.0
    """weight of the generalized IoU loss"""
    focal_alpha: float = 0.25
    """weight of positives in the focal loss, in matching too"""
    focal_gamma: float = 2.0
    """focusing exponent of the focal loss, in matching too"""


@dataclass(frozen=True)
class TrainingConfig:
    """The run: length, optimizer, device and files."""

    output_dir: Path = Path("outputs")
    """folder for checkpoints, metrics and logs"""
    checkpoint: Path | None = None
    """checkpoint to resume from, or to evaluate"""
    only_evaluate: bool = False
    """evaluate the checkpoint on the validation images and stop"""
    lightweight: bool = False
    """the lightweight preset: dinov2-small with adapters on its last layers, 25 queries, 2 decoder layers. Settings
    given explicitly win over the preset"""
    epochs: int = 50
    """passes over the training images"""
    batch_size: int = 8
    """images in a step, per process"""
    accumulate_batches: int = 1
    """batches whose gradients are summed before an optimizer step"""
    learning_rate: float = 2e-4
    """peak learning rate of the neck, the decoder and the heads"""
    backbone_learning_rate: float | None = None
    """peak learning rate of the trained part of the backbone; null means learning_rate, and a tenth of it where
    pretrained weights are trained in full"""
    weight_decay: float = 1e-4
    """weight decay of AdamW on matrices; biases, norms, queries and embeddings have none"""
    warmup_fraction: float = 0.05
    """share of the steps in which the learning rate rises to its peak; after it, it falls along a cosine"""
    gradient_clip: float = 0.1
    """largest norm of the gradient; 0 does not clip"""
    ema_decay: float = 0.999
    """decay of the exponential moving average of the weights, which is evaluated and saved; 0 turns it off"""
    val_frequency: int = 5
    """evaluate and write a checkpoint every so many epochs, and after the last"""
    seed: int = 42
    """seed of the weights, the order of the images and the augmentation"""
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    """number format of the computation; auto is bf16 on a GPU that has it and 32 elsewhere"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps"""


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    @classmethod
    def from_flat(cls, settings: dict[str, Any]) -> Config:
        """Build from setting names, as a checkpoint or YAML file has them.

        Raises:
            InputError: for a name that is no setting (the nearest is suggested) or a value out of range.
        """
        owner = {name: (group.name, hint) for group in dataclasses.fields(cls) for name, hint in _hints(group).items()}
        chosen: dict[str, dict[str, Any]] = {group.name: {} for group in dataclasses.fields(cls)}
        for name, value in settings.items():
            if name not in owner:
                raise InputError(f"unknown setting {name!r}{nearest(name, owner)}")
            group, hint = owner[name]
            chosen[group][name] = _converted(name, value, hint)
        config = cls(**{group.name: group.default_factory(**chosen[group.name]) for group in dataclasses.fields(cls)})
        config.validate()
        return config

    def flat(self) -> dict[str, Any]:
        """Every setting by name, in plain Python types that YAML, JSON and ``torch.load(weights_only=True)`` read."""
        settings: dict[str, Any] = {}
        for group in dataclasses.fields(self):
            values = getattr(self, group.name)
            settings |= {item.name: getattr(values, item.name) for item in dataclasses.fields(values)}
        plain = {Path: str, ImageSize: str, type(Path()): str}
        return {name: plain.get(type(value), lambda same: same)(value) for name, value in settings.items()}

    def replace(self, **settings: Any) -> Config:
        """A copy with other values for some settings, by their flat names."""
        return Config.from_flat(self.flat() | settings)

    def validate(self) -> None:
        """Raise `InputError` for the first setting that is out of range."""
        settings = self.flat()

        def require(holds: bool, name: str, wanted: str) -> None:
            if not holds:
                raise InputError(f"{name} must be {wanted}, not {settings[name]!r}")

        for name in ("num_queries", "decoder_layers", "hidden_dim", "num_heads", "feedforward_dim", "n_points"):
            require(settings[name] >= 1, name, "at least 1")
        for name in ("box_head_dim", "lora_rank", "epochs", "batch_size", "accumulate_batches", "val_frequency"):
            require(settings[name] >= 1, name, "at least 1")
        for name in ("set_cost_class", "set_cost_bbox", "set_cost_giou", "focal_gamma", "weight_decay"):
            require(settings[name] >= 0, name, "at least 0")
        for name in ("loss_weight_class", "loss_weight_bbox", "loss_weight_giou", "gradient_clip", "num_workers"):
            require(settings[name] >= 0, name, "at least 0")
        for name in ("lora_dropout", "decoder_dropout", "warmup_fraction", "ema_decay"):
            require(0 <= settings[name] < 1, name, "at least 0 and below 1")
        require(settings["seed"] >= 0, "seed", "at least 0")
        require(settings["learning_rate"] > 0, "learning_rate", "above 0")
        require(settings["lora_alpha"] > 0, "lora_alpha", "above 0")
        require(0 < settings["focal_alpha"] < 1, "focal_alpha", "between 0 and 1")
        require(settings["lora_layers"] is None or settings["lora_layers"] >= 1, "lora_layers", "at least 1, or null")
        require(
            settings["backbone_learning_rate"] is None or settings["backbone_learning_rate"] > 0,
            "backbone_learning_rate",
            "above 0, or null",
        )
        require(len(settings["lora_targets"]) > 0, "lora_targets", "at least one projection")
        require(len(settings["feature_layers"]) > 0, "feature_layers", "at least one layer")
        scales = settings["feature_scales"]
        require(
            len(scales) > 0 and all(scale in (0.25, 0.5, 1, 2, 4) for scale in scales),
            "feature_scales",
            "a list of 0.25, 0.5, 1, 2 or 4",
        )
        decoder = self.decoder
        require(
            decoder.hidden_dim % decoder.num_heads == 0, "hidden_dim", f"a multiple of num_heads ({decoder.num_heads})"
        )
        require(decoder.hidden_dim % 4 == 0, "hidden_dim", "a multiple of 4, for sine encodings of two axes")
        require(
            self.backbone.backbone_weights == "random" or not self.backbone.backbone_architecture,
            "backbone_architecture",
            "left out unless backbone_weights is random",
        )


def _hints(group: dataclasses.Field) -> dict[str, Any]:
    return typing.get_type_hints(group.default_factory)


def _converted(name: str, value: Any, hint: Any) -> Any:
    """The value in the type of its setting: paths and sizes may be given as text, whole numbers for any number."""
    kinds = typing.get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if hint is ImageSize:
        return ImageSize.parse(value)
    if Path in kinds and isinstance(value, str):
        return Path(value)
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise InputError(f"{name} must be one of {', '.join(choices)}, not {value!r}{nearest(str(value), choices)}")
        return value
    if float in kinds and type(value) is int:
        return float(value)
    plain = tuple(typing.get_origin(kind) or kind for kind in kinds)
    if not isinstance(value, plain) or (isinstance(value, bool) and bool not in plain):
        wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in plain)
        raise InputError(f"{name} must be of type {wanted}, not {value!r}")
    return value


LIGHTWEIGHT: dict[str, Any] = {
    "dino_model": "facebook/dinov2-small",
    "lora_rank": 8,
    "lora_alpha": 8.0,
    "lora_layers": 2,
    "num_queries": 25,
    "decoder_layers": 2,
    "hidden_dim": 192,
    "num_heads": 6,
    "feedforward_dim": 384,
    "n_points": 2,
    "feature_scales": [1.0],
    "box_head_dim": 96,
}
"""The lightweight preset, by setting name; it replaces defaults, and explicit settings win over it."""


@dataclass(frozen=True)
class PredictSettings:
    """What to detect in, with what, and where the results go."""

    image_or_folder: Path
    """a picture, or a folder whose pictures are read in the order of their names"""
    _: KW_ONLY
    checkpoint: Path
    """any checkpoint that training wrote"""
    output_dir: Path = Path("outputs/predictions")
    """folder for the pictures with boxes and predictions.json"""
    threshold: float = 0.5
    """lowest score of a box that is drawn and counted, 0 to 1; predictions.json has the best 100 of each picture"""
    batch_size: int = 8
    """pictures that run at once"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps"""
    dino_model: str | None = None
    """name or folder of the base model, where it is not the one the checkpoint names"""


@dataclass(frozen=True)
class DemoSettings:
    """Where the results go."""

    output_dir: Path = Path("outputs/demo")
    """folder for the data set, the checkpoints, the metrics and the pictures"""
