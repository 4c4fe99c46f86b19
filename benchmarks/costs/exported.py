"""Compare AP and time of a detector in PyTorch, optimized, and in each export format.

    python -m benchmarks.costs.exported --checkpoint outputs/demo/dino_detector_final.pth \
        --images outputs/demo/data/val --annotations outputs/demo/data/annotations/instances_val.json

Every form runs image by image on one thread. Times are processor times from pixels to detections, which depend little
on other programs.
"""

from __future__ import annotations

import datetime
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.common.command_line import command_parser
from benchmarks.common.machine import processor_name, revision
from dino_detector import Detector, ExportedDetector
from dino_detector.commands.frame import configure_logging, run_command
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.pictures.decoding import read_image
from dino_detector.inference.image_detector import ImageDetector
from dino_detector.structures.detections import coco_results
from dino_detector.structures.metrics import CocoMetrics
from dino_detector.validate import coco_metrics

EXPORTED = {
    "ONNX Runtime": ("detector.onnx", "32"),
    "ONNX Runtime, int8": ("small.onnx", "int8"),
    "OpenVINO": ("detector.xml", "32"),
}
"""file name and precision of each format"""


def main() -> None:
    """Print the table."""
    parser = command_parser("benchmarks.costs.exported", __doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="detector to measure")
    parser.add_argument("--images", type=Path, required=True, help="folder of images")
    parser.add_argument("--annotations", type=Path, required=True, help="COCO JSON of the images")
    options = parser.parse_args()
    configure_logging()
    torch.set_num_threads(1)
    annotations = CocoAnnotations.read(options.annotations)
    print("| | AP | AP50 | processor time per picture | file |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        plain = Detector.load(options.checkpoint, device="cpu")
        metrics, first = measure(plain, options.images, annotations)
        print(row("`Detector`, float32", metrics, 1.0), flush=True)
        metrics, seconds = measure(plain.optimize(precision="bf16"), options.images, annotations)
        print(row("`Detector.optimize()`, bf16", metrics, seconds / first), flush=True)
        for title, (name, precision) in EXPORTED.items():
            path = Path(temporary, name)
            plain.export(path, precision=precision)
            metrics, seconds = measure(ExportedDetector.load(path, threads=1), options.images, annotations)
            files = (path, path.with_suffix(".bin"))  # OpenVINO writes weights to a second file
            size = sum(file.stat().st_size for file in files if file.exists())
            print(row(title, metrics, seconds / first, size), flush=True)
    print(f"\n{processor_name()}, {datetime.date.today():%d %B %Y}, dinov2-od {revision()}")


def measure(detector: ImageDetector, folder: Path, annotations: CocoAnnotations) -> tuple[CocoMetrics, float]:
    """Return metrics, and processor seconds per image."""
    results, seconds = [], 0.0
    for record in annotations.images:
        pixels = read_image(folder / record.file_name)
        before = time.process_time()
        (found,) = detector.detect([pixels])
        seconds += time.process_time() - before
        results += coco_results(record.image_id, found, detector.categories)
    ids = [record.image_id for record in annotations.images]
    return coco_metrics(annotations.ground_truth, results, image_ids=ids), seconds / len(ids)


def row(title: str, metrics: CocoMetrics, time_taken: float, size: int | None = None) -> str:
    """Return a row of the table."""
    megabytes = "" if size is None else f"{size / 1e6:.0f} MB"
    return f"| {title} | {metrics.AP:.3f} | {metrics.AP50:.3f} | {time_taken:.2f} | {megabytes} |"


if __name__ == "__main__":
    sys.exit(run_command(main))
