"""Text for people: counts, names with any characters, and tables and lines for a terminal."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from dino_detector.terminal import encodable

WIDTH = 96
"""most columns of a line"""
LONGEST = 64
"""most columns of a name or an id"""
SHOWN = 3
"""ids that `listed` shows"""
CONTROL = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of control and format characters, surrogates and separators of lines and paragraphs"""


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return ``1 image`` or ``1,200 images``; the plural adds an s unless ``many`` is given."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def plain(value: object, longest: int = LONGEST) -> str:
    """Return a name or an id on one line, without control characters, in at most ``longest`` columns."""
    text = printable(re.sub(r"\s", " ", str(value)))
    while columns(text) > longest:
        text = text[: min(len(text) - 4, longest - 3)].rstrip(".") + "..."
    return text


def printable(value: object) -> str:
    """Return text with a question mark for each character that could control a terminal.

    These are control characters except the line feed, and format characters except joiners (as in emoji).
    """
    return "".join(
        "?" if character not in "\n\u200c\u200d" and unicodedata.category(character) in CONTROL else character
        for character in str(value)
    )


def quoted(value: object, longest: int = LONGEST) -> str:
    """Return a value as Python writes it, which shows spaces and control characters, cut to ``longest`` characters."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of over 4,300 digits
        text = "a number of thousands of digits"
    except RecursionError:
        text = "a value that is nested too deeply"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def short_path(path: str | Path) -> str:
    """Return the last two parts of an absolute path, for a page that others will see, or a relative path unchanged."""
    return "/".join(Path(path).parts[-2:]) if Path(path).is_absolute() else str(path)


def relative_name(name: str) -> str:
    """Return a file name without the folders of an absolute path, or a relative name unchanged."""
    return Path(name).name if Path(name).is_absolute() else name


def columns(text: str) -> int:
    """Return the columns of a text in a terminal: two for a wide East Asian character, none for a combining one."""
    return sum(
        1 + (unicodedata.east_asian_width(character) in ("W", "F"))
        for character in text
        if not unicodedata.combining(character) and unicodedata.category(character) not in ("Mn", "Me", "Cf")
    )


def table(rows: Sequence[Sequence[str]], *, rules: Sequence[int] = (), least: tuple[int, int] = (0, 0)) -> list[str]:
    """Return the lines of a table: the first column is left-aligned, and the others are right-aligned.

    Args:
        rows: cells, equally many in each row.
        rules: numbers of the rows that follow a rule, from 0.
        least: least width of the first column, and of each other column, in columns of the terminal.
    """
    rows = [[encodable(cell) for cell in row] for row in rows]
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
    """Return the first ids, separated by commas, with ``...`` where more follow."""
    return ", ".join([plain(one, longest) for one in ids[:shown]] + (["..."] if len(ids) > shown else []))


def wrapped(text: str, *, first: str = "", then: str = "") -> list[str]:
    """Wrap text to lines of 96 columns; the first begins with ``first``, the others with ``then``."""
    whole = text.replace(" %", "\0%")  # a number keeps its per cent sign
    lines = textwrap.wrap(
        whole, WIDTH, initial_indent=first, subsequent_indent=then, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace("\0%", " %") for line in lines]


def percent(share: float) -> str:
    """Return a fraction in per cent with one decimal; only an exact 0 or 1 is shown as 0.0 % or 100.0 %."""
    if 0 < share < 0.001:
        return "<0.1 %"
    return ">99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"
