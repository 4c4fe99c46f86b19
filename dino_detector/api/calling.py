"""The frame around every Python function: settings from keyword arguments, errors in Python's words, the visible log.

The functions share settings, checks and work with the commands; `dino_detector.commands.frame` is the frame of those.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import re
import signal
import textwrap
import threading
import typing
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import docstring_parser

from dino_detector.api.keywords import PathLike
from dino_detector.commands.frame import ProgressSafeHandler, limit_of_machine
from dino_detector.config import ImageSize
from dino_detector.config.resolving import Source, parts_of, read_settings_file, resolve
from dino_detector.config.setting import Setting, plain, settings_of
from dino_detector.errors import InputError, StoppedByUser
from dino_detector.terminal import bars

Function = TypeVar("Function", bound=Callable[..., Any])

LIBRARIES = ("lightning.pytorch.trainer", "lightning.pytorch.utilities", "lightning.fabric.utilities")
"""loggers with hints about code"""
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_VERBOSITY": "error"}
"""variables of the environment that silence libraries when they are imported"""
WORDS = re.compile(
    r"""
    (?P<kept> (?<!\w)'[^'\n]*'(?!\w) | "[^"\n]*"  # a quoted value
    | ^(?!--)[^:\n]*[/\\][^:\n]*(?=:\ )  # the path at the beginning, with its spaces
    | (?<!\S)[("]?(?!--)[^\s(]*[/\\]\S*  # any other path
    | \b(?:dino-detector|python3?\ -m)\ [^;,)\n]*)  # a command line
    | (?P<help> ;\ see\ --help\b)
    | (?P<flag> (?<![\w-])--(?=[a-z]))
    | (?P<null> (?<=[^\w.-])null(?![\w-]|\.\w))  # a file may be named null
    """,
    re.VERBOSE | re.MULTILINE,
)
"""flags and words of the command line, which messages in Python replace, and parts of a message that stay"""
IN_PYTHON = {"help": "; see help() of the function", "flag": "", "null": "None"}


def in_python(text: str) -> str:
    """Return a message of the command line in Python's words: settings without dashes, None, and ``help()``.

    Quoted values, paths and command lines are left as they are.
    """
    return WORDS.sub(lambda match: IN_PYTHON.get(match.lastgroup or "", match[0]), text)


def settings_from(
    groups: Sequence[type],
    keywords: Mapping[str, Any],
    *,
    usage: str,
    config: PathLike | None = None,
    named: Collection[str] | None = None,
) -> tuple[Any, ...]:
    """Return an object of each dataclass of settings, from keyword arguments, by `config.resolving.resolve`.

    ``config`` is a YAML file of settings, over which keyword arguments win. ``named`` are the settings that must have
    an effect; None means all keyword arguments.
    """
    known = settings_of(*parts_of(groups))
    given = {name: _as_yaml(value, known[name]) if name in known else value for name, value in keywords.items()}
    sources = [] if config is None else [Source(f"{config}: ", read_settings_file(Path(config)))]
    return resolve(groups, [*sources, Source("", given)], named=given if named is None else named, mark="", usage=usage)


def in_memory(data: Any, name: str = "data") -> bool:
    """Return whether data is a data set in memory, and no path; raise `InputError` with its name if it is neither."""
    if data is None or isinstance(data, (str, os.PathLike)):
        return False
    if hasattr(data, "__getitem__") and not isinstance(data, Mapping):
        return True
    kind = type(data).__name__
    path = "a path, or " if name == "data" else ""
    raise InputError(f"{name} must be {path}a data set with items by index such as a torch Dataset, not {kind}")


def _as_yaml(value: Any, setting: Setting) -> Any:
    """Return an argument in the types of YAML: a path as text, a tuple or a single path as a list."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if typing.get_origin(setting.kind) is not list:
        return value
    several = list(value) if isinstance(value, (list, tuple)) else [value] if isinstance(value, str) else value
    paths = isinstance(several, list)
    return [os.fspath(one) if isinstance(one, os.PathLike) else one for one in several] if paths else several


@contextmanager
def python_call() -> Iterator[None]:
    """Run the work of a function: the log is visible, messages are in Python's words, and signals are as before.

    Raises:
        InputError: a mistake of the user, or a limit of the machine such as a full disk or memory.
        StoppedByUser: Ctrl-C, or an interrupted cell, while training ran.
    """
    with _signals_restored(), visible_log():
        try:
            yield
        except (InputError, StoppedByUser) as error:
            error.args = tuple(in_python(one) if isinstance(one, str) else one for one in error.args)
            raise
        except SystemExit as error:  # Lightning turns Ctrl-C into sys.exit(1) once its trainer runs
            stop = error.__context__
            if not isinstance(stop, (StoppedByUser, KeyboardInterrupt)):
                raise
            raise StoppedByUser(in_python(str(stop) or "stopped before anything was saved")) from None
        except (OSError, MemoryError, RuntimeError) as error:
            limit = limit_of_machine(error)
            if limit is None:
                raise
            raise InputError(in_python(str(limit))) from error


@contextmanager
def _signals_restored() -> Iterator[None]:
    in_main_thread = threading.current_thread() is threading.main_thread()  # only this thread may set handlers
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if in_main_thread and handler is not None:
                signal.signal(number, handler)


class PythonHandler(ProgressSafeHandler):
    """Writes messages in Python's words above any progress bar.

    Where the root logger has handlers, they still get the messages that its level admits, and this handler writes the
    rest: notebooks such as Colab's come with a handler for warnings.
    """

    def __init__(self) -> None:
        super().__init__()
        root = logging.getLogger()
        self.others = root if root.handlers else None
        self.admitted = root.level

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message, or pass it on."""
        if self.others is not None and record.levelno >= self.admitted:
            self.others.callHandlers(record)
        else:
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return the message of a record."""
        return in_python(super().format(record))


@contextmanager
def visible_log() -> Iterator[None]:
    """Show the log of this package, and silence hints of libraries about code; everything is as before at the end.

    A user has configured the log who has set the level of the package's logger, or has handlers that get its
    information. It is left alone then.
    """
    ours = logging.getLogger("dino_detector")
    levels = {logging.getLogger(name): logging.WARNING for name in LIBRARIES} | {logging.getLogger("urllib3"): 40}
    before = {logger: logger.level for logger in levels}
    configured = ours.hasHandlers() and (ours.level or ours.handlers or ours.isEnabledFor(logging.INFO))
    handler = None if configured else PythonHandler()
    propagates = ours.propagate
    absent = [name for name in QUIET if name not in os.environ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", module="PIL")  # damaged metadata do not matter here
        try:
            if handler is not None:
                before[ours] = ours.level
                levels[ours] = ours.level or logging.INFO
                ours.addHandler(handler)
                ours.propagate = False  # the handler passes on what other handlers get
            for logger, level in levels.items():
                logger.setLevel(level)
            os.environ.update({name: QUIET[name] for name in absent})
            yield
        finally:
            for logger, level in before.items():
                logger.setLevel(level)
            if handler is not None:
                ours.removeHandler(handler)
                ours.propagate = propagates
            for name in absent:
                os.environ.pop(name, None)


def progress(total: int, *, unit: str) -> Any:
    """Return a progress bar for a notebook or a terminal; a bar of no steps is invisible."""
    return bars()(total=total, unit=f" {unit}", disable=not total, leave=False)


def short_errors(function: Function) -> Function:
    """Let a function raise errors of the user without the frames below it.

    A notebook keeps the frames of the last error, and they would keep the network and its memory.
    """

    @functools.wraps(function)
    def call(*args: Any, **settings: Any) -> Any:
        try:
            return function(*args, **settings)
        except (InputError, StoppedByUser) as error:
            stop = error
        stop.__traceback__ = stop.__context__ = stop.__cause__ = None
        raise stop

    return call


def documented(*groups: type, shown: Collection[str] | None = None) -> Callable[[Function], Function]:
    """Give a function of keyword arguments a signature and a docstring with each setting, its default and its help.

    Args:
        groups: dataclasses of the settings.
        shown: the settings that the function reads; None means all.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        taken = {one.name for one in own}
        settings, lines = [], ["Settings:"]
        for group in parts_of(groups):
            helps = texts_of(group)
            for name, setting in settings_of(group).items():
                if name in taken or (shown is not None and name not in shown):
                    continue
                default = inspect.Parameter.empty if setting.required else _shown_default(setting.default())
                kind = kind_text(setting)
                settings.append(
                    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Words(kind))
                )
                value = "" if setting.required else f" = {default!r}"
                lines += [f"    {name}: {kind}{value}", *_filled(in_python(helps[name]))]
        call = short_errors(function)
        call.__signature__ = signature.replace(parameters=[*own, *settings])
        call.__doc__ = f"{inspect.cleandoc(function.__doc__)}\n\n" + "\n".join(lines)
        return call

    return decorate


def _shown_default(value: Any) -> Any:
    """Return a default as an argument."""
    return value.height if isinstance(value, ImageSize) and len(set(value)) == 1 else plain(value)


class Words(str):
    """An annotation that `help` shows without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def kind_text(setting: Setting) -> str:
    """Return the type that an argument may have, in Python's words."""
    text = _kind_text(setting.kind)
    return f"{text} | None" if setting.nullable else text


def _kind_text(kind: Any) -> str:
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, inner))}]".replace("'", '"')
    if origin is Path:
        return "PathLike"
    if origin is ImageSize:
        return "Size"
    if origin is list:
        single = "PathLike | " if inner[0] is Path else ""
        return f"{single}Sequence[{_kind_text(inner[0])}]"
    if origin is dict:
        return f"Mapping[str, {_kind_text(inner[1])}]"
    return "Any" if origin is Any else origin.__name__


@functools.cache
def texts_of(group: type) -> dict[str, str]:
    """Return the help of each setting of a dataclass."""
    documentation = docstring_parser.parse_from_object(group)
    return {param.arg_name: " ".join(param.description.split()) for param in documentation.params}


def _filled(text: str) -> list[str]:
    return textwrap.wrap(text, 112, initial_indent=" " * 8, subsequent_indent=" " * 8)
