"""Pretrain a small backbone in DINOv2's format on generated scenes of shapes.

    python -m tools.pretrain_demo_backbone --output outputs/demo_backbone

Draws scenes, trains a detector of 32 shapes from random weights, and writes the backbone in half precision and in the
format of transformers, for ``--dino_model``. With the default options it wrote the package's ``dinov2-demo``; training
took 52 minutes on two CPU cores, which had some other work.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from transformers import BitImageProcessor

from dino_detector.commands.demo import SMALL_DECODER
from dino_detector.commands.frame import configure_logging, run_command
from dino_detector.config import Config
from dino_detector.data.demo_set import DemoFiles
from dino_detector.inference.detector import Detector
from dino_detector.training.fit import fit
from tools.pretrain_demo_backbone.scenes import write_scenes

SIDE = 112
"""side of the input, in pixels"""


def pretraining(files: DemoFiles, output_dir: Path, *, epochs: int) -> Config:
    """Return the settings of the training; the shallow decoder leaves recognition to the backbone."""
    return Config.from_flat(
        files._asdict()
        | SMALL_DECODER
        | {
            "output_dir": output_dir,
            "epochs": epochs,
            "val_frequency": 1,
            "backbone_weights": "random",
            "backbone_architecture": {
                "hidden_size": 192,
                "num_hidden_layers": 6,
                "num_attention_heads": 3,
                "image_size": SIDE,
            },
            "train_backbone": "full",
            "layer_decay": 1.0,
            "image_size": SIDE,
            "num_queries": 50,
            "denoising_queries": 50,
            "learning_rate": 4e-4,
            "num_workers": 0,
        }
    )


def export(detector: Detector, folder: Path) -> None:
    """Write the backbone in half precision, for transformers and for the toolkit."""
    model = detector.backbone.model.to(torch.float16)
    model.config.use_mask_token = False  # only DINOv2's own pretraining needs the token
    model.save_pretrained(folder)
    header = detector.header
    BitImageProcessor(image_mean=header.mean, image_std=header.std).save_pretrained(folder)


def main() -> None:
    """Draw scenes, train, and export the backbone."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.pretrain_demo_backbone",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for scenes, run and backbone")
    parser.add_argument("--scenes_train", type=int, default=20_000, help="number of training scenes (default: 20000)")
    parser.add_argument("--epochs", type=int, default=4, help="number of epochs (default: 4)")
    parser.add_argument("--scenes_val", type=int, default=500, help="number of validation scenes (default: 500)")
    options = parser.parse_args()
    configure_logging()
    files = write_scenes(options.output / "scenes", train_images=options.scenes_train, val_images=options.scenes_val)
    fit(pretraining(files, options.output / "run", epochs=options.epochs))
    detector = Detector.load(options.output / "run" / "dino_detector_best.pth", device="cpu")
    export(detector, options.output / "backbone")


if __name__ == "__main__":
    sys.exit(run_command(main))
