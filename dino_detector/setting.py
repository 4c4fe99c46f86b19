"""One setting as a user sees it: its flag's value, its help, and what it must be."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dino_detector.config import ImageSize


class Setting(NamedTuple):
    """A field of a settings dataclass.

    Attributes:
        name: of the field, the flag and the YAML key.
        type: without ``None``.
        optional: whether ``None`` is allowed.
        default: ``dataclasses.MISSING`` where a value must be given.
        help: docstring of the field.
    """

    name: str
    type: Any
    optional: bool
    default: Any
    help: str

    @property
    def required(self) -> bool:
        """Whether the user must give a value."""
        return self.default is dataclasses.MISSING

    @property
    def kind(self) -> Any:
        """``list`` for ``list[int]``, ``Literal`` for ``Literal["a", "b"]``, a plain type itself."""
        return typing.get_origin(self.type) or self.type

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a ``Literal``; empty for other types."""
        return typing.get_args(self.type) if self.kind is Literal else ()

    @property
    def wanted(self) -> str:
        """What a value must be, for an error message."""
        if self.choices:
            text = f"one of {', '.join(self.choices)}"
        elif self.kind is list:
            (item,) = typing.get_args(self.type)
            items = {int: "whole numbers", float: "numbers"}.get(item) or ", ".join(typing.get_args(item))
            text = f"a list of {items}, such as {_text(self.default)}"
        else:
            texts = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
            texts |= {ImageSize: "a number of pixels or HEIGHTxWIDTH", dict: 'a mapping, such as {"name": 1}'}
            text = texts[self.kind]
        return f"{text}, or null" if self.optional and self.kind is not Path else text

    @property
    def metavar(self) -> str:
        """What stands for a value in the help."""
        if self.choices:
            return "{" + ",".join(self.choices) + "}"
        names = {bool: "{true,false}", int: "N", float: "X", str: "NAME", Path: "PATH", ImageSize: "SIZE"}
        return (names | {list: "A,B,...", dict: "JSON"})[self.kind]

    @property
    def help_with_default(self) -> str:
        """The help, with the default where it tells something."""
        if self.required or self.default == {} or (self.default is None and self.kind is Path):
            return self.help
        return f"{self.help} (default: {_text(self.default)})"


def settings_of(group: type) -> list[Setting]:
    """The fields of a dataclass whose fields all have a docstring."""
    from docstring_parser import parse_from_object

    documented = {param.arg_name: " ".join(param.description.split()) for param in parse_from_object(group).params}
    hints = typing.get_type_hints(group)
    settings = []
    for item in dataclasses.fields(group):
        hint = hints[item.name]
        alternatives = set(typing.get_args(hint)) if isinstance(hint, types.UnionType) else {hint}
        (kind,) = alternatives - {types.NoneType}
        default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
        settings.append(Setting(item.name, kind, types.NoneType in alternatives, default, documented[item.name]))
    return settings


def title_of(group: type) -> str:
    """First line of a dataclass's docstring, without its full stop."""
    return group.__doc__.splitlines()[0].removesuffix(".")


def _text(value: Any) -> str:
    """A default as the user would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(_text, value))
    if value is None:
        return "null"
    return f"{value:g}" if isinstance(value, float) else str(value)
