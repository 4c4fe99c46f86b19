"""Settings from the command line and from YAML files.

argparse splits the command line into words, `dino_detector.config` converts and validates the values.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import docstring_parser

from dino_detector.config import Config, ImageSize, preset_settings
from dino_detector.config.setting import Setting, convert, plain, settings_of
from dino_detector.config.yaml_text import read_settings, read_value, write_settings
from dino_detector.errors import InputError, SettingError, did_you_mean
from dino_detector.storage.files import write_whole

RUN_GROUPS = tuple(group.default_factory for group in dataclasses.fields(Config))
_documentation = cache(docstring_parser.parse_from_object)
METAVARS = {int: "N", float: "X", str: "NAME", Path: "PATH", ImageSize: "SIZE", dict: "JSON"}


class Settings(NamedTuple):
    """Values by name, and a prefix for the name of each value that the user gave: ``--`` or the file, ``run.yaml:``."""

    values: dict[str, Any]
    origins: dict[str, str]


class RunSettings(NamedTuple):
    """The settings of a run, and the names of the settings that the user gave."""

    config: Config
    given: frozenset[str]


def parse_settings(
    groups: Sequence[type],
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    usage: str = "",
    files: bool = False,
    shown: Mapping[str, str] | None = None,
) -> Settings:
    """Return all settings of some dataclasses: flags win over files, files over presets, presets over defaults.

    Args:
        groups: dataclasses whose fields are the settings and whose docstrings are the help. A field without a default
            is positional, or a required flag where it is ``kw_only``.
        argv: the command line without the command.
        prog: the command as the user types it.
        description: what the command does.
        usage: required arguments, for the usage line.
        files: whether the command takes ``--config FILE`` and ``--print_config``.
        shown: settings to list in the help, each with a text that replaces its help unless it is empty. The command
            accepts all settings; None lists all.

    Raises:
        InputError: a setting is unknown, missing, of another type or out of range.
        SystemExit: with code 0, after ``--help`` or ``--print_config``.
    """
    known = settings_of(*groups)
    parser = _build_parser(groups, shown, files=files)
    parser.prog, parser.description = prog, description
    parser.usage = " ".join(filter(None, [prog, usage, "[--config FILE]" if files else "", "[--SETTING VALUE ...]"]))
    words, paths, prints = _split(parser, argv, known, files=files)
    sources = [(f"{path}: ", read_settings(Path(path))) for path in paths]
    sources.append(("--", {name: _read_words(given, known[name]) for name, given in words.items()}))
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    with _located(origins):
        for origin, given in sources:
            origins |= dict.fromkeys(given, origin)
            values |= convert(given, known)
        if missing := [name for name, setting in known.items() if setting.required and name not in values]:
            raise InputError(f"missing: {', '.join(missing)}; usage: {parser.usage}")
        values = {name: setting.default() for name, setting in known.items()} | preset_settings(values) | values
    for name in words:
        _check_effect(known[name], values)
    if prints:
        print(write_settings({name: plain(value) for name, value in values.items()}), end="")
        raise SystemExit(0)
    return Settings(values, origins)


def parse_config(
    argv: Sequence[str], *, prog: str, description: str, shown: Mapping[str, str] | None = None
) -> RunSettings:
    """Return the checked settings of a run; arguments and errors as for `parse_settings`."""
    values, origins = parse_settings(RUN_GROUPS, argv, prog=prog, description=description, files=True, shown=shown)
    if values["debug"] and origins.get("debug_lr") == "--":
        if origins.get("learning_rate") == "--":
            raise InputError("--debug_lr and --learning_rate both give the learning rate of a debug run; leave one out")
        values["learning_rate"] = values["debug_lr"]
    with _located(origins):
        return RunSettings(Config.from_flat(values), frozenset(origins))


def write_config(config: Config, path: Path) -> None:
    """Write all settings as YAML, for ``--config`` to read."""
    write_whole(path, write_settings(config.flat()))


@contextmanager
def _located(origins: Mapping[str, str]) -> Iterator[None]:
    """Say in messages about a setting where its value comes from."""
    try:
        yield
    except SettingError as error:
        raise InputError(origins.get(error.name, "") + str(error)) from None


def _build_parser(groups: Sequence[type], shown: Mapping[str, str] | None, *, files: bool) -> argparse.ArgumentParser:
    """Build a parser that collects the words of each flag; it requires nothing and converts nothing."""
    parser = argparse.ArgumentParser(
        formatter_class=partial(argparse.HelpFormatter, max_help_position=30),
        epilog="A flag of {true,false} means true without a value.",
        argument_default=argparse.SUPPRESS,
        exit_on_error=False,
        allow_abbrev=False,
    )
    if files:
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
    parser: argparse.ArgumentParser, argv: Sequence[str], known: Mapping[str, Setting], *, files: bool
) -> tuple[dict[str, list[str]], list[str], bool]:
    """Return the words of each given setting, the files of ``--config``, and whether ``--print_config`` is given.

    Of several paths after a flag, the last one is the positional setting, if that is not given elsewhere.
    """
    spaced = [re.sub(r"^(?=-[.\d])", " ", word) for word in argv]  # argparse takes -3,-1 for a flag, but not " -3,-1"
    try:
        parsed, rest = parser.parse_known_intermixed_args(spaced)
    except argparse.ArgumentError as error:
        raise InputError(f"{error}; see --help") from None
    flags = [f"--{name}" for name, setting in known.items() if not setting.positional]
    flags += ["--help", *(["--config", "--print_config"] if files else [])]
    if unknown := [word.partition("=")[0] for word in rest if word.startswith("-")]:
        raise InputError(f"unknown flag {unknown[0]}{did_you_mean(unknown[0], flags)}")
    if rest:
        word = rest[0].strip()
        raise InputError(f"unexpected {word!r}; settings are given as --name value{did_you_mean(f'--{word}', flags)}")
    given = vars(parsed)
    paths, prints = given.pop("config", []), given.pop("print_config", False)
    words = {name: [one] if isinstance(one, str) else one for name, one in given.items()}
    absent = [name for name, setting in known.items() if setting.positional and name not in words]
    several = [some for name, some in words.items() if known[name].kind == list[Path] and len(some) > 1]
    if absent and several:
        words[absent[0]] = [several[-1].pop()]
    return words, paths, prints


def _read_words(words: Sequence[str], setting: Setting) -> Any:
    """Return the words after a flag as a value in the types of YAML; a list is ``[2,1]``, ``2,1`` or ``2 1``."""
    if not all(words):
        raise InputError(f"--{setting.field.name} needs a value; see --help")
    if setting.nullable and words == ["null"]:
        return None
    if typing.get_origin(setting.kind) is not list:
        return _read_word(words[0], setting.kind)
    text = " ".join(words)
    if text.startswith("[") and isinstance(whole := read_value(text), list):
        return whole
    (kind,) = typing.get_args(setting.kind)
    return [_read_word(part, kind) for word in words for part in word.split(",") if part]


def _read_word(word: str, kind: Any) -> Any:
    if kind in (str, Path) or typing.get_origin(kind) is Literal:
        return word.removeprefix(" ")
    return read_value(word)


def _check_effect(setting: Setting, values: Mapping[str, Any]) -> None:
    """Raise `InputError` for a flag that has no effect with the values of other settings."""
    other, *needed = setting.field.metadata.get("effective_with", ()) or (None,)
    if other is not None and not (values[other] in needed if needed else values[other]):
        condition = f"{other} {' or '.join(needed)}".strip()
        raise InputError(f"--{setting.field.name} has no effect without --{condition}; give both or neither")
