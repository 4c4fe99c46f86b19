"""The command ``label``: pre-labels for pictures without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dino_detector.commands.frame import command, picture_bar
from dino_detector.config.commands import InferenceSettings
from dino_detector.config.labelling import LabelSettings
from dino_detector.plain_text import counted, plain

if TYPE_CHECKING:
    from dino_detector.labelling.prelabels import PreLabels


@command(LabelSettings, InferenceSettings, usage="DATA_OR_FOLDER --checkpoint PATH --to TOOL")
def main(settings: LabelSettings, inference: InferenceSettings) -> None:
    """Write pre-labels for pictures without labels, as files that a labelling tool imports.

    It keeps boxes that score at least the best threshold of their class. The boxes go to a new folder, and no file of
    the data changes.
    """
    made = label(settings, inference)
    limits = ", ".join(f"{plain(name)} {value:g}" for name, value in made.thresholds.items())
    print(f"Thresholds: {limits} ({made.origin})")
    for line in made.unreadable:
        print(f"left out: {line}")
    for note in made.notes:
        print(f"note: {note}")
    if made.labelled:
        print(f"{counted(made.labelled, 'picture')} left out, because they have labels already")
    boxes = ", ".join(f"{count:,} {plain(name)}" for name, count in made.boxes.items())
    print(f"{made.output}: {counted(made.pictures, 'picture')} for {settings.to}, with {boxes}")


def label(settings: LabelSettings, inference: InferenceSettings) -> PreLabels:
    """Write the pre-labels, and return what was written."""
    from dino_detector.models.checkpoint import require_checkpoint

    require_checkpoint(settings.checkpoint)
    from dino_detector.labelling import prelabels

    with picture_bar() as advance:
        return prelabels.label(settings, inference, advance=advance)
