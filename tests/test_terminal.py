"""Colours and encodings of a terminal, a file and a pipe."""

from __future__ import annotations

import io
import logging
import sys
import types
import warnings

import pytest

from dino_detector import terminal
from dino_detector.commands.frame import ProgressSafeHandler, run_command
from dino_detector.plain_text import table
from dino_detector.terminal import has_colours, is_live, with_headings

pytestmark = pytest.mark.fast


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.mark.parametrize(
    ("kernel", "widgets", "module"),
    [(False, True, "tqdm.std"), (True, False, "tqdm.std"), (True, True, "tqdm.notebook")],
)
def test_a_bar_is_a_widget_in_a_notebook_with_ipywidgets_alone(
    kernel: bool, widgets: bool, module: str, monkeypatch: pytest.MonkeyPatch
):
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object() if kernel else None)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setattr(terminal, "find_spec", lambda _: object() if widgets else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tqdm.notebook where ipywidgets is absent
        assert terminal.bars().__module__ == module


@pytest.mark.parametrize(
    ("settings", "in_terminal", "in_file"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),  # no-color.org: an empty value does not count
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_colours_follow_the_terminal_and_the_wishes_of_the_user(
    settings: dict[str, str], in_terminal: bool, in_file: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert (has_colours(Terminal()), has_colours(io.StringIO())) == (in_terminal, in_file)


def test_a_dumb_terminal_gets_no_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_live(Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert not is_live(Terminal())


def test_headings_are_bold_in_a_terminal_alone() -> None:
    text = "Counts\na  1\n\nClasses\nb  2\n\nNothing else was found."
    assert with_headings(text, io.StringIO()) == text
    shown = with_headings(text, Terminal())
    assert shown == "\033[1mCounts\033[0m\na  1\n\n\033[1mClasses\033[0m\nb  2\n\nNothing else was found."


def test_a_table_is_aligned_where_the_encoding_lacks_a_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", errors="backslashreplace"))
    print("\n".join(table([["class", "boxes"], ["café", "12"], ["dog", "3"]])))
    sys.stdout.flush()
    lines = written.getvalue().decode("ascii").splitlines()
    assert lines[1].startswith(r"caf\xe9")
    assert {len(line) for line in lines} == {len(lines[0])}, "numbers end in one column"


@pytest.mark.parametrize(
    ("stream", "wanted"), [(Terminal, "\033[33mwarning:\033[0m few"), (io.StringIO, "warning: few")]
)
def test_a_warning_is_yellow_in_a_terminal_and_plain_in_a_file(
    stream: type[io.StringIO], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", stream())
    ProgressSafeHandler().emit(logging.LogRecord("x", logging.WARNING, "", 0, "few", None, None))
    assert sys.stdout.getvalue() == f"{wanted}\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    ],
)
def test_memory_that_runs_out_anywhere_is_one_line_with_a_remedy(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise error

    assert run_command(fails) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: out of memory")
    assert shown.count("\n") == 1
    assert "--batch_size" in shown


def test_another_error_of_torch_keeps_its_traceback() -> None:
    def fails() -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        run_command(fails)
