"""Fonts with the characters of class names in any script."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

import matplotlib
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font

log = logging.getLogger(__name__)


def font_path(text: str) -> Path:
    """Return a font file with every character of the text: matplotlib's DejaVu Sans, or an installed font.

    Pillow's own font has little more than ASCII. DejaVu Sans has most alphabets, but no Chinese, Japanese or Korean.
    If no installed font has all characters, a warning is logged once, and DejaVu Sans shows boxes for the others.
    """
    return _font_path(frozenset(ord(character) for character in text if not character.isspace()))


@lru_cache(maxsize=256)
def _font_path(characters: frozenset[int]) -> Path:
    standard = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    upright = {Path(entry.fname) for entry in fontManager.ttflist if entry.style == "normal" and entry.weight == 400}
    for path in (standard, *sorted(upright)):
        # LastResort has a numbered box for every character.
        if characters <= _characters_of(path) and not path.name.startswith("LastResort"):
            return path
    missing = "".join(chr(character) for character in sorted(characters - _characters_of(standard)))
    log.warning("no installed font has %s; install one, for example Noto Sans CJK, to see it in pictures", missing)
    return standard


@lru_cache(maxsize=1024)
def _characters_of(path: Path) -> frozenset[int]:
    return frozenset(FT2Font(str(path)).get_charmap())
