"""Settings from the command line and from YAML files.

argparse splits the command line into words; `dino_detector.config` converts and checks the values.
"""

from __future__ import annotations

import argparse
import json
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import docstring_parser

from dino_detector.config import Config, ImageSize
from dino_detector.config.resolving import Source, parts_of, read_settings_file, resolve
from dino_detector.config.setting import Setting, plain, settings_of
from dino_detector.config.yaml_text import NOT_YAML, as_yaml, read_yaml
from dino_detector.errors import InputError, did_you_mean

METAVARS = {int: "N", float: "X", str: "NAME", Path: "PATH", ImageSize: "SIZE", dict: "JSON"}
_documentation = cache(docstring_parser.parse_from_object)


def parse_settings(
    groups: Sequence[type],
    argv: Sequence[str],
    *,
    prog: str,
    description: str = "",
    usage: str = "",
    shown: Mapping[str, str] | None = None,
) -> tuple[Any, ...]:
    """Return an object of each dataclass, with the settings of a command line.

    Flags win over YAML files, files over presets, presets over defaults. With `Config` the command takes ``--config
    FILE`` and ``--print_config`` too, and the names of the settings that the user gave are returned after the config.

    Args:
        groups: ``[Config]``, or dataclasses whose fields are the settings and whose docstrings are the help. A field
            without a default is positional, or a required flag where it is ``kw_only``.
        argv: the command line without the command.
        prog: the command as the user types it, for the help.
        description: the first lines of the help.
        usage: required arguments, for the help.
        shown: settings to list in the help, each with a text that replaces its help unless it is empty; None lists all
            settings. The command accepts all settings.

    Raises:
        InputError: a setting is unknown, missing, of another type or out of range, or contradicts another one.
        SystemExit: with code 0, after ``--help`` or ``--print_config``.
    """
    is_run = Config in groups
    parts = parts_of(groups)
    known = settings_of(*parts)
    usage = " ".join(filter(None, [prog, usage, "[--config FILE]" if is_run else "", "[--SETTING VALUE ...]"]))
    parser = _build_parser(parts, shown, takes_files=is_run, prog=prog, description=description, usage=usage)
    flags = [f"--{name}" for name, setting in known.items() if not setting.positional or not setting.required]
    flags.append("--help")
    words = _split(parser, argv, known, flags + (["--config", "--print_config"] if is_run else []))
    prints = words.pop("print_config", False)
    sources = [Source(f"{path}: ", read_settings_file(Path(path))) for path in words.pop("config", [])]
    sources.append(Source("--", {name: _read_words(given, known[name]) for name, given in words.items()}))
    resolved = resolve(groups, sources, named=words, mark="--", usage=usage)
    if prints:
        print(as_yaml(resolved[0]), end="")
        raise SystemExit(0)
    return resolved


def _build_parser(
    groups: Sequence[type], shown: Mapping[str, str] | None, *, takes_files: bool, **texts: str
) -> argparse.ArgumentParser:
    """Build a parser that collects the words of each flag; it requires nothing and converts nothing."""
    parser = argparse.ArgumentParser(
        **texts,
        formatter_class=partial(argparse.HelpFormatter, max_help_position=30),
        epilog="A flag of {true,false} means true without a value.",
        argument_default=argparse.SUPPRESS,
        exit_on_error=False,
        allow_abbrev=False,
    )
    if takes_files:
        text = "YAML file of settings by these names; flags win over files, and later files over earlier files"
        parser.add_argument("--config", action="append", metavar="FILE", help=text)
        parser.add_argument("--print_config", action="store_true", help="print all settings as YAML and exit")
    for group in groups:
        documented = _documentation(group)
        section = parser.add_argument_group(documented.short_description.rstrip("."))
        helps = {param.arg_name: " ".join(param.description.split()) for param in documented.params}
        for name, setting in settings_of(group).items():
            text = _help_text(setting, helps[name])
            if shown is not None:
                text = (shown[name] or text) if name in shown else argparse.SUPPRESS
            flag = name if setting.positional else f"--{name}"
            section.add_argument(flag, help=text.replace("%", "%%"), **_syntax(setting))
            if setting.positional and not setting.required:  # takes a flag too, as in other toolkits
                section.add_argument(f"--{name}", metavar=METAVARS[setting.kind], help=argparse.SUPPRESS)
    return parser


def _syntax(setting: Setting) -> dict[str, Any]:
    """Return the arguments of `add_argument` that tell which words a setting takes."""
    if setting.positional:
        return {"nargs": "?", "metavar": setting.field.name.upper()}
    if setting.kind is bool:
        return {"nargs": "?", "const": "true", "metavar": "{true,false}"}
    is_list = typing.get_origin(setting.kind) is list
    kind = typing.get_args(setting.kind)[0] if is_list else setting.kind
    origin = typing.get_origin(kind) or kind
    metavar = f"{{{','.join(typing.get_args(kind))}}}" if origin is Literal else METAVARS[origin]
    several = {"nargs": "+", "action": "extend" if kind is Path else "store"} if is_list else {}
    return {"metavar": metavar, **several}


def _help_text(setting: Setting, text: str) -> str:
    """Return the help of a setting with its default as in YAML."""
    if setting.required:
        return text if setting.positional else f"{text} (required)"
    default = plain(setting.default())
    if default in (None, {}, []) and setting.kind not in (int, float):
        return text
    return f"{text} (default: {default if isinstance(default, str) else json.dumps(default)})"


def _split(
    parser: argparse.ArgumentParser, argv: Sequence[str], known: Mapping[str, Setting], flags: Sequence[str]
) -> dict[str, Any]:
    """Return the words of each given setting and flag.

    If the positional setting is missing, it takes the last of several paths after a flag:
    ``--checkpoint a.pth picture.jpg``. A positional setting that may be missing takes a folder only.
    """
    spaced = [re.sub(r"^(?=-[.\d])", " ", word) for word in argv]  # argparse takes -3,-1 for a flag, but not " -3,-1"
    try:
        parsed, rest = parser.parse_known_intermixed_args(spaced)
    except argparse.ArgumentError as error:
        raise InputError(f"{error}; see --help") from None
    if unknown := [word.partition("=")[0] for word in rest if word.startswith("-")]:
        raise InputError(f"unknown flag {unknown[0]}{did_you_mean(unknown[0], flags)}")
    if rest:
        taken = [getattr(parsed, name) for name, setting in known.items() if setting.positional and name in parsed]
        likely = (word for word in (*taken, *rest) if did_you_mean(f"--{word.strip()}", flags))
        word = next(likely, rest[0]).strip()
        raise InputError(f"unexpected {word!r}; settings are given as --name value{did_you_mean(f'--{word}', flags)}")
    words = {name: [given] if isinstance(given, str) else given for name, given in vars(parsed).items()}
    absent = [name for name, setting in known.items() if setting.positional and name not in words]
    several = [some for name, some in words.items() if name in known and known[name].kind == list[Path] and some[1:]]
    if absent and several and (known[absent[0]].required or Path(several[-1][-1]).is_dir()):
        words[absent[0]] = [several[-1].pop()]
    return words


def _read_words(words: Sequence[str], setting: Setting) -> Any:
    """Return the words after a flag as a value in the types of YAML; a list is ``[2,1]``, ``2,1`` or ``2 1``."""
    if not all(words):
        raise InputError(f"--{setting.field.name} needs a value; see --help")
    if setting.nullable and words == ["null"]:
        return None
    is_list = typing.get_origin(setting.kind) is list
    kind = typing.get_args(setting.kind)[0] if is_list else setting.kind
    is_text = kind in (str, Path) or typing.get_origin(kind) is Literal
    read: Callable[[str], Any] = (lambda word: word.removeprefix(" ")) if is_text else _read_yaml
    if not is_list:
        return read(words[0])
    text = " ".join(words)
    if text.startswith("[") and isinstance(whole := _read_yaml(text), list):
        return whole
    return [read(part) for word in words for part in word.split(",") if part]


def _read_yaml(text: str) -> Any:
    """Return the value of YAML text, or the text itself if it is not YAML."""
    try:
        return read_yaml(text)
    except NOT_YAML:
        return text
