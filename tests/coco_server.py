"""A local HTTP server that serves files from memory and misbehaves on request."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import threading
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image


class Request(NamedTuple):
    """A request of a client; ``start`` is the first byte of its Range, or 0 without a Range."""

    path: str
    start: int


class Handler(BaseHTTPRequestHandler):
    """Answer one request with the next behaviour that is planned for its path."""

    server: _Server

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        self.request_seen = Request(path, int(asked[1]) if asked else 0)
        self.coco.requests.append(self.request_seen)
        planned = self.coco.plan[path]
        behaviour = planned.pop(0) if planned else plain
        try:
            if path not in self.coco.files and behaviour is plain:
                self.answer(404, b"there is no such file")
            else:
                behaviour(self, self.coco.files.get(path, b""))
        except ConnectionError:
            pass  # the client has gone, as some tests intend

    @property
    def coco(self) -> CocoServer:
        return self.server.coco

    def answer(
        self, status: int, body: bytes, *, send: int | None = None, length: int | None = -1, **headers: str
    ) -> None:
        """Announce ``length`` bytes (-1: the real number; None: no length), and send ``send`` bytes."""
        self.close_connection = True
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length == -1 else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        for start in range(0, len(body[:send]), 8192):
            piece = body[:send][start : start + 8192]
            self.wfile.write(piece)
            self.coco.served[self.request_seen.path] += len(piece)
            if self.coco.seconds_per_piece:
                time.sleep(self.coco.seconds_per_piece)

    def serve(self, content: bytes, *, send: int | None = None) -> None:
        """Serve a file with ranges, like a good server, or only the first ``send`` bytes of it."""
        start = self.request_seen.start
        if start >= len(content) > 0:
            self.answer(416, b"", Content_Range=f"bytes */{len(content)}")
        elif start:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.answer(206, content[start:], send=send, Content_Range=span)
        else:
            self.answer(200, content, send=send, Accept_Ranges="bytes")

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    coco: CocoServer


Behaviour = Callable[[Handler, bytes], None]


def plain(handler: Handler, content: bytes) -> None:
    handler.serve(content)


def drop(after: int) -> Behaviour:
    """Close the connection after this number of bytes of the body."""
    return lambda handler, content: handler.serve(content, send=after)


def stall(after: int, seconds: float) -> Behaviour:
    """Pause for a while after this number of bytes."""

    def behave(handler: Handler, content: bytes) -> None:
        handler.serve(content, send=after)
        handler.wfile.flush()
        time.sleep(seconds)

    return behave


def status(code: int, **headers: str) -> Behaviour:
    return lambda handler, content: handler.answer(code, b"an error page", **headers)


def web_page(handler: Handler, content: bytes) -> None:
    page = b"<html>Please log in</html>"
    handler.answer(200, page + b" " * (len(content) - len(page)), Content_Type="text/html; charset=utf-8")


def body(other: bytes) -> Behaviour:
    """Serve other bytes in place of the file, in a regular response."""
    return lambda handler, content: handler.serve(other)


def ignore_range(handler: Handler, content: bytes) -> None:
    handler.answer(200, content)


def wrong_range(handler: Handler, content: bytes) -> None:
    """Answer with the start of the file, whatever range was requested."""
    span = f"bytes 0-{len(content) - 1}/{len(content)}"
    handler.answer(206, content, Content_Range=span)


def lying_range(handler: Handler, content: bytes) -> None:
    """Send the start of the file and claim that it is the requested range."""
    start = handler.request_seen.start
    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
    handler.answer(206, content[: len(content) - start], Content_Range=span)


def without_length(handler: Handler, content: bytes) -> None:
    handler.answer(200, content, length=None)


def with_more(handler: Handler, content: bytes) -> None:
    """Send more bytes than announced."""
    handler.answer(200, content + b"more than that", length=len(content))


def gzipped(handler: Handler, content: bytes) -> None:
    handler.answer(200, gzip.compress(content), Content_Encoding="gzip")


def redirect(handler: Handler, content: bytes) -> None:
    handler.answer(302, b"", Location=f"/elsewhere/{handler.request_seen.path}")


class CocoServer:
    """Serves files on 127.0.0.1; a context manager.

    Attributes:
        files: content by path, such as ``zips/val2017.zip``.
        plan: behaviours for the next requests for a path, in order; later requests get a good response.
        requests: all requests so far.
        served: bytes of bodies that were sent, by path.
        seconds_per_piece: how long each 8 kB takes.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.plan: dict[str, list[Behaviour]] = defaultdict(list)
        self.requests: list[Request] = []
        self.served: dict[str, int] = defaultdict(int)
        self.seconds_per_piece = 0.0
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.coco = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> CocoServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def starts(self, path: str) -> list[int]:
        """Return the first byte of each request for a path."""
        return [request.start for request in self.requests if request.path == path]

    def write_checksums(self, path: Path) -> Path:
        """Write the output of sha256sum for the archives."""
        path.write_text(
            "".join(
                f"{hashlib.sha256(content).hexdigest()}  {name}\n"
                for name, content in self.files.items()
                if name.endswith(".zip")
            )
        )
        return path

    def add_coco(self, images: int = 4) -> None:
        """Serve a few COCO images for each split, as archives and one by one."""
        listings: dict[str, bytes] = {}
        for split in ("train", "val", "test"):
            pictures = {f"{number:012d}.jpg": jpeg(number) for number in range(images)}
            self.files |= {f"{split}2017/{name}": content for name, content in pictures.items()}
            self.files[f"zips/{split}2017.zip"] = zipped({f"{split}2017/{n}": c for n, c in pictures.items()})
            listings[split] = json.dumps({"images": [{"file_name": name} for name in pictures]}).encode()
        self.files["annotations/annotations_trainval2017.zip"] = zipped(
            {
                "annotations/instances_train2017.json": listings["train"],
                "annotations/instances_val2017.json": listings["val"],
                "annotations/captions_val2017.json": b"{}",
            }
        )
        self.files["annotations/image_info_test2017.zip"] = zipped(
            {
                "annotations/image_info_test2017.json": listings["test"],
                "annotations/image_info_test-dev2017.json": listings["test"],
            }
        )

    def add_tree(self, root: Path) -> None:
        """Serve a COCO folder on disk in the same way as `add_coco`."""
        for split in ("train", "val", "test"):
            pictures = {f"{split}2017/{file.name}": file.read_bytes() for file in (root / f"{split}2017").iterdir()}
            self.files |= pictures | {f"zips/{split}2017.zip": zipped(pictures)}
        for archive, pattern in (("annotations_trainval2017", "instances_*"), ("image_info_test2017", "image_info_*")):
            files = {f"annotations/{file.name}": file.read_bytes() for file in (root / "annotations").glob(pattern)}
            self.files[f"annotations/{archive}.zip"] = zipped(files)


def jpeg(seed: int) -> bytes:
    """Return a JPEG of noise, about 8 kB."""
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()


def zipped(files: Mapping[str, bytes], *, method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=method)
    return file.getvalue()
