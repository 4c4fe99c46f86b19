"""Settings from the command line and from YAML files, for any dataclasses whose field names are the flags.

Values are given as ``--name value`` or ``--name=value``, never abbreviated, and in YAML files under the same names.
jsonargparse converts them to the types of the fields; the docstrings of the fields are the help. Every mistake is an
`InputError` that names the flag or the file.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from dino_detector.config import LIGHTWEIGHT, Config, ImageSize
from dino_detector.errors import InputError, nearest
from dino_detector.setting import Setting, settings_of, title_of


class Given(NamedTuple):
    """A value that the user gave, and where: ``--epochs``, or ``run.yaml: epochs``."""

    value: Any
    origin: str


class SettingsParser:
    """Reads what the user gave for the settings of some dataclasses.

    Args:
        groups: dataclasses with a docstring for each field; each is a section of the help.
        prog: the command as the user types it.
        description: what the command does.
        positional: setting that is given without its flag.
        shown: settings that the help lists, and the text that replaces the help and default of each unless it is
            empty. All settings are accepted; None lists all.
    """

    def __init__(
        self,
        groups: Sequence[type],
        *,
        prog: str,
        description: str,
        positional: str | None = None,
        shown: Mapping[str, str] | None = None,
    ) -> None:
        self.groups = {title_of(group): settings_of(group) for group in groups}
        self.settings = {setting.name: setting for settings in self.groups.values() for setting in settings}
        self.prog = prog
        self.description = description
        self.positional = positional
        self.shown = dict.fromkeys(self.settings, "") if shown is None else shown
        assert self.settings.keys() >= self.shown.keys()
        assert positional is None or positional in self.settings

    def parse(self, argv: Sequence[str]) -> dict[str, Given]:
        """The settings that are given, converted to their types; a flag wins over a YAML file wherever it stands.

        Raises:
            InputError: for whatever is unknown, of a wrong type or missing.
            SystemExit: with code 0, after ``--help`` has been printed.
        """
        from_files: dict[str, Given] = {}
        from_flags: dict[str, Given] = {}
        for name, value, origin in self._read(argv):
            if name == "config":
                from_files |= self._read_file(Path(value))
            else:
                from_flags[name] = Given(value, origin)
        given = from_files | from_flags
        for name, setting in self.settings.items():
            if setting.required and name not in given:
                raise InputError(f"{self._flag(name)} is missing; see {self.prog} --help")
        convert = _Converter(self.settings)
        return {name: Given(convert(name, entry), entry.origin) for name, entry in given.items()}

    def help(self) -> str:
        """What ``--help`` prints."""
        required = [
            self._flag(setting.name) + ("" if setting.name == self.positional else f" {setting.metavar}")
            for setting in self.settings.values()
            if setting.required
        ]
        parser = argparse.ArgumentParser(
            usage=" ".join([self.prog, *required, "[--config FILE]", "[--SETTING VALUE ...]"]),
            description=self.description,
            add_help=False,
            formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30),
        )
        section = parser.add_argument_group("General")
        section.add_argument("-h", "--help", action="store_true", help="show this help and exit")
        section.add_argument("--config", metavar="FILE", help="YAML file of settings by these names; flags win over it")
        for title, settings in self.groups.items():
            section = parser.add_argument_group(title)
            for setting in settings:
                if setting.name not in self.shown:
                    continue
                text = (self.shown[setting.name] or setting.help_with_default).replace("%", "%%")
                if setting.name == self.positional:
                    section.add_argument(setting.name, metavar=self._flag(setting.name), help=text)
                else:
                    section.add_argument(f"--{setting.name}", metavar=setting.metavar, help=text)
        return parser.format_help()

    def _flag(self, name: str) -> str:
        return name.upper() if name == self.positional else f"--{name}"

    def _read(self, argv: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        """Name, value and flag of each setting in the command line."""
        flags = [self._flag(name) for name in (*self.settings, "config", "help") if name != self.positional]
        positional = self.positional
        tokens = deque(argv)
        while tokens:
            token = tokens.popleft()
            if token in ("-h", "--help"):
                print(self.help(), end="")
                raise SystemExit(0)
            if not token.startswith("-"):
                if positional is None:
                    hint = nearest(f"--{token}", flags)
                    raise InputError(f"unexpected {token!r}; settings are given as --name value{hint}")
                yield positional, token, self._flag(positional)
                positional = None
                continue
            flag, equals, value = token.partition("=")
            if flag not in flags:
                raise InputError(f"unknown flag {flag}{nearest(flag, flags)}")
            name = flag.removeprefix("--")
            if not equals and tokens and not tokens[0].startswith("--"):
                value = tokens.popleft()
            elif not equals and name in self.settings and self.settings[name].type is bool:
                value = "true"
            if not value:
                wanted = self.settings[name].wanted if name in self.settings else "a YAML file"
                raise InputError(f"{flag} needs a value: {wanted}")
            yield name, value, flag

    def _read_file(self, path: Path) -> dict[str, Given]:
        try:
            contents = yaml.load(path.read_text(encoding="utf-8"), Loader=_YamlLoader)
        except FileNotFoundError:
            raise InputError(f"{path}: no such settings file; correct --config") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"{path}: cannot be read as YAML ({error}); correct the file or --config") from error
        if not isinstance(contents, dict):
            raise InputError(f"{path}: holds no settings; write one on each line, such as epochs: 50")
        for name in contents:
            if name not in self.settings:
                raise InputError(f"{path}: unknown setting {name!r}{nearest(str(name), self.settings)}")
        return {name: Given(value, f"{path}: {name}") for name, value in contents.items()}


class _YamlLoader(yaml.SafeLoader):
    """Takes ``1e-4`` for a number, as YAML 1.2 does; YAML 1.1 wants ``1.0e-4``."""


_YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class _Converter:
    """Converts values to the types of their settings, from text or from what YAML makes of it."""

    def __init__(self, settings: Mapping[str, Setting]) -> None:
        import jsonargparse

        self.settings = settings
        self.parser = jsonargparse.ArgumentParser(exit_on_error=False, add_help=False)
        for setting in settings.values():
            if setting.type is not ImageSize:
                self.parser.add_argument(f"--{setting.name}", type=setting.type)

    def __call__(self, name: str, given: Given) -> Any:
        setting, value = self.settings[name], given.value
        if setting.optional and value in (None, "null"):
            return None
        wrong = InputError(
            f"{given.origin} must be {setting.wanted}, not {'null' if value is None else repr(value)}"
            f"{nearest(str(value), setting.choices)}"
        )
        if value is None:  # which jsonargparse lets pass for any type
            raise wrong
        if setting.kind is list and isinstance(value, str) and not value.lstrip().startswith("["):
            value = f"[{value}]"
        if type(value) in (int, float) and setting.kind in (str, Literal):
            value = str(value)  # `precision: 32` is a number to YAML
        try:
            if setting.type is ImageSize:
                return ImageSize.parse(value)
            return self.parser.parse_object({name: value}, defaults=False)[name]
        except (argparse.ArgumentError, InputError) as error:
            raise wrong from error


def parse_settings(
    argv: Sequence[str], *, prog: str, description: str, shown: Mapping[str, str] | None = None
) -> dict[str, Given]:
    """The settings of a run that the user gave, by name; arguments as for `SettingsParser`.

    Raises:
        InputError: for whatever is unknown or of a wrong type.
        SystemExit: with code 0, after ``--help`` has been printed.
    """
    groups = [group.default_factory for group in dataclasses.fields(Config)]
    return SettingsParser(groups, prog=prog, description=description, shown=shown).parse(argv)


def build_config(given: Mapping[str, Given]) -> Config:
    """All settings of a run: what was given wins over the lightweight preset, and that over defaults.

    Raises:
        InputError: for a value out of range, naming the flag or the file and name that gave it.
    """
    values = {name: entry.value for name, entry in given.items()}
    preset = LIGHTWEIGHT if values.get("lightweight") else {}
    try:
        return Config.from_flat(preset | values)
    except InputError as error:
        name, _, rest = str(error).partition(" ")
        raise InputError(f"{given[name].origin} {rest}" if name in given else str(error)) from None


def parse_config(argv: Sequence[str], *, prog: str, description: str) -> Config:
    """`build_config` of `parse_settings`."""
    return build_config(parse_settings(argv, prog=prog, description=description))


def write_config(config: Config, path: Path) -> None:
    """Write all settings as YAML, for ``--config`` to read."""
    path.write_text(yaml.safe_dump(config.flat(), sort_keys=False, allow_unicode=True), encoding="utf-8")
