"""Settings as YAML. PyYAML follows YAML 1.1; here ``1e-4`` is a number and ``2024-01-01`` is text, as in YAML 1.2."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dino_detector.errors import InputError


class _Loader(yaml.SafeLoader):
    """Reads numbers with an exponent, and dates as text."""


class _Dumper(yaml.SafeDumper):
    """Quotes text that `_Loader` would read as a number."""


for _kind in (_Loader, _Dumper):
    _number = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _number, list("+-.0123456789"))
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_yaml_str)


def read_value(text: str) -> Any:
    """Return the value of YAML text, or the text itself if it is not YAML."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings of a file; raise `InputError` if it does not exist, is not YAML or is no mapping."""
    if not path.is_file():
        raise InputError(f"{path}: no such settings file; correct --config")
    try:
        contents = yaml.load(path.read_bytes(), _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as YAML ({error}); correct the file or --config") from error
    if not isinstance(contents, dict):
        raise InputError(f"{path}: holds no settings; write one on each line, such as epochs: 50")
    return {str(name): value for name, value in contents.items()}


def write_settings(settings: Mapping[str, Any]) -> str:
    """Return plain settings as YAML, for `read_settings`."""
    return yaml.dump(dict(settings), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
