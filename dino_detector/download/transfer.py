"""Files over HTTP: one archive, resumed after a break, or single images of an archive that holds many."""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import requests
from PIL import Image

from dino_detector.download.archives import safe_name
from dino_detector.download.disk import require_space
from dino_detector.download.http import CONNECTIONS, UselessAnswer, answered, keep_trying, new_session
from dino_detector.download.progress import progress
from dino_detector.errors import InputError
from dino_detector.storage.files import explained_writing, remove_temporary_files, writing

log = logging.getLogger(__name__)

CHUNK = 1 << 20
ZIP = b"PK"
"""first bytes of a zip archive"""
OTHER_ARCHIVE = "give another mirror with --coco_url, or the checksums of other archives with --coco_checksums"
LARGEST = 100_000_000
"""most bytes of an image; images of COCO have less than one million"""


def fetch_images(address: str, names: Sequence[str], folder: Path) -> None:
    """Fetch JPEG images ``address/name`` to a folder, several at once. Each is stored after it has been decoded.

    Raises:
        InputError: a name leads out of the folder, an image can't be fetched, or the disk is full. The first error
            stops the other downloads; images that have arrived stay.
    """
    for name in names:
        try:
            safe_name(name)
        except ValueError as error:
            raise InputError(f"{folder}: image {error}; correct the annotations") from None
    with explained_writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_temporary_files(folder)
    with (
        new_session() as session,
        progress(f"fetching images of {folder.name}", total=len(names), unit="images") as bar,
        ThreadPoolExecutor(CONNECTIONS) as threads,
    ):

        def fetch(name: str) -> None:
            url = f"{address}/{quote(name)}"
            keep_trying(url, lambda: _fetch_image(session, url, folder / name))

        for _ in threads.map(fetch, names):
            bar.update()


def _fetch_image(session: requests.Session, url: str, path: Path) -> None:
    with answered(session, url) as response:
        content = response.raw.read(LARGEST + 1, decode_content=True)
    if len(content) > LARGEST:
        raise InputError(f"{url}: is larger than {LARGEST:,} bytes; correct --coco_url")
    try:
        with Image.open(BytesIO(content), formats=["JPEG"]) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UselessAnswer("the answer cannot be decoded as a JPEG image") from error
    with writing(path, sync=False) as file:
        file.write(content)


def fetch_file(url: str, part: Path, *, checksum: str, size: int | None) -> None:
    """Fetch a zip archive to ``part``. Bytes that an earlier call left there, even from another mirror, are kept.

    An archive with a wrong checksum is removed and fetched once more.

    Args:
        url: address of the archive.
        part: the file to write.
        checksum: SHA-256 of the archive.
        size: bytes of the archive; None if any size is right.

    Raises:
        InputError: the archive can't be fetched, it has another size or checksum, or the disk has no room for the
            archive and its files.
    """
    with new_session() as session:
        for _ in range(2):
            _Transfer(session, url, part, size).complete()
            log.info("checking %s", part)
            with part.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == checksum:
                    return
            part.unlink()
            log.warning("%s: the file that arrived has a wrong checksum and is removed", url)
    raise InputError(f"{url}: does not have the checksum {checksum}, also when fetched again; {OTHER_ARCHIVE}")


class _Transfer:
    """The attempts to complete a part file by range requests, as Requests has no resume."""

    def __init__(self, session: requests.Session, url: str, part: Path, size: int | None) -> None:
        self.session, self.url, self.part, self.size = session, url, part, size
        self.total = size  # bytes of the file on the server, None until they are known
        self.ranges = True  # ask for the missing bytes only; False after an answer with other bytes

    def complete(self) -> None:
        """Fetch the bytes that the part file lacks."""
        with explained_writing(self.part):
            self.part.touch()
        self._require_space()
        with progress(f"fetching {self.part.stem}", total=self.total, done=self._held()) as self.bar:
            if self.total is None or self._held() < self.total:
                keep_trying(self.url, self._attempt, arrived=self._held)

    def _held(self) -> int:
        return self.part.stat().st_size

    def _require_space(self) -> None:
        """Require room for the archive and its unpacked files, which have about the same size."""
        if self.total is not None:
            require_space(self.part.parent, 2 * self.total - self._held(), f"{self.part.stem} with its files")

    def _attempt(self) -> None:
        """Append the missing bytes of an answer to the part file, and skip the others."""
        held = self._held()
        with answered(self.session, self.url, start=held if self.ranges else 0) as response:
            start = position = self._first_byte(response, held)
            with explained_writing(self.part), self.part.open("ab") as file:
                while position < (self.total or math.inf):
                    # read1 returns what has arrived, so nothing is lost if the connection breaks.
                    chunk = response.raw.read1(CHUNK, decode_content=True)
                    if not chunk:
                        break
                    if position == 0 and not chunk.startswith(ZIP[: len(chunk)]):
                        raise UselessAnswer("the answer is not a zip archive")
                    missing = chunk[max(held - position, 0) :]
                    file.write(missing)
                    file.flush()
                    self.bar.update(len(missing))
                    position += len(chunk)
        if position < (self.total or start + 1):
            raise UselessAnswer("the answer ended early")

    def _first_byte(self, response: requests.Response, held: int) -> int:
        """Check the headers of an answer, and return the position of its first byte in the file."""
        encoded = response.headers.get("Content-Encoding", "identity") != "identity"
        first, total = 0, "*" if encoded else response.headers.get("Content-Length", "*")
        self.ranges = True
        if response.status_code != 200:
            span = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
            group = 2 if response.status_code == 416 else 1  # 416 with the size of the part file: nothing is missing
            self.ranges = not encoded and span is not None and span[group] == str(held)
            if not self.ranges:
                raise UselessAnswer("the answer is not the missing part of the file")
            first, total = held, span[2]
        if total.isdecimal():
            if self.size not in (None, int(total)):
                raise InputError(
                    f"{self.url}: has {int(total):,} bytes, but COCO's own archive has {self.size:,}; {OTHER_ARCHIVE}"
                )
            self.total = self.bar.total = int(total)
            self._require_space()
        return first
