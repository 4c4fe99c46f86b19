"""Settings from the command line and from YAML files: jsonargparse, with flags that win and errors of one line."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import re
import typing
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NamedTuple

import yaml
from jsonargparse import ArgumentParser, get_loader, set_loader, set_parsing_settings
from jsonargparse.typing import register_type

from dino_detector.config import Config, ImageSize, preset_settings
from dino_detector.errors import InputError, did_you_mean
from dino_detector.storage.files import write_whole

RUN_GROUPS = tuple(group.default_factory for group in dataclasses.fields(Config))
METAVARS = {int: "N", float: "X", str: "NAME", Path: "PATH", ImageSize: "SIZE", list: "A,B,...", dict: "JSON"}
WANTED = {
    **{"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "Path": "a path"},
    **{"list": "a list, such as [2,1]", "dict": 'a mapping, such as {"name": 1}', "NoneType": "null"},
    "ImageSize": "a number of pixels (518) or HEIGHTxWIDTH (504x896)",
}
"""types as jsonargparse's messages name them, for a person"""
EFFECTIVE_WITH = {
    **dict.fromkeys(("debug_samples", "debug_lr"), "debug"),
    **dict.fromkeys(("coco_mini_size", "coco_mini_seed", "coco_mini_indices_file"), "use_coco_mini"),
    **dict.fromkeys(("world_size", "dist_url"), "distributed"),
    **dict.fromkeys(("scale_range", "zoom_out_probability", "crop_probability", "flip_probability"), "augmentation"),
    **dict.fromkeys(("photometric_probability", "mosaic_probability", "copy_paste_probability"), "augmentation"),
    **dict.fromkeys(("multi_scale", "no_augment_fraction"), "augmentation"),
    **{"test_mini_size": "test_mini", "log_images_frequency": "log_images", "skip_checkpoint_load": "checkpoint"},
    **{"cache_views": "cache_trunk", "tile_overlap": "tile_size", "n_points": "use_deformable"},
    **dict.fromkeys(("log_dir", "experiment_name", "log_layers"), "logger"),
    **{"early_stopping_min_delta": "early_stopping_patience", "ema_warmup": "ema_decay"},
    **dict.fromkeys(("lora_rank", "lora_alpha", "lora_rank_pattern", "lora_alpha_pattern"), "train_backbone lora"),
    **dict.fromkeys(("lora_layers", "lora_targets", "lora_dropout"), "train_backbone lora"),
    **dict.fromkeys(("use_rslora", "use_dora"), "train_backbone lora"),
    **dict.fromkeys(("layer_decay", "backbone_learning_rate"), "train_backbone lora or full"),
}
"""flags that say how another is meant, and the other, perhaps with the values that it needs; without it they would be
ignored"""


class Settings(NamedTuple):
    """Values by name, and where each that the user gave comes from: ``--`` or ``run.yaml:``, to put before its name."""

    values: dict[str, Any]
    origins: dict[str, str]


class RunSettings(NamedTuple):
    """The settings of a run, and the names of those that the user gave."""

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
    """All settings of some dataclasses: flags win over files, files over presets, those over defaults.

    Args:
        groups: dataclasses whose fields are the settings and whose docstrings are the help. A field without a default
            is positional, or a required flag where it is ``kw_only``.
        argv: the command line without the command.
        prog: the command as the user types it.
        description: what the command does.
        usage: what must be given, for the usage line.
        files: whether ``--config FILE`` is taken.
        shown: settings that the help lists, and the text that replaces the help of each unless it is empty. All
            settings are accepted; None lists all.

    Raises:
        InputError: for whatever is unknown, of a wrong type or missing.
        SystemExit: with code 0, after ``--help`` or ``--print_config``.
    """
    fields = {item.name: group for group in groups for item in dataclasses.fields(group)}
    hints = {name: typing.get_type_hints(group)[name] for name, group in fields.items()}
    parser = _build_parser(groups, prog=prog, description=description, usage=usage, files=files)
    for action in parser._actions:
        _describe(action, hints.get(action.dest), shown)
    positional = sum(action.required and not action.option_strings for action in parser._actions)
    paths, flags = _split(argv, hints | ({"config": Path} if files else {}), positional=positional)
    with _explained(parser, "--"):
        plain = [flag for flag in flags if not flag.startswith("--print_config")]
        from_flags = parser.parse_args(plain, defaults=False).as_dict()
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for path in paths:
        if not Path(path).is_file():
            raise InputError(f"{path}: no such settings file; correct --config")
        with _explained(parser, f"{path}: "):
            from_file = parser.parse_path(path, defaults=False)
            parser.validate(from_file, skip_unset=False)  # null is a value, which not every setting takes
        values |= from_file.as_dict()
        origins |= dict.fromkeys(from_file.as_dict(), f"{path}: ")
    origins |= dict.fromkeys(from_flags, "--")
    if presets := preset_settings(values | from_flags):
        parser.set_defaults(presets)
    with _explained(parser, "--"):
        chosen = parser.parse_args([*(f"--config={path}" for path in paths), *flags])
    values = {name: chosen[name] for name in hints}
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{origins.get(name, '--')}{name} must be a finite number, not {value}")
    for name in sorted(from_flags.keys() & EFFECTIVE_WITH.keys()):
        other, _, needed = EFFECTIVE_WITH[name].partition(" ")
        if not (values[other] in needed.split(" or ") if needed else values[other]):
            raise InputError(f"--{name} has an effect with --{EFFECTIVE_WITH[name]} only; add that or leave this out")
    return Settings(values, origins)


def parse_config(
    argv: Sequence[str], *, prog: str, description: str, shown: Mapping[str, str] | None = None
) -> RunSettings:
    """The settings of a run, checked; arguments and errors as for `parse_settings`."""
    values, origins = parse_settings(RUN_GROUPS, argv, prog=prog, description=description, files=True, shown=shown)
    if values["debug"] and origins.get("debug_lr") == "--":
        if origins.get("learning_rate") == "--":
            raise InputError("--debug_lr and --learning_rate both give the learning rate of a debug run; leave one out")
        values["learning_rate"] = values["debug_lr"]
    try:
        return RunSettings(Config.from_flat(values), frozenset(origins))
    except InputError as error:
        raise InputError(origins.get(str(error).split()[0], "") + str(error)) from None


def write_config(config: Config, path: Path) -> None:
    """Write all settings as YAML, for ``--config`` to read."""
    parser = _build_parser(RUN_GROUPS)
    write_whole(path, parser.dump(parser.parse_object(config.flat()), skip_unset=False))


def _build_parser(
    groups: Sequence[type], *, prog: str = "", description: str = "", usage: str = "", files: bool = False
) -> ArgumentParser:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    register_type(ImageSize, deserializer=ImageSize.parse, deserializer_exceptions=(InputError,))
    set_loader("settings", _load_yaml, exceptions=(yaml.YAMLError, TypeError))
    parts = [prog, usage, "[--config FILE]" if files else "", "[--SETTING VALUE ...]"]
    parser = ArgumentParser(
        prog=prog,
        description=description,
        usage=" ".join(part for part in parts if part),
        formatter_class=partial(argparse.HelpFormatter, max_help_position=30),
        epilog="A flag of {true,false} means true where no value follows.",
        exit_on_error=False,
        allow_abbrev=False,
        parser_mode="settings",
    )
    if files:
        help_of_config = "YAML file of settings by these names; flags win over it"
        parser.add_argument("--config", action="config", metavar="FILE", help=help_of_config)
    for group in groups:
        parser.add_class_arguments(group, nested_key=None, as_positional=True)
    return parser


def _load_yaml(text: str) -> Any:
    """YAML in which ``precision: 32`` is not a number, and no key of a mapping is one either."""
    contents = _with_text_keys(get_loader("yaml")(text))
    if isinstance(contents, dict) and type(contents.get("precision")) is int:
        contents["precision"] = str(contents["precision"])
    return contents


def _with_text_keys(contents: Any) -> Any:
    if not isinstance(contents, dict):
        return contents
    return {str(key): _with_text_keys(value) for key, value in contents.items()}


def _describe(action: argparse.Action, hint: Any, shown: Mapping[str, str] | None) -> None:
    """Make the help of a flag short: what it does and its default, without Python's types."""
    if "--print_config" in action.option_strings:
        action.metavar, action.help = "", "print all settings as YAML, for a file of your own, and exit"
    if action.dest.endswith(".help"):
        action.help = argparse.SUPPRESS  # jsonargparse's own, for what it takes to be a class
    if hint is None:
        return
    alternatives = typing.get_args(hint) if isinstance(hint, UnionType) else (hint,)
    (kind,) = (typing.get_origin(kind) or kind for kind in alternatives if kind is not NoneType)
    metavar = "PATH ..." if hint == list[Path] else METAVARS.get(kind, action.metavar)
    action.metavar = metavar if action.option_strings else action.dest.upper()
    action.option_strings = action.option_strings[:1]  # without --name+, which appends to a list
    text, default = action.help, action.default
    if action.required:
        text += " (required)" if action.option_strings else ""
    elif default not in (None, {}, []) or kind in (int, float):
        text += f" (default: {_text(default)})"
    if shown is not None:
        text = (shown[action.dest] or text) if action.dest in shown else None
    action.help = argparse.SUPPRESS if text is None else text.replace("%", "%%")


def _text(value: Any) -> str:
    """A default as the user would write it."""
    if isinstance(value, list):
        return ",".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def _split(argv: Sequence[str], hints: Mapping[str, Any], *, positional: int) -> tuple[list[str], list[str]]:
    """Files after ``--config``, and the other flags as ``--name=value``; a flag of true or false may stand alone.

    A list is ``[2,1]``, ``2,1`` or ``2 1``. Files add up where their flag is repeated, as for ``--config``; of any
    other flag the last one counts. The last of several files is what needs no flag, where that is not elsewhere.
    """
    files, flags = [], []
    listed: dict[str, list[str]] = {}
    tokens = deque(argv)
    while tokens:
        token = tokens.popleft()
        flag, equals, value = token.partition("=")
        if not flag.startswith("--") or flag[2:] not in hints:
            flags.append(token)
            continue
        hint = hints[flag[2:]]
        is_list = any(typing.get_origin(kind) is list for kind in (hint, *typing.get_args(hint)))
        words = [value] if equals else []
        while tokens and not tokens[0].startswith("--") and (is_list or not words):
            words.append(tokens.popleft())
        if not words and hint is bool:
            words = ["true"]
        if not words or not all(words):
            raise InputError(f"{flag} needs a value; see --help")
        if hint == list[Path]:
            listed[flag] = [*listed.get(flag, ()), *_paths(words)]
        elif flag == "--config":
            files += words
        else:
            flags.append(f"{flag}={_list_text(words) if is_list else words[0]}")
    several = [paths for paths in listed.values() if len(paths) > 1]
    if several and sum(not flag.startswith("--") for flag in flags) < positional:
        flags.append(several[-1].pop())
    return files, [*flags, *(f"{flag}={json.dumps(paths)}" for flag, paths in listed.items())]


def _list_text(words: Sequence[str]) -> str:
    """The words of a list as YAML; ``[2, 1]`` may come in two words, without quotes around it."""
    if words[0].startswith("[") or words[0] == "null":
        return " ".join(words)
    return f"[{','.join(word.strip(',') for word in words)}]"


def _paths(words: Sequence[str]) -> list[str]:
    """Paths, with commas between them or not; one that has a comma itself is given as ``["a,b"]``."""
    if not words[0].startswith("["):
        return [path for word in words for path in word.split(",") if path]
    try:
        paths = yaml.safe_load(" ".join(words))
    except yaml.YAMLError:
        return list(words)  # a name that begins with a bracket
    return [str(path) for path in paths] if isinstance(paths, list) else list(words)


@contextmanager
def _explained(parser: ArgumentParser, origin: str) -> Iterator[None]:
    """Turn what jsonargparse raises into an `InputError` of one line that begins with the origin."""
    try:
        yield
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        raise InputError(_explain(str(error), parser, origin)) from error


def _explain(message: str, parser: ArgumentParser, origin: str) -> str:
    file = "" if origin == "--" else origin
    if match := re.match("unrecognized arguments: ([^ =]+)", message):
        flags = [flag for action in parser._actions for flag in action.option_strings]
        if match[1].startswith("-"):
            return f"unknown flag {match[1]}{did_you_mean(match[1], flags)}"
        return f"unexpected {match[1]!r}; settings are given as --name value{did_you_mean(f'--{match[1]}', flags)}"
    if match := re.match("the following arguments are required: (.*)", message):
        return f"missing: {match[1]}; usage: {parser.usage}"
    if match := re.match("Option '(.*)' is not accepted", message):
        return (
            f"{file}unknown setting {match[1]!r}{did_you_mean(match[1], [action.dest for action in parser._actions])}"
        )
    if message.startswith("Unexpected config"):
        return f"{file}holds no settings; write one on each line, such as epochs: 50"
    if match := re.match(r"Problems parsing config: (.*)|('utf-8' codec .*)", message, re.DOTALL):
        return f"{file}cannot be read as YAML ({match[1] or match[2]}); correct the file or --config"
    if match := re.match(r'Parser key "(.+?)":\s*(.*)', message, re.DOTALL):
        return origin + _explain_value(match[1], match[2])
    return file + message


def _explain_value(name: str, reason: str) -> str:
    if match := re.match("Not of type ImageSize: (.*)", reason):
        return match[1]
    value = re.search("(?:Got|Given) value: (.*)", reason)
    kinds = re.findall(r"(?:Expected a|Not of type) (?:<class ')?(typing\.Literal\[.*?\]|\w+)", reason)
    if value is None or not kinds:
        return f"{name}: {reason}"
    choices = [choice for kind in kinds for choice in re.findall("'(.*?)'", kind)]
    wanted = [f"one of {', '.join(choices)}" if "[" in kind else WANTED.get(kind, kind) for kind in kinds]
    text = "null" if value[1] == "None" else repr(value[1])
    return f"{name} must be {' or '.join(wanted)}, not {text}{did_you_mean(value[1], choices)}"
