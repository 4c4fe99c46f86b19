"""The command ``convert``: writes a data set in the format of another labelling tool."""

from __future__ import annotations

from dino_detector.commands.frame import command
from dino_detector.config.commands import ConvertSettings


@command(ConvertSettings, usage="DATA --to FORMAT OUTPUT")
def main(settings: ConvertSettings) -> None:
    """Write a data set in the format of another labelling tool, with its splits, and list what the format can't hold.

    The output is a complete data set with pictures. Its conversion.txt names everything that was lost or changed.
    """
    from dino_detector.data.conversion.conversion import RECORD, convert

    result = convert(settings.data, to=settings.to, output=settings.output, pictures=settings.pictures)
    print(result.text())
    if any(len(note.items) > 3 for note in result.notes):
        print(f"{result.output / RECORD} lists every name and id.")
