"""Parses the XML files of labelling tools."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from dino_detector.errors import InputError


def read_xml(path: Path, kind: str) -> ElementTree.Element:
    """Return the root of an XML file; raise `InputError` if the file can't be parsed, or its root is no ``kind``."""
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; correct the list that names it, or write the file") from None
    except (OSError, ElementTree.ParseError, LookupError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as XML ({error}); correct the file") from error
    if root.tag != kind:
        raise InputError(f"{path}: begins with <{root.tag[:40]}>, not <{kind}>; give another file")
    return root
