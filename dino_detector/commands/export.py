"""The command ``export``: a detector as a file for ONNX Runtime or OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence

from dino_detector.commands.arguments import parse_settings
from dino_detector.commands.frame import configure_logging, run_command
from dino_detector.config.commands import ExportSettings


def main(argv: Sequence[str], *, prog: str = "dino-detector export") -> int:
    """Export a detector, and print inputs and outputs of the file.

    Args:
        argv: the command line without the command.
        prog: the command as the user types it.
    """

    def command() -> None:
        values, _ = parse_settings(
            [ExportSettings],
            argv,
            prog=prog,
            description="Write a detector as a file that ONNX Runtime or OpenVINO runs, without PyTorch and the base "
            "model, and check that it detects the same.",
            usage="--checkpoint PATH",
        )
        configure_logging()
        _export(ExportSettings(**values))

    return run_command(command)


def _export(settings: ExportSettings) -> None:
    from dino_detector.inference.detector import Detector
    from dino_detector.inference.export import require_exportable
    from dino_detector.inference.exported_detector import OUTPUTS

    asked = {"batch_size": settings.batch_size, "precision": settings.precision}
    require_exportable(settings.output, **asked)
    detector = Detector.load(settings.checkpoint, device="cpu", dino_model=settings.dino_model)
    detector.export(settings.output, **asked)
    height, width = detector.config.data.image_size
    weights = settings.output.with_suffix(".bin")  # OpenVINO has them in a file of their own
    files = [settings.output, *([weights] if settings.output.suffix == ".xml" else [])]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    rounded = ", up to the rounding to int8" if settings.precision == "int8" else ""
    print(
        f"{settings.output}: {megabytes:.0f} MB, detects what {settings.checkpoint} detects{rounded}. Takes images, "
        f"uint8 RGB {[settings.batch_size, 3, height, width]}, and gives {', '.join(OUTPUTS[:-1])} and {OUTPUTS[-1]}"
    )
