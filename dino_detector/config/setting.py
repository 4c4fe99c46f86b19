"""Settings: dataclass fields with a type, a default, a range and the setting that they depend on.

The string below a field is its help on the command line::

    epochs: int = setting(50, at_least=1)
    \"\"\"passes over the training images\"\"\"
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import re
import sys
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple

from dino_detector.errors import SettingError, did_you_mean

BOUNDS = {"at_least": operator.ge, "above": operator.gt, "at_most": operator.le, "below": operator.lt}


class ImageSize(NamedTuple):
    """Height and width in pixels, of the network's input or of a tile."""

    height: int
    width: int

    @classmethod
    def parse(cls, value: object, name: str = "image_size") -> ImageSize:
        """Parse ``518`` or ``"518"`` as a square, and ``"504x896"`` or ``[504, 896]`` as height x width.

        Raises:
            SettingError: the value of the setting ``name`` has another form.
        """
        numbers = [*map(str, value)] if isinstance(value, (list, tuple)) else re.split("[xX]", str(value).strip())
        if len(numbers) not in (1, 2) or not all(re.fullmatch("[1-9][0-9]*", number) for number in numbers):
            raise SettingError(name, f"{value!r} is neither a number of pixels (518) nor HEIGHTxWIDTH (504x896)")
        return cls(int(numbers[0]), int(numbers[-1]))

    def __str__(self) -> str:
        return str(self.height) if self.height == self.width else f"{self.height}x{self.width}"


TYPE_NAMES = {
    **{int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"},
    **{list: "a list, such as [2,1]", dict: 'a mapping, such as {"name": 1}'},
}


class Range(NamedTuple):
    """The values that a setting may have, in words and as a test."""

    wanted: str
    holds: Callable[[Any], object]


def setting(
    default: Any,
    allowed: Range | None = None,
    *,
    effective_with: str | tuple[str, ...] = (),
    positional: bool = False,
    **bounds: float,
) -> Any:
    """Declare a setting as the field of a dataclass.

    Args:
        default: the default value; every object gets its own copy of a list or dict.
        allowed: the range, if bounds cannot express it.
        effective_with: the setting that must be on for this one to have an effect, such as ``"debug"``; values behind
            it restrict it to these values, such as ``("train_backbone", "lora")``.
        positional: the command line takes the value without a flag, like a field without a default.
        bounds: the range by ``at_least`` or ``above``, and ``at_most`` or ``below``.
    """
    if bounds:
        words = " and ".join(f"{bound.replace('_', ' ')} {value}" for bound, value in bounds.items())
        if list(bounds) == ["at_least", "at_most"]:
            words = f"between {bounds['at_least']} and {bounds['at_most']}"
        allowed = Range(words, lambda value: all(BOUNDS[bound](value, limit) for bound, limit in bounds.items()))
    needed = (effective_with,) if isinstance(effective_with, str) else effective_with
    metadata = {"allowed": allowed, "effective_with": needed, "positional": positional}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class Setting(NamedTuple):
    """A field of a dataclass, its type without ``None``, and whether ``None`` is a value."""

    field: dataclasses.Field
    kind: Any
    nullable: bool

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.field.default is self.field.default_factory is dataclasses.MISSING

    @property
    def positional(self) -> bool:
        """Whether the command line takes the value without a flag."""
        return self.field.metadata.get("positional", False) or (self.required and not self.field.kw_only)

    def default(self) -> Any:
        """Return the default value; a list or dict is a new one at each call."""
        has_factory = self.field.default_factory is not dataclasses.MISSING
        return self.field.default_factory() if has_factory else self.field.default

    def convert(self, value: Any) -> Any:
        """Return a value in the type of the setting; raise `SettingError` for another type or a value out of range."""
        if value is None and self.nullable:
            return None
        name, allowed = self.field.name, self.field.metadata.get("allowed")
        converted = _converted(name, value, self.kind, " or null" if self.nullable else "")
        if allowed is not None and not allowed.holds(converted):
            or_null = ", or null" if self.nullable else ""
            raise SettingError(name, f"must be {allowed.wanted}{or_null}, not {converted!r}")
        return converted


@functools.cache
def settings_of(*groups: type) -> Mapping[str, Setting]:
    """Return the settings of dataclasses by name."""
    settings = {}
    for group in groups:
        hints = typing.get_type_hints(group)
        for field in dataclasses.fields(group):
            hint = hints[field.name]
            kinds = typing.get_args(hint) if isinstance(hint, UnionType) else (hint,)
            settings[field.name] = Setting(field, kinds[0], NoneType in kinds)
    return settings


def convert(values: Mapping[str, Any], known: Mapping[str, Setting]) -> dict[str, Any]:
    """Return values by name, which have the types of YAML, in the types of their settings.

    Raises:
        SettingError: a name is not ``known``, or a value has another type or is out of range.
    """
    for name in values:
        if name not in known:
            raise SettingError(name, f"is no setting{did_you_mean(name, known)}")
    return {name: known[name].convert(value) for name, value in values.items()}


def _converted(name: str, value: Any, kind: Any, suffix: str = "") -> Any:
    """Return a value in a type; ``suffix`` follows the name of the type in messages."""
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    shown = "null" if value is None else repr(value)
    if origin is Any:
        return value
    if origin is ImageSize:
        return ImageSize.parse(value, name)
    if origin is Literal:
        if str(value) in inner:
            return str(value)
        nearest = did_you_mean(str(value), inner)
        raise SettingError(name, f"must be one of {', '.join(inner)}{suffix}, not {shown}{nearest}")
    if origin is Path and isinstance(value, str) and value:
        return Path(value)
    if origin is float and type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    if not isinstance(value, origin) or (isinstance(value, bool) and origin is not bool):
        raise SettingError(name, f"must be {TYPE_NAMES[origin]}{suffix}, not {shown}")
    if origin is float and not math.isfinite(value):
        raise SettingError(name, f"must be a finite number, not {value}")
    if origin is list:
        return [_converted(name, one, inner[0]) for one in value]
    if origin is dict:
        return {str(key): _converted(name, one, inner[1], f" for '{key}'") for key, one in value.items()}
    return value


def plain(value: Any) -> Any:
    """Return a value in the types of YAML: paths and sizes become text."""
    return str(value) if isinstance(value, (Path, ImageSize)) else value
