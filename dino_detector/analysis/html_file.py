"""Parts of an HTML file that opens from disk, requests nothing from a network, and runs only its own code."""

from __future__ import annotations

import base64
import hashlib
import io
from importlib import resources
from pathlib import Path

from PIL import Image

from dino_detector.storage.files import write_whole

JPEG_PREFIX = "data:image/jpeg;base64,"


def asset(package: str, name: str) -> str:
    """Return the text of a file in the folder ``assets`` of a package."""
    return resources.files(package).joinpath("assets", name).read_text(encoding="utf-8")


def content_policy(style: str, script: str) -> str:
    """Return the content security policy of a page that may use one style and one script."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def jpeg_url(picture: Image.Image, *, quality: int) -> str:
    """Return a picture as a JPEG data URL."""
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=quality, optimize=True)
    return JPEG_PREFIX + base64.b64encode(content.getvalue()).decode("ascii")


def write_html(path: Path, text: str) -> None:
    """Write a page, whole or not at all; half of a surrogate pair, as in some file names, becomes a question mark."""
    write_whole(path, text.encode("utf-8", errors="replace").decode("utf-8"))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
