"""One archive over HTTP, whatever happens on the way: resumed, checked, and never accepted when it is wrong."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import requests
import urllib3

from dino_detector.download.checksums import Checksum
from dino_detector.download.disk import as_size, require_space, written
from dino_detector.download.progress import Progress
from dino_detector.download.retry import Attempts, FetchError, Patience, check_status, explain
from dino_detector.errors import InputError

log = logging.getLogger(__name__)

CHUNK = 1 << 20
ZIP = b"PK"
"""how every zip archive begins; an error page that claims to be one must not replace what has arrived"""


class Record(NamedTuple):
    """What a part file is a part of, kept beside it so that another process can go on.

    Attributes:
        url: where it came from.
        validator: strong ETag or date of the file there, for If-Range; empty where the server gave none.
        size: bytes of the whole file; None where the server did not say.
    """

    url: str
    validator: str
    size: int | None

    @classmethod
    def read(cls, part: Path) -> Record:
        """The record of a part file, empty where there is none that can be read."""
        try:
            url, validator, size = json.loads(_record_path(part).read_text())
        except (OSError, ValueError, TypeError):
            return cls("", "", None)
        known = isinstance(url, str) and isinstance(validator, str) and (size is None or type(size) is int)
        return cls(url, validator, size) if known else cls("", "", None)

    def write(self, part: Path) -> None:
        """Put the record beside its part file, at once or not at all."""
        beside = part.with_name(f"{part.name}.json.new")
        beside.write_text(json.dumps(self))
        beside.replace(_record_path(part))


def fetch_file(
    url: str, part: Path, *, checksum: Checksum, size: int | None, copies: int = 1, patience: Patience
) -> None:
    """Fetch a file; ``part`` holds all of it, with the right checksum, once this returns.

    Until then ``part`` holds what has arrived, and the next call goes on from there, in another process and from
    another address too. Wrong bytes are thrown away and fetched once more from the start.

    Args:
        url: the file.
        part: where it is collected.
        checksum: of the whole file.
        size: its bytes, where they are known beforehand.
        copies: how many files of this size the disk must have room for.
        patience: when to try again and when to give up.

    Raises:
        InputError: the host can't be reached, the file is not there, is another one or arrives wrong twice, or the
            disk is full.
    """
    for _ in range(2):
        transfer = _Transfer(url, part, size=size, copies=copies, patience=patience)
        transfer.receive()
        if checksum.matches(part):
            return
        discard(part)
        log.warning("%s: what has arrived has another checksum and is thrown away", url)
    raise InputError(
        f"{url}: has not the checksum {checksum.digits}, also when fetched again from the start; give another mirror "
        "with --coco_url or, where this one serves other archives, their checksums with --coco_checksums"
    )


def discard(part: Path) -> None:
    """Remove a part file and its record."""
    part.unlink(missing_ok=True)
    _record_path(part).unlink(missing_ok=True)


class _Transfer:
    """The attempts at one file, until it has all bytes."""

    def __init__(self, url: str, part: Path, *, size: int | None, copies: int, patience: Patience) -> None:
        self.url, self.part, self.copies, self.patience = url, part, copies, patience
        self.name = url.rsplit("/", 1)[-1]
        self.record = Record.read(part)
        self.pinned = size
        self.size = size if size is not None or self.record.url != url else self.record.size
        self.ranges = True
        self.ended = False

    def receive(self) -> None:
        with written(self.part, self.size or 0):
            self.part.touch()
        if self.size is not None:
            self.require_space()
        if self.pinned is not None and self.held() > self.pinned:
            discard(self.part)
            self.part.touch()
        attempts = Attempts(self.url, self.patience)
        most = self.held()
        with Progress(f"fetching {self.name}", total=self.size, done=most) as progress:
            while not self.ended and self.held() != self.size:
                try:
                    self.attempt(progress)
                except FetchError as error:
                    if self.held() > most:
                        most = self.held()
                        attempts.renew()
                    attempts.failed(error)

    def held(self) -> int:
        return self.part.stat().st_size

    def require_space(self) -> None:
        require_space(self.part.parent, self.copies * self.size - self.held(), self.name)

    def attempt(self, progress: Progress) -> None:
        """Ask for what is missing, or for all where ranges do not work, and store what comes."""
        held = self.held()
        headers = {"Accept-Encoding": "identity"}  # ranges count the bytes that are sent
        if held and self.ranges:
            headers["Range"] = f"bytes={held}-"
            if self.record.url == self.url and self.record.validator:
                headers["If-Range"] = self.record.validator
        try:
            response = requests.get(self.url, headers=headers, stream=True, timeout=self.patience.timeouts)
        except requests.RequestException as error:
            raise explain(error, self.patience) from error
        with response:
            start, record = self.examine(response, held if "Range" in headers else 0)
            self.store(response, start, record, progress)

    def examine(self, response: requests.Response, asked: int) -> tuple[int, Record]:
        """Check the headers of an answer; returns the position of its first byte, and what it is a part of.

        Raises:
            FetchError: the body is of no use.
            InputError: it never will be.
        """
        if response.status_code == 416:
            self.ranges = False
        check_status(response, self.url)
        encoded = response.headers.get("Content-Encoding", "identity") != "identity"
        validator = _validator(response)
        length = response.headers.get("Content-Length", "")
        start, total = 0, int(length) if length.isdecimal() and not encoded else None
        if response.status_code == 206:
            part = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
            if not asked or not part or int(part[1]) != asked or encoded or self.has_changed(validator):
                self.ranges = False
                raise FetchError("the answer is not the part of the file that is missing")
            start, total = asked, None if part[2] == "*" else int(part[2])
        if None not in (total, self.pinned) and total != self.pinned:
            raise InputError(
                f"{self.url}: has {total:,} bytes, but COCO's own archive has {self.pinned:,}; give another mirror "
                "with --coco_url or, where this one serves other archives, their checksums with --coco_checksums"
            )
        if self.pinned is not None or (start and total is None):
            total = self.size
        self.ranges &= not encoded
        if start and self.record.url == self.url:
            validator = validator or self.record.validator
        return start, Record(self.url, validator, total)

    def adopt(self, record: Record) -> None:
        """The part file is, or becomes, a part of this."""
        self.record, self.size = record, record.size
        if self.size is not None:
            self.require_space()
        with written(self.part, 0):
            record.write(self.part)

    def has_changed(self, validator: str) -> bool:
        """Whether a server that should have noticed by If-Range sends a part of another file."""
        known = self.record.validator if self.record.url == self.url else ""
        comparable = known and validator and known.startswith('"') == validator.startswith('"')
        return bool(comparable) and known != validator

    def store(self, response: requests.Response, start: int, record: Record, progress: Progress) -> None:
        """Write what arrives. Bytes that are there already are compared, and replaced from the first difference on.

        So a server that starts at 0 again costs time, but nothing of what was there.
        """
        position = start
        with written(self.part, (record.size or start) - start), self.part.open("r+b") as file:
            file.seek(start)
            for chunk in _chunks(response, self.patience):
                if position == 0 and not chunk.startswith(ZIP[: len(chunk)]):
                    raise FetchError("the answer is not a zip archive")
                if position == start:
                    self.adopt(record)
                    progress.expect(self.size)
                if self.size is not None:
                    chunk = chunk[: self.size - position]
                present = file.read(len(chunk))
                if present != chunk:
                    file.seek(position)
                    file.truncate()
                    file.write(chunk)
                    file.flush()
                position += len(chunk)
                progress.move_to(position)
                if position == self.size:
                    break
            if position == start:
                raise FetchError("the answer is empty")
            if self.size is None:
                file.truncate(position)
                self.ended = True
            elif position < self.size:
                raise FetchError(f"the answer ended {as_size(self.size - position)} early")
            else:
                file.truncate(position)


def _chunks(response: requests.Response, patience: Patience) -> Iterator[bytes]:
    """The body in pieces as they arrive, decoded, so that a break loses nothing of what came before it."""
    while True:
        try:
            chunk = response.raw.read1(CHUNK, decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise explain(error, patience) from error
        if not chunk:
            return
        yield chunk


def _validator(response: requests.Response) -> str:
    """What If-Range may carry: a weak ETag does not promise the same bytes."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _record_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")
