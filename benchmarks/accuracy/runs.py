"""Runs in processes of their own: what was asked, how much memory it took, and where it failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.accuracy.job import Job
from benchmarks.accuracy.recorder import RECORD
from benchmarks.accuracy.scoring import score
from benchmarks.common.machine import revision
from dino_detector.errors import InputError
from dino_detector.storage.files import write_whole

RESULT = "result.json"
BETWEEN_SAMPLES = 4.0
"""seconds between two looks at the memory"""
LAST_LINES = 15
ROOT = Path(__file__).parents[2]


def finished(job: Job) -> dict[str, Any] | None:
    """The result of this very job where an earlier call has left it.

    Raises:
        InputError: the folder has the result of another job.
    """
    path = Path(job.folder, RESULT)
    if not path.exists():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    require_equal(result["job"], job.to_json(), place=path, folder=Path(job.folder))
    return result


def require_equal(done: dict[str, Any], asked: dict[str, Any], *, place: Path, folder: Path) -> None:
    """Raise `InputError` where the settings of a finished run in ``folder`` are not those that are asked for."""
    different = sorted(name for name in done.keys() | asked.keys() if done.get(name) != asked.get(name))
    if different:
        raise InputError(
            f"{place}: this run had another {', '.join(different)}; give another --output, or remove {folder}"
        )


def run(job: Job, *, python: Path, module: str, threads: int) -> dict[str, Any]:
    """Train in a process of its own, score its evaluations, and write ``result.json``, which is returned.

    Args:
        job: what to do; its folder is emptied of an earlier try by the caller.
        python: interpreter of the environment that has the system.
        module: the system's module in this package.
        threads: threads of the processor that a process computes with.

    Raises:
        InputError: the process failed; with the last lines of its log.
    """
    folder = Path(job.folder)
    folder.mkdir(parents=True)
    path = folder / "job.json"
    job.write(path)
    started, busy_before, own_before = time.monotonic(), _busy_seconds(), _seconds_of_children()
    log = folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(python), "-m", f"benchmarks.accuracy.{module}", str(path)],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment(threads),
        )
        try:
            peak = watch_memory(process)
        finally:
            process.kill()  # where this program is interrupted
            process.wait()
    if process.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-LAST_LINES:]
        raise InputError(f"{job.system} failed; the end of {log}: " + " | ".join(lines))
    elapsed = time.monotonic() - started
    others = _busy_seconds() - busy_before - (_seconds_of_children() - own_before)
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    result = {
        "job": job.to_json(),
        **record,
        "evaluations": score(record["evaluations"], folder=folder, annotations=Path(job.val_annotations)),
        "peak_memory_bytes": peak,
        "wall_seconds": round(elapsed, 1),
        "processor_share_of_others": round(max(0.0, others) / elapsed / psutil.cpu_count(), 3),
        "revision": revision(),
    }
    write_whole(folder / RESULT, json.dumps(result, indent=2) + "\n")
    return result


def _busy_seconds() -> float:
    """Seconds that all processors of the machine have worked, together."""
    times = psutil.cpu_times()
    return sum(getattr(times, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq"))


def _seconds_of_children() -> float:
    """Processor seconds of the processes that this one has started and that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def watch_memory(process: subprocess.Popen) -> int:
    """Wait until a process ends; returns the peak of the memory that it and its children had together, in bytes."""
    peak = 0
    while process.poll() is None:
        peak = max(peak, memory_of_tree(process.pid))
        time.sleep(BETWEEN_SAMPLES)
    return peak


def memory_of_tree(pid: int) -> int:
    """Resident bytes of a process and its children; what they share counts once, where the system tells (Linux)."""
    total = 0
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    for process in processes:
        try:
            total += process.memory_full_info().pss if sys.platform == "linux" else process.memory_info().rss
        except psutil.Error:
            continue  # it has just ended
    return total


def environment(threads: int) -> dict[str, str]:
    """Variables of a process that finds the modules here, computes with so many threads and asks no hub."""
    places = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(place for place in places if place),
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",  # no system is to find pretrained weights
    }
