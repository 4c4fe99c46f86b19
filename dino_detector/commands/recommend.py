"""The command ``recommend``: settings of a training for a data set and this machine."""

from __future__ import annotations

import sys

from dino_detector.commands.frame import command
from dino_detector.config.commands import RecommendSettings
from dino_detector.errors import InputError
from dino_detector.storage.files import write_whole
from dino_detector.terminal import with_headings


@command(RecommendSettings, usage="DATA")
def main(settings: RecommendSettings) -> None:
    """Recommend model, image size, feature levels, queries, epochs and batch for a data set and this machine.

    Each setting has its reason: the sizes of the boxes against the patch, the objects of an image, the number of
    images, the memory. The settings are written as a YAML file for train --config. It changes no file of the data set.
    """
    if settings.output.exists():
        raise InputError(f"{settings.output}: exists and would be replaced; move it, or give another --output")
    from dino_detector.data_check.recommendation import recommend

    found = recommend(settings.data, device=settings.device)
    print(f"{found.data} on {found.machine}\n")
    print(with_headings(repr(found), sys.stdout))
    write_whole(settings.output, found.yaml_text())
    print(f"\nThe settings are in {settings.output}. Train with them:")
    print(f"  dino-detector train {found.data} --config {settings.output}")
