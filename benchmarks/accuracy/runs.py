"""Training runs in separate processes: start them, measure their memory, and score their detections."""

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
from benchmarks.common.runs import environment, require_equal
from dino_detector.errors import InputError
from dino_detector.storage.files import write_whole

RESULT = "result.json"
BETWEEN_SAMPLES = 4.0
"""seconds between two samples of the memory"""
LAST_LINES = 15
"""lines of the log that an error quotes"""


def finished(job: Job) -> dict[str, Any] | None:
    """Return the result that an earlier run of the same job left, or None.

    Raises:
        InputError: the folder has the result of another job.
    """
    path = Path(job.folder, RESULT)
    if not path.exists():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    require_equal(result["job"], job.to_json(), place=path, folder=Path(job.folder))
    return result


def run(job: Job, *, python: Path, module: str, threads: int) -> dict[str, Any]:
    """Train in a separate process, score the evaluations, and write and return the contents of ``result.json``.

    Args:
        job: the run; its folder must not exist yet.
        python: interpreter of the environment that has the system.
        module: name of the system's module in this package.
        threads: number of threads that the process computes with.

    Raises:
        InputError: the process failed; the message quotes the end of its log.
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
            process.kill()  # after an interruption of this program
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
    """Return the busy time of all processors since boot, in seconds."""
    times = psutil.cpu_times()
    return sum(getattr(times, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq"))


def _seconds_of_children() -> float:
    """Return the processor time of the child processes that have ended, in seconds."""
    times = os.times()
    return times.children_user + times.children_system


def watch_memory(process: subprocess.Popen) -> int:
    """Wait for a process to end; return the peak memory of the process and its children together, in bytes."""
    peak = 0
    while process.poll() is None:
        peak = max(peak, memory_of_tree(process.pid))
        time.sleep(BETWEEN_SAMPLES)
    return peak


def memory_of_tree(pid: int) -> int:
    """Return the resident bytes of a process and its children; on Linux, shared memory counts once."""
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
            continue  # the process has just ended
    return total
