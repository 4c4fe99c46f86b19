"""A report as one HTML file, which opens from disk, requests nothing from a network, and runs only its own code.

The most important facts are HTML (:mod:`dino_detector.analysis.report.essentials`). The scripts in ``assets/`` draw the
rest from the payload, which is in the page as JSON.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

from dino_detector.analysis.report.essentials import essentials
from dino_detector.analysis.wording import AXES, for_script
from dino_detector.storage.files import write_whole

STYLES = ("palette.css", "layout.css", "controls.css", "charts.css", "pictures.css", "media.css")
"""in the order in which they join to one style; later rules win"""

SCRIPTS = (
    *("elements.js", "numbers.js", "mistakes.js", "tables.js", "charts.js", "errors.js", "boxes.js", "viewer.js"),
    *("gallery.js", "curves.js", "confusion.js", "calibration.js", "comparison.js", "main.js"),
)
"""in the order in which they join to one script"""

UNSAFE = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
"""JSON escapes of characters that could end a script element or a line of a script"""


def write_report(payload: dict[str, Any], path: Path) -> None:
    """Write the page of a payload to ``path``, whole or not at all, and make the folder.

    Markup in names of classes and files is shown as text.

    Raises:
        ValueError: a number of the payload is not finite, which JSON can't express.
    """
    write_whole(path, page(payload))


def page(payload: dict[str, Any]) -> str:
    """Return the HTML of a payload; see :func:`write_report`."""
    style = "\n".join(map(_asset, STYLES))
    code = "\n".join(map(_asset, SCRIPTS))
    script = f'(() => {{\n"use strict";\nconst WORDS = {embedded(for_script())};\n{code}\n}})();'
    parts = {
        "policy": (
            f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "base-uri 'none'; form-action 'none'"
        ),
        "style": style,
        "script": script,
        "payload": embedded(payload),
        **essentials(payload),
        **{f"axis_{name}": html.escape(text) for name, text in AXES.items()},
    }
    # One pass, so that a placeholder in a title is not replaced.
    whole = re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _asset("page.html"))
    return whole.encode("utf-8", errors="replace").decode("utf-8")  # a file name may have half a surrogate pair


def embedded(payload: dict[str, Any]) -> str:
    """Return JSON in which no text can end the script element."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda character: UNSAFE[character[0]], text)


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
