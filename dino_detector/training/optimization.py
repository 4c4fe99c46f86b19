"""AdamW with rates for the layers of the backbone and one for the rest."""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW

from dino_detector.config import Config
from dino_detector.inference.detector import Detector
from dino_detector.models.dinov2_backbone import Dinov2Backbone


def build_optimizer(detector: Detector, config: Config) -> AdamW:
    """AdamW over the weights that train; matrices decay, vectors, queries and embeddings do not.

    Where rates decay by layers, each layer has groups of its own, named by the layer.
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
                part, share = _part_of_backbone(name.removeprefix("backbone."), detector.backbone, layer_decay)
                peak = backbone_peak * share
            groups.setdefault((part, peak, id(parameter) in decays), []).append(parameter)
    # One kernel in place of a dozen for each weight; in 16 it would unscale gradients after they are clipped.
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
    )  # a run that goes on in another precision would keep the kernel of the former
    return optimizer


def _part_of_backbone(name: str, backbone: Dinov2Backbone, layer_decay: float) -> tuple[str, float]:
    """What a parameter's group is called, and its share of the backbone's rate.

    As in BEiT (https://arxiv.org/abs/2106.08254) and ViTDet (https://arxiv.org/abs/2203.16527), layer l of d, counted
    from 0, has layer_decay ** (d - l); the embeddings count as layer -1, and the norm above the layers as layer d.
    """
    if layer_decay == 1:
        return "backbone", 1.0
    layer = backbone.layer_of(name)
    part = {-1: "embeddings", backbone.depth: "norm"}.get(layer, f"layer_{layer}")
    return f"backbone_{part}", layer_decay ** (backbone.depth - layer)
