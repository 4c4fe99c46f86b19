"""The command ``recommend``: chooses settings for a data set and this machine."""

from __future__ import annotations

import shlex
from pathlib import Path

from dino_detector.commands.frame import command
from dino_detector.config.commands import RecommendSettings
from dino_detector.errors import InputError
from dino_detector.storage.files import write_whole
from dino_detector.storage.output_folder import move_aside


@command(RecommendSettings, usage="DATA")
def main(settings: RecommendSettings) -> None:
    """Choose settings for a data set and this machine, and write them with their reasons as a settings file.

    The choices rest on the data check: box sizes against the patch grid, objects in an image, shapes of the pictures,
    balance of the classes, number of images. The machine counts too: device, memory, cores, free disk. No picture is
    decoded, and no file of the data set is changed.
    """
    _require_free(settings.output)
    from dino_detector.data_check.recommendation import recommend

    result = recommend(settings.data, device=settings.device)
    print(result)
    path = settings.output
    if path.exists() and path.read_bytes() != result.yaml.encode():
        move_aside([path], path.parent)  # the user may have changed it
    write_whole(path, result.yaml)
    train = f"dino-detector train --config {shlex.quote(str(path))}"
    print(f"\n{path} holds these settings with their reasons. Train with:\n\n  {train}")


def _require_free(path: Path) -> None:
    """Raise `InputError` if the output is a folder, or a file that no recommendation wrote."""
    from dino_detector.data_check.recommendation import FIRST_LINE

    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a file as --output")
    if path.exists() and not path.read_bytes().startswith(FIRST_LINE.encode()):
        raise InputError(f"{path}: is no file of an earlier recommend and would be replaced; give another --output")
