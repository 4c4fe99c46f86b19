"""The command ``predict``: detections of a detector in a picture or a folder of pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count, tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_detector.arguments import parse_settings
from dino_detector.command import configure_logging, importing_libraries, run_command
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
        folders = _folders(settings)
        made = [folder for folder in dict.fromkeys((*folders, settings.output_dir)) if not folder.exists()]
        try:
            pictures = _check(settings, folders)
            configure_logging()
            _predict(settings, tiling, pictures, folders)
        finally:
            for folder in made:
                with suppress(OSError):  # it has results in it
                    folder.rmdir()

    return run_command(command)


def _tiling(values: dict[str, Any]) -> TilingConfig:
    try:
        return TilingConfig(**values)
    except InputError as error:
        raise InputError(f"--{error}") from None


def _folders(settings: PredictSettings) -> list[Path]:
    """Where the results of each checkpoint go: of several, to folders named by what tells their paths apart."""
    checkpoints = [path.resolve() for path in settings.checkpoint]
    if len(checkpoints) < 2:
        return [settings.output_dir]
    for path, times in Counter(checkpoints).items():
        if times > 1:
            raise InputError(f"--checkpoint has {settings.checkpoint[checkpoints.index(path)]} twice; give it once")
    if all(path.suffix == ".pth" for path in checkpoints):
        checkpoints = [path.with_suffix("") for path in checkpoints]
    by_length = (["_".join(path.parts[-length:]) for path in checkpoints] for length in count(1))
    names = next(names for names in by_length if len(set(names)) == len(names))
    return [settings.output_dir / name for name in names]


def _check(settings: PredictSettings, folders: Sequence[Path]) -> list[Path]:
    """The pictures, once all that can be known to be wrong has been looked for."""
    if not 0 <= settings.threshold <= 1:
        raise InputError(f"--threshold must be between 0 and 1, not {settings.threshold}")
    if settings.batch_size < 1:
        raise InputError(f"--batch_size must be at least 1, not {settings.batch_size}")
    pictures = find_pictures(settings.image_or_folder)
    for folder in folders:
        if folder.resolve() == pictures[0].parent.resolve():
            raise InputError(f"{folder}: is where the pictures are, and they would be overwritten; change --output_dir")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made a folder ({error.strerror}); change --output_dir") from error
    return pictures


def _predict(settings: PredictSettings, tiling: TilingConfig, pictures: list[Path], folders: list[Path]) -> None:
    with importing_libraries():
        from dino_detector.models.detector_group import DetectorGroup
        from dino_detector.validate import MAX_DETECTIONS, coco_results, write_results

    group = DetectorGroup(settings.checkpoint, device=settings.device, dino_model=settings.dino_model)
    group.optimize(precision=settings.precision)
    first = group.detectors[0]
    print(
        f"{counted(len(pictures), 'picture')} in {settings.image_or_folder}; on {first.device}, precision "
        f"{first.inference_precision}"
    )
    results: list[list[dict[str, Any]]] = [[] for _ in folders]
    broken: list[str] = []
    # The detectors take pictures from the second as they need them; those that are not answered wait in the first.
    readable, to_detect = tee(_readable(pictures, broken))
    images = (image for _, _, image in to_detect)
    found = group.detect_each(images, tiling=tiling, batch_size=settings.batch_size)
    for of_picture, (number, path, image) in zip(found, readable, strict=True):
        for detections, detector, folder, rows in zip(of_picture, group.detectors, folders, results, strict=True):
            shown = detections.above(settings.threshold)
            _draw(path, image, shown, detector, folder)
            counts = Counter(shown.labels.tolist())
            listed = ", ".join(f"{counts[label]} {detector.categories.name(label)}" for label in sorted(counts))
            print(f"{(folder / path.name).relative_to(settings.output_dir)}: {listed or 'nothing'}")
            written = detections.best(max(MAX_DETECTIONS, len(shown.scores)))
            rows += [{**row, "file_name": path.name} for row in coco_results(number, written, detector.categories)]
    for folder, rows in zip(folders, results, strict=True):
        write_results(folder / RESULTS, rows)
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


def _draw(path: Path, image: Tensor, shown: ImageDetections, detector: Detector, folder: Path) -> None:
    """Write a picture with its boxes to a folder."""
    from torchvision.transforms.v2.functional import to_pil_image

    from dino_detector.analysis.pictures import draw_detections

    picture = draw_detections(
        to_pil_image(image),
        shown.to_supervision(detector.categories),
        categories=detector.categories,
        scores=True,
    )
    known = path.suffix.lower() in EXTENSIONS
    picture.save(folder / (path.name if known else f"{path.name}.png"))
