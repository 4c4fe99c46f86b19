"""The command ``suggest``: which pictures to label next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dino_detector.commands.frame import command, picture_bar
from dino_detector.config.commands import InferenceSettings
from dino_detector.config.labelling import SuggestSettings
from dino_detector.plain_text import counted, plain
from dino_detector.storage.files import write_whole
from dino_detector.storage.output_folder import locked, make_room

if TYPE_CHECKING:
    from dino_detector.labelling.page import Card
    from dino_detector.labelling.suggestions import Suggestion, Suggestions

LIST, PAGE = "suggested.txt", "suggestions.html"
PRINTED = 10
"""pictures that the command prints"""
DRAWN = 12
"""most boxes in a thumbnail"""


@command(SuggestSettings, InferenceSettings, usage="FOLDER --checkpoint PATH")
def main(settings: SuggestSettings, inference: InferenceSettings) -> None:
    """Choose the pictures of a folder to label next: uncertain ones, no two alike.

    Writes suggested.txt, a path on each line, and suggestions.html, with thumbnails and reasons.
    """
    found = suggest(settings, inference)
    for row in found.rows[:PRINTED]:
        print(f"{plain(row.file, 96)}: {row.reason}")
    if len(found.rows) > PRINTED:
        print("...")
    if found.left_out:
        print(f"{counted(found.left_out, 'picture')} left out, because they have labels already")
    for line in found.unreadable:
        print(f"left out: {line}")
    if len(found.rows) < settings.count:
        print(f"The folder has {counted(len(found.rows), 'picture')} to label that differ from each other")
    chosen = f"{len(found.rows):,} of {counted(found.looked_at, 'picture')}"
    print(f"{chosen} are in {settings.output_dir / LIST}; thumbnails are in {settings.output_dir / PAGE}")


def suggest(settings: SuggestSettings, inference: InferenceSettings) -> Suggestions:
    """Choose the pictures, write the list and the page, and return the pictures."""
    from dino_detector.models.checkpoint import require_checkpoint

    require_checkpoint(settings.checkpoint)
    with locked(settings.output_dir, "suggestions"):
        from dino_detector.labelling import suggestions

        with picture_bar() as advance:
            found = suggestions.suggest(settings, inference, advance=advance)
        make_room(settings.output_dir, [LIST, PAGE])
        write_whole(settings.output_dir / LIST, "".join(f"{row.file}\n" for row in found.rows))
        _write_page(settings.output_dir / PAGE, found.rows, settings, looked_at=found.looked_at)
    return found


def _write_page(path: Path, rows: tuple[Suggestion, ...], settings: SuggestSettings, *, looked_at: int) -> None:
    from dino_detector.labelling.page import write_page

    write_page(
        path,
        title=f"Pictures of {settings.folder.name or settings.folder} to label next",
        lead=[
            f"{len(rows):,} of {counted(looked_at, 'picture')}, in the order in which they were chosen. The detector "
            "is uncertain about them, and no two of them are alike.",
            f"The blue boxes are the objects with a score nearest to one half, {DRAWN} at most.",
        ],
        filters={"class": sorted({name for row in rows for name, _, _ in row.uncertain})},
        cards=[_card(number, row, settings.folder) for number, row in enumerate(rows, start=1)],
    )


def _card(number: int, row: Suggestion, folder: Path) -> Card:
    from dino_detector.labelling.page import Card, picture_with_boxes

    inside = row.file.is_relative_to(folder)
    return Card(
        title=f"{number}",
        lines=row.reason.split("; "),
        caption=row.file.relative_to(folder).as_posix() if inside else row.file.name,
        filters={"class": "\t".join(dict.fromkeys(name for name, _, _ in row.uncertain))},
        picture=picture_with_boxes(row.file, [box for _, _, box in row.uncertain[:DRAWN]]),
    )
