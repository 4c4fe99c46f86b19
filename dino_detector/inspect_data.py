"""What is in a data set, and what is wrong with it: ``dino-detector data``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from dino_detector.arguments import parse_settings
from dino_detector.command import configure_logging, run_command
from dino_detector.config import DataCheckSettings
from dino_detector.errors import InputError


def main(argv: Sequence[str] | None = None, *, prog: str = "dino-detector data") -> int:
    """Check the data that ``argv``, or the command line of the process, names; returns the exit code.

    Findings are no error: the code is 0 wherever the data could be read.
    """

    def command() -> None:
        values, _ = parse_settings(
            [DataCheckSettings],
            sys.argv[1:] if argv is None else argv,
            prog=prog,
            description="Check a data set before training: counts, box sizes against the patch grid, class balance, "
            "duplicates, leakage between train and val, and the usual mistakes in COCO files. Ends with the three "
            "things most worth fixing. Nothing is changed.",
            usage="DIR_OR_JSON",
        )
        settings = DataCheckSettings(**values)
        _require(settings)
        configure_logging()
        _check(settings)

    return run_command(command)


def _require(settings: DataCheckSettings) -> None:
    if not settings.dir_or_json.exists():
        raise InputError(f"{settings.dir_or_json}: no such folder or annotation file; correct the path")
    if settings.val_annotations is not None and not settings.val_annotations.is_file():
        raise InputError(f"{settings.val_annotations}: no such annotation file; correct --val_annotations")
    if settings.num_queries < 1:
        raise InputError(f"--num_queries must be at least 1, not {settings.num_queries}")
    from dino_detector.inspection.patches import PATCH

    if any(side % PATCH for side in settings.image_size):
        raise InputError(f"--image_size {settings.image_size} is not a multiple of the patch of {PATCH} pixels")


def _check(settings: DataCheckSettings) -> None:
    from dino_detector.inspection.check import check
    from dino_detector.inspection.summary import summary

    checked = check(settings, progress=_progress)
    print(summary(checked))
    if settings.output is not None:
        checked.write(settings.output)
        print(f"\nEvery finding with all its ids is in {settings.output}")


def _progress(images: int) -> Callable[[], None]:
    """A bar on a terminal while images are opened."""
    from tqdm import tqdm

    if images >= 2_000:
        print(f"Opening {images:,} images; --skip_images leaves that out", flush=True)
    bar = tqdm(total=images, unit=" images", disable=not sys.stderr.isatty(), leave=False)

    def advance() -> None:
        bar.update()
        if bar.n == images:
            bar.close()

    return advance


if __name__ == "__main__":
    sys.exit(main())
