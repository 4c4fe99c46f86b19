"""Resume a training run from every state in which a kill can leave its folder, and print the differences.

    python killed_runs.py CONFIG FOLDER [FLAGS ...]

A kill stops a program between two of its file operations. One run therefore copies its folder before every operation.
When it has ended, the copies are resumed and compared with the folder of the whole run. A resumed run begins with
`recover`; where that gives the same files, one copy stands for all. Every run is a fork of this process, so a run
imports nothing again.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import gc
import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
import yaml

from dino_detector.commands.arguments import parse_settings
from dino_detector.commands.frame import run_command
from dino_detector.config import Config
from dino_detector.storage.file_set import recover
from dino_detector.training.fit import fit
from dino_detector.training.run_files import LAST

EVENTS = {"os.rename": 1, "os.link": 1, "os.remove": 0, "os.mkdir": 0, "os.rmdir": 0}
"""Python's audit events of file operations, and the position of the path in their arguments"""
TIMES = {"seconds", "images_per_second", "peak_memory_bytes", "checkpoint", "digest", "output_dir"}
"""entries that differ between runs: times and paths"""


def copy_before_each(folder: Path, copies: Path) -> None:
    """Copy the folder to ``copies/N`` before the N-th operation on a path in it, from 1."""
    done = count(1)
    watched = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal watched
        if not watched:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR)) and (mode is None or set(mode) & set("wxa+"))
        elif event in EVENTS:
            path = arguments[EVENTS[event]]
            writes = event != "os.mkdir" or not Path(path).is_dir()
        else:
            return
        if writes and str(path).startswith(str(folder)):
            copy = copies / str(next(done))
            watched = False
            shutil.copytree(folder, copy) if folder.exists() else copy.mkdir()
            watched = True

    sys.addaudithook(hook)


def run(config: Config, folder: Path, *, before: Callable[[], None] = lambda: None) -> int:
    """Train in a fork, from the last checkpoint if there is one, and return the exit code."""
    child = os.fork()
    if child == 0:
        log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        torch.set_num_threads(1)
        last = folder / LAST
        places = {"output_dir": folder, "checkpoint": last if last.exists() else None}
        here = replace(config, training=replace(config.training, **places))
        before()
        code = run_command(lambda: int(fit(here) is None))
        Path(f"{folder}.modules").write_text("\n".join(sys.modules))
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@functools.lru_cache(100)  # reads the files of the whole run only once
def contents(path: Path) -> Any:
    """Return the content of a file, without times and paths."""
    if path.suffix == ".pth":
        return comparable(torch.load(path, weights_only=True))
    if path.suffix == ".json":
        return comparable(json.loads(path.read_text()))
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return comparable(list(csv.DictReader(file)))
    return comparable(yaml.safe_load(path.read_text()))


def comparable(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, dict):
        return {str(key): comparable(item) for key, item in value.items() if key not in TIMES}
    return [comparable(item) for item in value] if isinstance(value, list | tuple) else value


def differences(folder: Path, wanted: Path) -> list[str]:
    """Return the files that exist in only one of two folders, or differ."""
    names = [
        {str(path.relative_to(each)) for path in each.rglob("*") if path.is_file() and not is_set_aside(path)}
        for each in (folder, wanted)
    ]
    apart = sorted(names[0] ^ names[1])
    return apart + [name for name in sorted(names[0] & names[1]) if contents(folder / name) != contents(wanted / name)]


def is_set_aside(path: Path) -> bool:
    """Return whether a file belongs to a run that was killed before its first checkpoint and then started again."""
    return path.parent.name.startswith("earlier_")


def found_by_a_resumed_run(copy: Path) -> tuple[bool, frozenset[tuple[str, bytes]]]:
    """Return whether there is a checkpoint, and the files after recovery."""
    place = copy.with_name("recovered")
    shutil.copytree(copy, place)
    recover(place)
    files = {(str(path.relative_to(place)), path.read_bytes()) for path in place.rglob("*") if path.is_file()}
    shutil.rmtree(place)
    return (copy / LAST).exists(), frozenset(files)


def compare_all(config: Config, folder: Path) -> dict[str, Any]:
    """Resume the copies; return the number of operations, the resumed ones and the differences after each."""
    whole, copies = folder / "whole", folder / "copies"
    copies.mkdir()
    assert run(config, whole, before=lambda: copy_before_each(whole, copies)) == 0, log_of(whole)
    for name in Path(f"{whole}.modules").read_text().split():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # otherwise every run would scan all objects of the libraries
    alike: dict[Any, list[int]] = {}
    operations = len(list(copies.iterdir()))
    for number in range(1, operations + 1):
        alike.setdefault(found_by_a_resumed_run(copies / str(number)), []).append(number)
    resumed = [numbers[len(numbers) // 2] for numbers in alike.values()]
    wrong = {}
    for number in resumed:
        copy = copies / str(number)
        code = run(config, copy)
        finished = code == 2 and "has been trained to epoch" in log_of(copy)
        if code and not finished:
            wrong[number] = [f"exit code {code}", log_of(copy)[-500:]]
        elif apart := differences(copy, whole):
            wrong[number] = apart
    return {"operations": operations, "resumed": resumed, "wrong": wrong}


def log_of(folder: Path) -> str:
    return Path(f"{folder}.log").read_text()


if __name__ == "__main__":
    settings, _ = parse_settings([Config], ["--config", sys.argv[1], *sys.argv[3:]], prog="killed_runs.py")
    print(json.dumps(compare_all(settings, Path(sys.argv[2]))))
