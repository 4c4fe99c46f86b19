"""The command ``predict``: detections of a detector in a picture or a folder of pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_detector.arguments import parse_settings
from dino_detector.command import configure_logging, run_command
from dino_detector.config import PredictSettings, TilingConfig
from dino_detector.data.picture_files import EXTENSIONS, find_pictures
from dino_detector.errors import InputError
from dino_detector.plain_text import counted

if TYPE_CHECKING:
    from torch import Tensor

    from dino_detector.detections import ImageDetections
    from dino_detector.models.detector import Detector

RESULTS = "predictions.json"


def main(argv: Sequence[str], *, prog: str = "dino-detector predict") -> int:
    """Write a picture with boxes for each picture, and all detections in COCO's results format.

    Args:
        argv: the command line without the command.
        prog: the command as the user types it.
    """

    def command() -> None:
        values, _ = parse_settings(
            [PredictSettings, TilingConfig],
            argv,
            prog=prog,
            description="Detect objects in a picture or a folder of pictures. Writes each picture with its boxes, and "
            f"{RESULTS} in the COCO results format with the file name of each detection's picture.",
            usage="IMAGE_OR_FOLDER --checkpoint PATH",
        )
        tiling = _tiling({name: values.pop(name) for name in TilingConfig.__dataclass_fields__})
        settings = PredictSettings(**values)
        pictures = _check(settings)
        configure_logging()
        _predict(settings, tiling, pictures)

    return run_command(command)


def _tiling(values: dict[str, Any]) -> TilingConfig:
    try:
        return TilingConfig(**values)
    except InputError as error:
        raise InputError(f"--{error}") from None


def _check(settings: PredictSettings) -> list[Path]:
    """The pictures, once all that can be known to be wrong has been looked for."""
    if not 0 <= settings.threshold <= 1:
        raise InputError(f"--threshold must be between 0 and 1, not {settings.threshold}")
    if settings.batch_size < 1:
        raise InputError(f"--batch_size must be at least 1, not {settings.batch_size}")
    pictures = find_pictures(settings.image_or_folder)
    output_dir = settings.output_dir
    if output_dir.resolve() == pictures[0].parent.resolve():
        raise InputError(f"{output_dir}: is where the pictures are, and they would be overwritten; change --output_dir")
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output_dir}: cannot be made a folder ({error.strerror}); change --output_dir") from error
    return pictures


def _predict(settings: PredictSettings, tiling: TilingConfig, pictures: list[Path]) -> None:
    from dino_detector.models.detector import Detector
    from dino_detector.validate import write_results

    detector = Detector.load(settings.checkpoint, device=settings.device, dino_model=settings.dino_model)
    print(f"{counted(len(pictures), 'picture')} in {settings.image_or_folder}")
    results: list[dict[str, Any]] = []
    broken: list[str] = []
    # The detector takes pictures from the second as it needs them; those that it has not answered wait in the first.
    readable, to_detect = tee(_readable(pictures, broken))
    images = (image for _, _, image in to_detect)
    found = detector.detect_each(images, tiling=tiling, batch_size=settings.batch_size)
    for detections, (number, path, image) in zip(found, readable, strict=True):
        rows = _write(number, path, image, detections, detector, settings)
        results += [{**row, "file_name": path.name} for row in rows]
    write_results(settings.output_dir / RESULTS, results)
    print(f"Pictures with boxes and all detections, {RESULTS}, are in {settings.output_dir}")
    if broken:
        others = f"; {len(broken) - 1} more could not be read" if len(broken) > 1 else ""
        raise InputError(f"{broken[0]}{others}; the results of the other pictures are complete")


def _readable(pictures: Sequence[Path], broken: list[str]) -> Iterator[tuple[int, Path, Tensor]]:
    """Number, path and pixels ``[3, H, W]`` of each picture that can be read; for others the reason is appended."""
    from dino_detector.data.images import read_image

    for number, path in enumerate(pictures, start=1):
        try:
            yield number, path, read_image(path)
        except InputError as error:
            broken.append(str(error))


def _write(
    number: int, path: Path, image: Tensor, detections: ImageDetections, detector: Detector, settings: PredictSettings
) -> list[dict[str, Any]]:
    """Write and report a picture; returns its COCO results."""
    from torchvision.transforms.v2.functional import to_pil_image

    from dino_detector.analysis.pictures import draw_detections
    from dino_detector.validate import MAX_DETECTIONS, coco_results

    shown = detections.above(settings.threshold)
    picture = draw_detections(
        to_pil_image(image),
        shown.to_supervision(detector.categories),
        categories=detector.categories,
        scores=True,
    )
    known = path.suffix.lower() in EXTENSIONS
    picture.save(settings.output_dir / (path.name if known else f"{path.name}.png"))
    counts = Counter(shown.labels.tolist())
    listed = ", ".join(f"{counts[label]} {detector.categories.name(label)}" for label in sorted(counts))
    print(f"{path.name}: {listed or 'nothing'}")
    written = detections.best(max(MAX_DETECTIONS, len(shown.scores)))
    return coco_results(number, written, detector.categories)
