"""Plain text for people: counts, names that may hold anything, and tables and lines for a terminal."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Sequence

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
    text = "".join("?" if unicodedata.category(character).startswith("C") else character for character in str(value))
    while columns(text) > longest:
        text = text[: min(len(text) - 4, longest - 3)].rstrip(".") + "..."
    return text


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


def listed(ids: Sequence[object], shown: int = SHOWN) -> str:
    """The first ids, and whether there are more."""
    return ", ".join([plain(one) for one in ids[:shown]] + (["..."] if len(ids) > shown else []))


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
