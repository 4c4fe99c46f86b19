"""An image file is found by a slightly different name if exactly one file fits."""

from __future__ import annotations

import time
import unicodedata
from pathlib import Path

import pytest

from dino_detector.data.coco.image_files import differences, find_image_files


def made(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("name", "file", "differing"),
    [
        ("images\\a.jpg", "a.jpg", ["backslashes", "folder"]),
        ("..\\..\\media\\upload\\4\\a.jpg", "a.jpg", ["backslashes", "folder"]),
        ("C:\\data\\train\\a.jpg", "a.jpg", ["backslashes", "folder"]),
        ("sub\\a.jpg", "sub/a.jpg", ["backslashes"]),
        ("a.JPG", "a.jpg", ["letter case"]),
        ("A.jpg", "a.JPG", ["letter case"]),
        ("Straße.jpg", "STRASSE.JPG", ["letter case"]),
        (unicodedata.normalize("NFD", "é.jpg"), unicodedata.normalize("NFC", "é.jpg"), ["Unicode form"]),
        (unicodedata.normalize("NFC", "é.jpg"), unicodedata.normalize("NFD", "é.jpg"), ["Unicode form"]),
        ("a%20b%C3%A9.jpg", "a bé.jpg", ["percent encoding"]),
        (" a.jpg ", "a.jpg", ["spaces"]),
        ("a", "a.jpg", ["extension"]),
        ("a.png", "a.jpg", ["extension"]),
        ("a.v2", "a.v2.png", ["extension"]),
        ("a.jpg", "deep/er/a.jpg", ["folder"]),
        ("train/a.jpg", "a.jpg", ["folder"]),
        ("/data/train/a.jpg", "a.jpg", ["folder"]),
        ("/data/train/a.jpg", "images/a.jpg", ["folder"]),
        ("C:\\data\\train\\a.png", "images/a.jpg", ["backslashes", "extension", "folder"]),
        ("v1/x/a.JPG", "X/a.png", ["extension", "folder"]),
    ],
)
def test_one_file_of_nearly_the_name_is_taken_and_said(name, file, differing, tmp_path):
    found = find_image_files([name, "other.png"], made(tmp_path, file, "other.png", "more.png"), split="train")
    assert found.names == [file, "other.png"]
    (finding,) = found.findings
    assert (finding.kind, finding.count, finding.effect) == ("file_name_near", 1, "warns")
    assert differences(name, file) == differing
    assert finding.note == ", ".join(sorted(differing))


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["A.jpg"], ["a.jpg", "a.JPG"]),
        (["a"], ["a.jpg", "a.png"]),
        (["x/a.jpg"], ["y/a.jpg", "z/a.jpg"]),
        (["x/a.jpg", "y/a.jpg"], ["a.jpg"]),
        (["A.jpg", "a.jpg"], ["a.jpg"]),
        (["b.jpg"], ["a.jpg"]),
        (["a.txt.jpg"], ["a.txt"]),
        (["v2/0001.jpg"], ["v3/0001.jpg"]),
        (["scene11/0001.jpg", "2/0001.jpg"], ["1/0001.jpg", "2/0001.jpg"]),
        (["/data/v2/0001.jpg", "/data/v3/0001.jpg"], ["images/0001.jpg"]),
    ],
    ids=str,
)
def test_where_none_or_several_fit_the_image_is_missing(names, files, tmp_path):
    found = find_image_files(names, made(tmp_path, *files), split="train")
    assert [name for name in found.names if name not in names] == [None] * found.names.count(None)
    assert found.names[0] is None
    assert {finding.kind for finding in found.findings} == {"image_missing"}
    assert found.findings[0].effect == "stops"


def test_of_two_files_of_a_name_the_one_in_the_folder_of_the_name_fits(tmp_path):
    folder = made(tmp_path, "x/a.jpg", "y/a.jpg")
    assert find_image_files(["set\\Y\\a.JPG"], folder, split="train").names == ["y/a.jpg"]


def test_what_differs_is_shown_with_both_names(tmp_path):
    (finding,) = find_image_files(["A.jpg"], made(tmp_path, "a.jpg", "a.JPG"), split="train").findings
    assert "'A.jpg' is like 'a.JPG' (letter case) and 'a.jpg' (letter case)" in finding.note
    (finding,) = find_image_files(["stret 12.jpg"], made(tmp_path, "street 12.jpg"), split="train").findings
    assert "'stret 12.jpg' is most like 'street 12.jpg'" in finding.note
    (finding,) = find_image_files(["street 13.jpg"], tmp_path, split="train").findings
    assert "most like" not in finding.note, "another number is another picture"


@pytest.mark.parametrize(
    "name",
    ["https://bucket.example.org/a.jpg", "s3://bucket/a.jpg", "gs://b/a.jpg", "/data/local-files/?d=project/a.jpg"],
)
def test_the_addresses_of_a_server_are_refused_though_a_file_has_the_name(name, tmp_path):
    (finding,) = find_image_files([name], made(tmp_path, "a.jpg"), split="train").findings
    assert (finding.kind, finding.effect) == ("file_name_url", "stops")
    assert "Label Studio" in finding.sentence()


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "\ud800.png", "", "..", "/", "%", "a/../../b"])
def test_names_that_no_file_can_have_are_missing(name, tmp_path):
    assert find_image_files([name or "."], made(tmp_path, "c.jpg"), split="train").names == [None]


def test_an_image_without_a_name_has_no_file(tmp_path):
    found = find_image_files([None, "c.jpg"], made(tmp_path, "c.jpg"), split="train")
    assert found.names == [None, "c.jpg"]
    assert found.findings == []


def test_many_files_of_one_name_take_no_time_to_tell_apart(tmp_path):
    """The files are named like frames of many videos, and each folder's name begins with another folder's name."""
    names = [f"{video}/{frame:04}.jpg" for video in range(60) for frame in range(20)]
    folder = made(tmp_path, *names)
    started = time.perf_counter()
    found = find_image_files([f"set\\{name}" for name in names], folder, split="train")
    assert found.names == names
    assert time.perf_counter() - started < 1
