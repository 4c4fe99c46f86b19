"""Tables as HTML for notebooks; every text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dino_detector.plain_text import plain

MOST_ROWS = 100
"""rows of a table that a notebook shows"""


def html_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table with a row of headings, or without one if ``head`` is empty; long tables end in a count."""
    heading = "".join(f'<th style="text-align:left">{escape(plain(cell))}</th>' for cell in head)
    lines = [f"<tr>{heading}</tr>"] if head else []
    for row in rows[:MOST_ROWS]:
        cells = "".join(f'<td style="text-align:left">{escape(plain(cell, 200))}</td>' for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    if len(rows) > MOST_ROWS:
        lines.append(f"<tr><td>and {len(rows) - MOST_ROWS:,} more</td></tr>")
    return f"<table>{''.join(lines)}</table>"


def html_block(title: str, *parts: str) -> str:
    """Return parts in HTML below a title, which is text."""
    return f"<div><b>{escape(plain(title, 200))}</b>{''.join(parts)}</div>"
