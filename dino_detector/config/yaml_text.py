"""Settings as YAML 1.2, in which ``1e-4`` is a number and ``2024-01-01`` is text; PyYAML follows YAML 1.1."""

from __future__ import annotations

import math
import re
from collections.abc import Set
from pathlib import Path
from typing import Any

import yaml

from dino_detector.config import Config
from dino_detector.storage.files import write_whole

NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)
"""errors of `read_yaml`"""
EXPONENT = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$")


class _Loader(yaml.SafeLoader):
    """Reads numbers with an exponent, and dates as text."""


class _Dumper(yaml.SafeDumper):
    """Quotes text that `_Loader` would read as a number."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("+-.0123456789"))
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_yaml_str)


def read_yaml(text: str | bytes) -> Any:
    """Return the value of YAML text; raise one of `NOT_YAML` if it is not YAML."""
    return yaml.load(text, _Loader)


def as_yaml(config: Config, names: Set[str] | None = None) -> str:
    """Return all settings, or the named ones, as YAML, for ``--config`` to read."""
    settings = {name: value for name, value in config.flat().items() if names is None or name in names}
    return yaml.dump(settings, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def value_text(value: Any) -> str:
    """Return the value of a setting as YAML on one line."""
    return yaml.dump([value], Dumper=_Dumper, allow_unicode=True, default_flow_style=True, width=math.inf).strip()[1:-1]


def write_config(config: Config, path: Path) -> None:
    """Write all settings as YAML, for ``--config`` to read."""
    write_whole(path, as_yaml(config))
