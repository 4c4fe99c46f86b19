"""The command ``export``: a detector as a file for ONNX Runtime or OpenVINO."""

from __future__ import annotations

from dino_detector.commands.frame import command
from dino_detector.config import ImageSize
from dino_detector.config.commands import ExportSettings


@command(ExportSettings, usage="--checkpoint PATH")
def main(settings: ExportSettings) -> None:
    """Write a detector as a file that ONNX Runtime or OpenVINO runs, without PyTorch and the base model.

    The command runs the file on a batch of noise, and writes nothing if its scores differ from the detector's by more
    than 0.001. The rounding to int8 follows this check.
    """
    from dino_detector.inference.exported_detector import OUTPUTS

    height, width = export(settings)
    weights = settings.output.with_suffix(".bin")  # OpenVINO has them in a file of their own
    files = [settings.output, *([weights] if settings.output.suffix == ".xml" else [])]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    rounded = ", up to the rounding to int8" if settings.precision == "int8" else ""
    print(
        f"{settings.output}: {megabytes:.0f} MB, detects what {settings.checkpoint} detects{rounded}. Takes images, "
        f"uint8 RGB {[settings.batch_size, 3, height, width]}, and gives {', '.join(OUTPUTS[:-1])} and {OUTPUTS[-1]}"
    )


def export(settings: ExportSettings) -> ImageSize:
    """Write the file of the settings, and return the size of its images; raise `InputError` if that is impossible."""
    from dino_detector.inference.detector import Detector
    from dino_detector.inference.export import require_exportable

    asked = {"batch_size": settings.batch_size, "precision": settings.precision}
    require_exportable(settings.output, **asked)
    detector = Detector.load(settings.checkpoint, device="cpu", dino_model=settings.dino_model)
    detector.export(settings.output, **asked)
    return detector.config.data.image_size
