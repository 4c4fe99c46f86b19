"""The command ``label``: pre-labels for pictures without labels."""

from __future__ import annotations

import sys

from dino_detector.commands.frame import command
from dino_detector.config.labelling import LabelSettings
from dino_detector.plain_text import counted, plain


@command(LabelSettings, usage="DATA_OR_FOLDER --checkpoint PATH --to TOOL")
def main(settings: LabelSettings) -> None:
    """Write pre-labels for pictures without labels, in what a labelling tool imports.

    A box has at least the best threshold of its class. The boxes go to a new folder, and no file of the data changes.
    """
    from tqdm import tqdm

    from dino_detector.models.checkpoint import require_checkpoint

    require_checkpoint(settings.checkpoint)
    from dino_detector.labelling.prelabels import label

    given = {name: value for name, value in vars(settings).items() if name != "data_or_folder"}
    with tqdm(unit=" pictures", disable=None, leave=False, file=sys.stderr) as bar:

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        made = label(settings.data_or_folder, **given, advance=advance)
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
