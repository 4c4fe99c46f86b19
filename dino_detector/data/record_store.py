"""Records of bytes by key in files that are only ever appended to: safe to kill, to share and to fill together.

Every process that writes has a file of its own, so that none waits for another. A record is complete where its header
and its contents have the checksums that the header states; what was being written when a process was killed has not,
and counts as absent.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import uuid
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HEADER = struct.Struct("<4s16sQII")
"""magic, key, bytes of the contents, checksum of these, checksum of the header up to here"""
MAGIC = b"dd01"
SUFFIX = ".records"


class Place(NamedTuple):
    """Where the contents of a record are."""

    file: str
    offset: int
    length: int
    checksum: int


class RecordStore:
    """The records of a folder.

    Args:
        folder: is made when the first record is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[bytes, tuple[Place, ...]] = {}  # several where one turned out to be damaged
        self._scanned: dict[str, int] = {}  # bytes of each file that are known
        self._maps: dict[str, mmap.mmap] = {}
        self._own: Any = None
        self._own_bytes = 0
        self.refresh()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    @property
    def num_bytes(self) -> int:
        """What the records take on disk."""
        return sum(HEADER.size + place.length for places in self._places.values() for place in places)

    def get(self, key: bytes) -> memoryview | None:
        """The contents of a record, or None where there is none that is complete. Those of other processes too."""
        known = self._places.get(key, ())
        contents = self._intact(known)
        if contents is None:
            self.refresh()
            contents = self._intact(self._places.get(key, ())[len(known) :])
        return contents

    def append(self, key: bytes, contents: bytes) -> None:
        """Add a record. It replaces none: `get` prefers the newest.

        Raises:
            OSError: the disk is full, or the folder can't be written to; the records before are as they were.
        """
        if self._own is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{SUFFIX}"
            self._own = (self.folder / name).open("xb", buffering=0)
        checksum = zlib.crc32(contents)
        stated = HEADER.pack(MAGIC, key, len(contents), checksum, 0)[: -struct.calcsize("<I")]
        record = b"".join([stated, struct.pack("<I", zlib.crc32(stated)), contents])
        try:
            _write_all(self._own.fileno(), record)
        except OSError:
            os.ftruncate(self._own.fileno(), self._own_bytes)
            os.lseek(self._own.fileno(), 0, os.SEEK_END)
            raise
        name = Path(self._own.name).name
        place = Place(name, self._own_bytes + HEADER.size, len(contents), checksum)
        self._own_bytes += len(record)
        self._scanned[name] = self._own_bytes
        self._places[key] = (*self._places.get(key, ()), place)

    def refresh(self) -> None:
        """Learn of the records that other processes have added."""
        for name, size in _sizes(self.folder):
            known = self._scanned.get(name, 0)
            if size > known:
                self._scanned[name] = known + self._scan(name, known, size)

    def _scan(self, name: str, start: int, end: int) -> int:
        """Enter the complete records between two offsets of a file; returns how many bytes these have."""
        offset = start
        with (self.folder / name).open("rb") as file:
            while offset + HEADER.size <= end:
                file.seek(offset)
                header = file.read(HEADER.size)
                if len(header) < HEADER.size:
                    break
                magic, key, length, checksum, of_header = HEADER.unpack(header)
                if magic != MAGIC or zlib.crc32(header[: -struct.calcsize("<I")]) != of_header:
                    break  # torn, or still being written
                if offset + HEADER.size + length > end:
                    break
                place = Place(name, offset + HEADER.size, length, checksum)
                self._places[key] = (*self._places.get(key, ()), place)
                offset += HEADER.size + length
        return offset - start

    def _intact(self, places: Sequence[Place]) -> memoryview | None:
        """The newest contents that have not been damaged since, or removed."""
        for place in reversed(places):
            try:
                contents = self._map(place)[place.offset : place.offset + place.length]
            except (OSError, ValueError):  # mmap refuses an empty file
                continue
            if zlib.crc32(contents) == place.checksum:
                return contents
        return None

    def _map(self, place: Place) -> memoryview:
        mapped = self._maps.get(place.file)
        if mapped is None or len(mapped) < place.offset + place.length:
            with (self.folder / place.file).open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._maps[place.file] = mapped
        return memoryview(mapped)

    def __getstate__(self) -> dict[str, Any]:
        """For another process: what is known, without what is open here."""
        return self.__dict__ | {"_maps": {}, "_own": None, "_own_bytes": 0}


def _sizes(folder: Path) -> Iterable[tuple[str, int]]:
    """The record files of a folder and their bytes, in an order that stays."""
    try:
        entries = sorted(
            (entry for entry in os.scandir(folder) if entry.name.endswith(SUFFIX)), key=lambda one: one.name
        )
    except FileNotFoundError:
        return []
    return [(entry.name, entry.stat().st_size) for entry in entries]


def _write_all(descriptor: int, contents: bytes) -> None:
    view = memoryview(contents)
    while view:
        view = view[os.write(descriptor, view) :]
