"""A Python whose processes begin with the libraries imported: forks of one process, where importing takes seconds.

    warm_python -m MODULE [WORDS ...]      warm_python SCRIPT [WORDS ...]

The test session starts `serve`. The program `warm_python` (`REQUEST`) stands in for ``python``: it hands its words,
environment, folder and streams to the server, forwards signals to the process group of the fork, and ends as it ends.
The fork has the parent and the mounted file systems of the program.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import locale
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from lightning.fabric.utilities.rank_zero import rank_zero_only

IMPORTED = ("dino_detector.training.fit", "dino_detector.commands.train", "torch.utils.tensorboard", "hotcoco")
REQUEST = f"""#!{sys.executable} -IS
import array, json, os, signal, socket, sys
def forward(number, frame):
    try:
        os.killpg(fork, number)
    except ProcessLookupError:
        pass  # it has ended
server = socket.socket(socket.AF_UNIX)
server.connect(os.path.join(os.path.dirname(sys.argv[0]), "socket"))
words = json.dumps([sys.argv, dict(os.environ), os.getcwd()]).encode()
streams = array.array("i", [0, 1, 2])
server.sendmsg([len(words).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
server.sendall(words)
fork = int.from_bytes(server.recv(8), "big")
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, forward)
status = os.waitstatus_to_exitcode(int.from_bytes(server.recv(8), "big"))
if status < 0:
    if -status != signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@contextmanager
def serve_warm_python(folder: Path) -> Iterator[Path]:
    """Start a server, and give the path of a program that takes the place of ``python``."""
    program, address = folder / "python", folder / "socket"
    program.write_text(REQUEST)
    program.chmod(0o755)
    words = [sys.executable, __file__, address]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE) as server:
        assert server.stdout.readline() == b"ready\n"
        yield program
        server.terminate()


def serve(address: str) -> None:
    """Fork a process for each request, until a signal ends the server or the program that started it has ended."""
    session = os.getppid()
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the forks need not look at the objects of the libraries
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    ended, wakes = socket.socketpair()
    for each in (ended, wakes):
        each.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    waiting: dict[int, socket.socket] = {}
    print("ready", flush=True)
    with selectors.DefaultSelector() as selector:
        for source in (listener, ended):
            selector.register(source, selectors.EVENT_READ)
        while os.getppid() == session:
            ready = {key.fileobj for key, _ in selector.select(timeout=5)}
            if ended in ready:
                ended.recv(1000)
                report_ends(waiting)
            if listener in ready:
                requester, _ = listener.accept()
                request, streams = receive(requester)
                fork = os.fork()
                if fork == 0:
                    signal.set_wakeup_fd(-1)
                    return run(*request, streams, stand_in(requester))
                for stream in streams:
                    os.close(stream)
                requester.sendall(fork.to_bytes(8, "big"))
                waiting[fork] = requester


def report_ends(waiting: dict[int, socket.socket]) -> None:
    """Tell each requester the status of its fork that has ended."""
    while waiting:
        fork, status = os.waitpid(-1, os.WNOHANG)
        if fork == 0:
            return
        with waiting.pop(fork) as requester:
            requester.sendall(status.to_bytes(8, "big"))


def receive(requester: socket.socket) -> tuple[list[Any], list[int]]:
    """Return words, environment and folder, and the numbers of the three streams."""
    length, streams, _, _ = socket.recv_fds(requester, 8, 3)
    content = b""
    while len(content) < int.from_bytes(length, "big"):
        content += requester.recv(1 << 16)
    return json.loads(content), streams


def stand_in(requester: socket.socket) -> int:
    """Return the number of the process that sent a request."""
    return struct.unpack("3i", requester.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[0]


def take_the_place_of(program: int) -> None:
    """See the file systems of a process, and its parent in place of the own."""
    with open(f"/proc/{program}/ns/mnt") as mounts:  # noqa: PTH123
        ctypes.CDLL(None).setns(mounts.fileno(), 0)  # fails without rights, where the file systems are the same anyway
    own, own_parent = os.getpid(), os.getppid

    def parent() -> int:
        if os.getpid() != own:  # a data worker
            return own_parent()
        return int(Path(f"/proc/{program}/stat").read_text().rpartition(")")[2].split()[1])

    os.getppid = parent


def run(words: list[str], environment: dict[str, str], folder: str, streams: list[int], program: int) -> None:
    """Become the process of the request, which ends as a program does."""
    os.setsid()
    take_the_place_of(program)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    locale.setlocale(locale.LC_CTYPE, "")
    encoding = environment.get("PYTHONIOENCODING")
    sys.stdout, sys.stderr = (open(number, "w", 1, encoding) for number in (1, 2))  # noqa: PTH123, SIM115
    rank_zero_only.rank = int(environment.get("LOCAL_RANK", 0))  # libraries read these once, when they are imported
    constants.HF_HUB_CACHE = environment.get("HF_HUB_CACHE", constants.HF_HUB_CACHE)
    constants.HF_HUB_OFFLINE = environment.get("HF_HUB_OFFLINE") == "1"
    os.chdir(folder)
    sys.executable = words[0]
    words = [word for word in words if word != "-u"]
    sys.argv = words[2:] if words[1] == "-m" else words[1:]
    own = folder if words[1] == "-m" else str(Path(words[1]).parent)
    sys.path[:1] = [own, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    if words[1] == "-m":
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(words[1], run_name="__main__")


if __name__ == "__main__":
    serve(sys.argv[1])
