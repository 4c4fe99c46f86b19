"""The network: images to predictions through trunk, tail, neck and decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from dino_detector.config import DecoderConfig
from dino_detector.models.detr_decoder import DetrDecoder
from dino_detector.models.dinov2_backbone import Dinov2Backbone, Tokens
from dino_detector.models.neck import Neck
from dino_detector.structures.predictions import DecoderOutput
from dino_detector.structures.targets import Targets


class DetectorNetwork(nn.Module):
    """DINOv2 backbone, neck and decoder of C classes.

    ``mean`` and ``std`` are of each RGB channel in the backbone's pretraining, for pixels in 0..1.
    """

    def __init__(
        self,
        backbone: Dinov2Backbone,
        config: DecoderConfig,
        *,
        num_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = Neck(
            in_channels=backbone.hidden_size,
            num_features=len(backbone.feature_layers),
            hidden_dim=config.hidden_dim,
            scales=config.feature_scales,
            blocks=config.neck_blocks,
        )
        self.decoder = DetrDecoder(config, num_classes=num_classes)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1) * 255, persistent=False)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.mean.device

    def forward(self, pixel_values: Tensor, targets: Targets | None = None) -> DecoderOutput:
        """Predict boxes and classes in each decoder layer.

        Args:
            pixel_values: normalised images ``[B, 3, H, W]``.
            targets: ground truth for denoising queries; needed in training alone.
        """
        return self.decode(self.backbone.trunk(pixel_values), targets)

    def decode(self, tokens: Tokens, targets: Targets | None = None) -> DecoderOutput:
        """Predict from the trunk's tokens; otherwise equal to `forward`."""
        return self.decoder(self.neck(self.backbone.tail(tokens)), targets)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return uint8 RGB ``[B, 3, H, W]`` normalised with the mean and deviation of the backbone's pretraining."""
        return (pixels.float() - self.mean) / self.std

    def train(self, mode: bool = True) -> Self:
        """Set training mode; training takes merged adapters out of the base weights again."""
        if mode:
            self.backbone.unmerge_adapters()
        return super().train(mode)

    def merge(self) -> Self:
        """Set evaluation mode and merge the adapters into the base weights: the same detections without their cost."""
        self.eval()
        self.backbone.merge_adapters()
        return self
