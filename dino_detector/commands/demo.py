"""The command ``demo``: generates a data set, trains on it, evaluates and draws, in a few minutes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_detector.commands.frame import command
from dino_detector.config import Config
from dino_detector.config.commands import DemoSettings
from dino_detector.storage.output_folder import locked
from dino_detector.terminal import with_headings

if TYPE_CHECKING:
    from dino_detector.data.demo_set import DemoFiles
    from dino_detector.inference.detector import Detector

PICTURES = 8
SCORE = 0.4
SMALL_DECODER: dict[str, Any] = {
    "decoder_layers": 2,
    "hidden_dim": 128,
    "num_heads": 4,
    "feedforward_dim": 256,
    "box_head_dim": 128,
    "feature_scales": [2.0, 1.0],
}
"""settings of a neck and a decoder for pictures of few patches"""
DEMO_BACKBONE = "dinov2-demo"
"""the small model in the package; it was pretrained on other shapes than the demo set has"""


@command(DemoSettings)
def main(settings: DemoSettings) -> None:
    """Generate a small data set, train a small detector on it, evaluate it and draw what it finds.

    The frozen backbone of the detector comes with the package and gets LoRA adapters. The demo takes two to five
    minutes on two CPU cores and needs no network.
    """
    with locked(settings.output_dir, "demo"):
        _demo(settings.output_dir)


def _demo(output_dir: Path) -> None:
    from dino_detector.analysis.tables import metrics_table
    from dino_detector.data.demo_set import write_demo_set
    from dino_detector.inference.detector import Detector
    from dino_detector.training.fit import fit

    started = time.monotonic()
    print(f"1/4  generating the demo data set in {output_dir / 'data'}", flush=True)
    files = write_demo_set(output_dir / "data")
    config = demo_config(files, output_dir)
    epochs = config.training.epochs
    print(f"2/4  training adapters and a decoder on the frozen backbone {DEMO_BACKBONE}, {epochs} epochs", flush=True)
    metrics = fit(config)
    print(f"3/4  COCO metrics on the {metrics.num_images} validation images\n", flush=True)
    print(with_headings(metrics_table(metrics), sys.stdout))
    checkpoint = output_dir / "dino_detector_final.pth"
    print("\n4/4  drawing predictions beside ground truth", flush=True)
    picture = output_dir / "predictions.png"
    draw_grid(Detector.load(checkpoint, device="cpu"), files, picture)

    size = checkpoint.stat().st_size / 2**20
    newest_metrics = output_dir / f"val_metrics_epoch_{epochs}.json"
    print(f"""
Done in {time.monotonic() - started:.0f} s: AP {metrics.AP:.3f}, AP50 {metrics.AP50:.3f}.

  checkpoint    {checkpoint} ({size:.1f} MiB with the training state)
  metrics       {newest_metrics}
  pictures      {picture}
  TensorBoard   tensorboard --logdir {output_dir / "tensorboard"}

Try next:
  dino-detector analyze --metrics_file {newest_metrics}
  dino-detector predict {files.val_images} --checkpoint {checkpoint}
  dino-detector train --help
  dino-detector train DATA      (a folder from any labelling tool)""")


def demo_config(files: DemoFiles, output_dir: Path) -> Config:
    """Return settings that learn the demo set within minutes on two CPU cores."""
    settings = {
        "output_dir": output_dir,
        "device": "cpu",
        "dino_model": DEMO_BACKBONE,
        "image_size": 112,
        "num_workers": 0,
        "num_queries": 40,
        "denoising_queries": 40,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "epochs": 20,
        "val_frequency": 10,
    }
    return Config.from_flat(files._asdict() | SMALL_DECODER | settings)


def draw_grid(detector: Detector, files: DemoFiles, path: Path) -> None:
    """Write a picture of the first validation images with ground truth beside predictions."""
    from dino_detector.analysis.drawing import Comparison, prediction_grid
    from dino_detector.data.coco.annotations import CocoAnnotations
    from dino_detector.data.pictures.decoding import read_image
    from dino_detector.data.pictures.finding import save_picture
    from dino_detector.structures.detections import supervision_detections

    annotations = CocoAnnotations.read(files.val_annotations)
    records = list(annotations.images)[:PICTURES]
    images = [read_image(files.val_images / record.file_name) for record in records]
    comparisons = []
    for record, image, found in zip(records, images, detector.predict(images, threshold=SCORE), strict=True):
        boxes, labels = annotations.training_boxes(record.image_id)
        truth = supervision_detections(boxes, labels, categories=annotations.categories)
        comparisons.append(Comparison(image, truth, found, record.file_name))
    save_picture(prediction_grid(comparisons, categories=annotations.categories, min_score=SCORE), path)
