from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from coco_server import zipped

from dino_detector.download.archives import ArchiveError, unpack
from dino_detector.errors import InputError

GOOD = {"val2017/a.jpg": b"image a", "val2017/more/b.jpg": b"image b", "other/c.jpg": b"image c"}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "coco"
    folder.mkdir()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpacked(data_dir: Path, archive: bytes, **settings: object) -> None:
    path = data_dir.parent / "val2017.zip.part"
    path.write_bytes(archive)
    unpack(path, data_dir / "val2017", inside="val2017", **settings)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_folder_of_the_archive_becomes_the_target(method: int, data_dir: Path) -> None:
    unpacked(data_dir, zipped({"val2017/": b"", **GOOD}, method=method))
    assert contents(data_dir) == {"val2017/a.jpg": b"image a", "val2017/more/b.jpg": b"image b"}


def test_only_the_wanted_files_are_taken(data_dir: Path) -> None:
    unpacked(data_dir, zipped(GOOD), only={"a.jpg"})
    assert contents(data_dir) == {"val2017/a.jpg": b"image a"}


@pytest.mark.parametrize("wanted", [{"a.jpg", "z.jpg"}, {"c.jpg"}])
def test_a_wanted_file_that_is_not_there_is_named(wanted: set[str], data_dir: Path) -> None:
    with pytest.raises(ArchiveError, match=r"val2017.zip.part: holds no val2017/[zc].jpg"):
        unpacked(data_dir, zipped(GOOD), only=wanted)
    assert contents(data_dir) == {}


def test_files_of_the_user_stay_and_those_of_the_archive_are_replaced(data_dir: Path) -> None:
    (data_dir / "val2017" / "more").mkdir(parents=True)
    (data_dir / "val2017" / "a.jpg").write_bytes(b"half")
    (data_dir / "val2017" / "more" / "mine.txt").write_bytes(b"mine")
    unpacked(data_dir, zipped(GOOD))
    assert contents(data_dir) == {
        "val2017/a.jpg": b"image a",
        "val2017/more/b.jpg": b"image b",
        "val2017/more/mine.txt": b"mine",
    }
    assert not (data_dir / "val2017" / ".unpacking").exists()


def test_a_link_to_a_folder_is_followed(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    (data_dir / "val2017").symlink_to(tmp_path / "large disk")
    unpacked(data_dir, zipped(GOOD))
    assert (data_dir / "val2017").is_symlink()
    assert contents(tmp_path / "large disk") == {"a.jpg": b"image a", "more/b.jpg": b"image b"}


def test_what_a_killed_process_left_is_cleared_away(data_dir: Path) -> None:
    (data_dir / ".val2017.unpacking").mkdir()
    (data_dir / ".val2017.unpacking" / "half.jpg").write_bytes(b"half")
    unpacked(data_dir, zipped(GOOD))
    assert contents(data_dir) == {"val2017/a.jpg": b"image a", "val2017/more/b.jpg": b"image b"}


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "val2017/../../evil",
        "/evil",
        "val2017//evil",
        "val2017/./evil",
        "C:/evil",
        "val2017/C:evil",
        "val2017\\..\\..\\evil",
        "val2017/a\x00.jpg",
        "..",
        "val2017/a.jpg",
        "val2017/A.JPG",
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_that_leads_elsewhere_or_is_there_twice_spoils_the_archive(name: str, data_dir: Path) -> None:
    path = data_dir.parent / "val2017.zip.part"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("val2017/a.jpg", b"image a")
        entry = zipfile.ZipInfo("x")
        entry.filename = entry.orig_filename = name
        archive.writestr(entry, b"evil")
    before = contents(data_dir.parent)
    with pytest.raises(ArchiveError, match=r"is no plain path below a folder|is there twice"):
        unpack(path, data_dir / "val2017", inside="val2017")
    assert contents(data_dir.parent) == before
    assert list(data_dir.iterdir()) == []


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_spoil_the_archive(kind: int, data_dir: Path) -> None:
    path = data_dir.parent / "val2017.zip.part"
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("val2017/link")
        entry.external_attr = (kind | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(ArchiveError, match="entry 'val2017/link' is a link or a device"):
        unpack(path, data_dir / "val2017", inside="val2017")
    assert list(data_dir.iterdir()) == []


def declaring(size: int) -> Callable[[bytes], bytes]:
    """Change the size that an archive entry declares, in its local header and in the central directory."""

    def changed(archive: bytes) -> bytes:
        wrong = size.to_bytes(4, "little")
        central = archive.index(b"PK\x01\x02")
        return archive[:22] + wrong + archive[26 : central + 24] + wrong + archive[central + 28 :]

    return changed


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "smaller than it is": declaring(100),
    "larger than it is": declaring(9_999_999),
    "not a zip": lambda archive: b"<html>" + bytes(1000),
    "empty": lambda archive: b"",
    "cut short": lambda archive: archive[: len(archive) // 2],
    "a wrong byte": lambda archive: archive[:200] + bytes([archive[200] ^ 1]) + archive[201:],
}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("there", [False, True])
def test_a_broken_archive_leaves_everything_as_it_was(
    there: bool, broken: Callable[[bytes], bytes], method: int, data_dir: Path
) -> None:
    if there:
        (data_dir / "val2017").mkdir()
        (data_dir / "val2017" / "a.jpg").write_bytes(b"mine")
    before = contents(data_dir)
    archive = broken(zipped({"val2017/a.jpg": bytes(range(256)) * 100}, method=method))
    with pytest.raises(ArchiveError, match=r"val2017.zip.part: is not a whole zip archive \("):
        unpacked(data_dir, archive)
    assert contents(data_dir) == before
    assert list(data_dir.rglob("*unpacking*")) == []


def test_an_archive_that_would_flood_the_disk_is_refused(data_dir: Path) -> None:
    archive = declaring(4_000_000_000)(zipped({"val2017/a.jpg": bytes(1_000_000)}, method=zipfile.ZIP_DEFLATED))
    with pytest.raises(ArchiveError, match=r"would unpack from 1\.\d kB to 4\.0 GB"):
        unpacked(data_dir, archive)


def test_room_is_looked_for_before_anything_is_written(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(data_dir)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=13))
    with pytest.raises(InputError, match=r"needs 14 bytes \(14 bytes\) on this disk, which has 13 bytes"):
        unpacked(data_dir, zipped(GOOD))
    assert list(data_dir.iterdir()) == []


def test_a_file_where_the_folder_should_be_is_named(data_dir: Path) -> None:
    (data_dir / "val2017").write_text("mine")
    with pytest.raises(InputError, match=f"{data_dir / 'val2017'}: is in the way"):
        unpacked(data_dir, zipped(GOOD))
    assert (data_dir / "val2017").read_text() == "mine"
