"""Colours of a terminal, text that its encoding can show, and progress bars in terminals and notebooks.

tqdm draws the bars. rich is not a dependency of this package, so the three styles are escape codes.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.util import find_spec
from typing import Any, Literal, TextIO

CODES = {"bold": "1", "red": "31", "yellow": "33"}
Style = Literal["bold", "red", "yellow"]


def is_live(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that can move its cursor: no file, no pipe, and not ``TERM=dumb``."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def in_notebook() -> bool:
    """Return whether the code runs in a notebook, which can show HTML."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def bars() -> type[Any]:
    """Return tqdm's class of progress bars: a widget in a notebook with ipywidgets, and a line of text elsewhere.

    `tqdm.auto` warns in a notebook without ipywidgets.
    """
    if in_notebook() and find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm
    else:
        from tqdm import tqdm
    return tqdm


def has_colours(stream: TextIO) -> bool:
    """Return whether to write escape codes of colours to a stream.

    ``NO_COLOR`` turns colours off (https://no-color.org), and ``FORCE_COLOR`` turns them on where the stream is no
    terminal.
    """
    if os.environ.get("NO_COLOR"):
        return False
    return os.environ.get("FORCE_COLOR", "0") not in ("", "0") or is_live(stream)


def styled(text: str, style: Style, stream: TextIO) -> str:
    """Return text in a style where the stream has colours, and unchanged elsewhere."""
    return f"\033[{CODES[style]}m{text}\033[0m" if text and has_colours(stream) else text


def with_headings(text: str, stream: TextIO) -> str:
    """Return text whose blocks of several lines have a bold first line; empty lines separate the blocks."""
    if not has_colours(stream):
        return text
    return re.sub(r"(?m)(?:\A|(?<=\n\n))(.+)$(?=\n.)", lambda match: styled(match[1], "bold", stream), text)


def encodable(text: str) -> str:
    """Return text with an escape such as ``\\xe9`` for each character that stdout's encoding lacks.

    Tables measure their columns after this step, so that they stay aligned where stdout is not UTF-8.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
