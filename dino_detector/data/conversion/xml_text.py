"""Text in XML files."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""characters that XML 1.0 lacks: https://www.w3.org/TR/xml/#charsets"""


def xml_name(name: str) -> str:
    """Return the name of a class that a reader of XML gives back: without control characters and outer blanks."""
    return NOT_XML.sub("?", name).strip()


def text(value: str) -> str:
    """Return the text of an element."""
    return escape(value, {"\r": "&#13;"})


def quoted(value: str) -> str:
    """Return the value of an attribute, with its quotes."""
    return quoteattr(value)
