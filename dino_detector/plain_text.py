"""Plain text for people: counts, names that may hold anything, and tables and lines for a terminal."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

WIDTH = 96
"""columns of a line at most"""
LONGEST = 64
"""columns of a name or an id at most"""
SHOWN = 3
"""ids that are listed"""


def counted(count: int, one: str, many: str | None = None) -> str:
    """``1 image``, ``1,200 images``; the plural has an s unless it is given."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def plain(value: object, longest: int = LONGEST) -> str:
    """A name or an id on one line without control characters, and not too long."""
    text = printable(re.sub(r"\s", " ", str(value)))
    while columns(text) > longest:
        text = text[: min(len(text) - 4, longest - 3)].rstrip(".") + "..."
    return text


def printable(value: object) -> str:
    """Text that a terminal can show: whatever would move its cursor or change its colours is a question mark.

    These are control characters but for the line feed, and format characters but for those that join emoji.
    """
    return "".join("?" if _is_control(character) else character for character in str(value))


def _is_control(character: str) -> bool:
    if character.isprintable() or character in "\n\u200c\u200d":
        return False
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def quoted(value: object, longest: int = LONGEST) -> str:
    """A value of a file in a message: as Python writes it, so that spaces and controls show, and not too long."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of over 4,300 digits
        text = "a number of thousands of digits"
    except RecursionError:
        text = "a value that is nested too deeply"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def short_path(path: str | Path) -> str:
    """The last two parts of an absolute path, for a page that is sent to others."""
    return "/".join(Path(path).parts[-2:]) if Path(path).is_absolute() else str(path)


def relative_name(name: str) -> str:
    """The name of an image's file; of an absolute one the last part alone."""
    return Path(name).name if Path(name).is_absolute() else name


def columns(text: str) -> int:
    """The columns a terminal gives to the text: two for a wide East Asian character, none for a combining one."""
    return sum(_columns_of(character) for character in text)


def _columns_of(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def table(rows: Sequence[Sequence[str]], *, rules: Sequence[int] = (), least: tuple[int, int] = (0, 0)) -> list[str]:
    """Rows as lines: the first column to the left, the others to the right.

    Args:
        rows: cells, equally many in each row.
        rules: numbers of the rows that have a rule before them.
        least: columns of the terminal that the first column, and each of the others, has at least.
    """
    widths = [max(least[position > 0], *(columns(row[position]) for row in rows)) for position in range(len(rows[0]))]
    lines = []
    for number, (first, *others) in enumerate(rows):
        if number in rules:
            lines.append("-" * (sum(widths) + 2 * len(others)))
        cells = [first + " " * (widths[0] - columns(first))]
        cells += [" " * (width - columns(cell)) + cell for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def listed(ids: Sequence[object], shown: int = SHOWN, *, longest: int = LONGEST) -> str:
    """The first ids, and whether there are more."""
    return ", ".join([plain(one, longest) for one in ids[:shown]] + (["..."] if len(ids) > shown else []))


def wrapped(text: str, *, first: str = "", then: str = "") -> list[str]:
    """Text over several lines, the first of which begins with ``first`` and the others with ``then``."""
    whole = text.replace(" %", "\0%")  # a number keeps its per cent sign
    lines = textwrap.wrap(
        whole, WIDTH, initial_indent=first, subsequent_indent=then, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace("\0%", " %") for line in lines]


def percent(share: float) -> str:
    """A share with one decimal; what is not quite none or all does not look like it."""
    if 0 < share < 0.001:
        return "<0.1 %"
    return ">99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"


def joined(parts: Iterable[str]) -> str:
    """Those that are not empty, with commas."""
    return ", ".join(part for part in parts if part)
