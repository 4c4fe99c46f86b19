"""Settings of a call, from the values that a user gives: files, flags or keyword arguments.

The command line and the Python functions share these rules: given values win over files, files over presets, and
presets over defaults; a setting without an effect is an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dino_detector.config import Config, preset_settings
from dino_detector.config.setting import convert, settings_of
from dino_detector.config.yaml_text import NOT_YAML, read_yaml
from dino_detector.errors import InputError, SettingError

RUN_GROUPS = tuple(group.default_factory for group in dataclasses.fields(Config))
"""dataclasses of the settings of a run"""


class Source(NamedTuple):
    """Values by name in the types of YAML, and what precedes a name in messages, such as ``--`` or ``run.yaml: ``."""

    origin: str
    values: Mapping[str, Any]


def parts_of(groups: Sequence[type]) -> tuple[type, ...]:
    """Return the dataclasses of settings, for ``[Config]`` the dataclasses of its parts."""
    return RUN_GROUPS if Config in groups else tuple(groups)


def resolve(
    groups: Sequence[type], sources: Sequence[Source], *, named: Collection[str], mark: str, usage: str
) -> tuple[Any, ...]:
    """Return an object of each dataclass; for ``[Config]`` the config and the names of the given settings.

    Args:
        groups: ``[Config]``, or dataclasses whose fields are the settings.
        sources: given values; later sources win.
        named: the settings that the user names in this call, and not in a file.
        mark: what precedes the name of a setting in messages, ``--`` on a command line.
        usage: how to call, for the message about a missing setting.

    Raises:
        InputError: a setting is unknown, missing, of another type or out of range, or contradicts another one.
    """
    parts = parts_of(groups)
    known = settings_of(*parts)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    try:
        for origin, given in sources:
            origins |= dict.fromkeys(given, origin)
            values |= convert(given, known)
        if missing := [name for name, setting in known.items() if setting.required and name not in values]:
            raise InputError(f"missing: {', '.join(missing)}; usage: {usage}")
        values = {name: setting.default() for name, setting in known.items()} | preset_settings(values) | values
        for name in named:
            other, *needed = known[name].field.metadata.get("effective_with") or (None,)
            if other and not (values[other] in needed if needed else values[other]):
                condition = f"{other} {' or '.join(needed)}".strip()
                raise InputError(f"{mark}{name} has no effect without {mark}{condition}; give both or neither")
        if Config not in groups:
            return tuple(group(**{name: values[name] for name in settings_of(group)}) for group in groups)
        if "debug_lr" in named and "learning_rate" in named:
            rates = f"{mark}debug_lr and {mark}learning_rate"
            raise InputError(f"{rates} both give the learning rate of a debug run; leave one out")
        config = Config.from_flat(values | ({"learning_rate": values["debug_lr"]} if "debug_lr" in named else {}))
    except SettingError as error:
        raise InputError(origins.get(error.name, "") + str(error)) from None
    return config, frozenset(origins)


def read_settings_file(path: Path) -> dict[str, Any]:
    """Return the settings of a file; raise `InputError` if it does not exist, is not YAML or is no mapping."""
    if not path.is_file():
        raise InputError(f"{path}: no such settings file; correct --config")
    try:
        contents = read_yaml(path.read_bytes())
    except (OSError, *NOT_YAML) as error:
        raise InputError(f"{path}: cannot be read as YAML ({error}); correct the file or --config") from error
    if not isinstance(contents, dict):
        raise InputError(f"{path}: holds no settings; write one on each line, such as epochs: 50")
    return {str(name): value for name, value in contents.items()}
