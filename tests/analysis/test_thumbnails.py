from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino_detector.analysis.result_files import ImageList
from dino_detector.analysis.thumbnails import PREFIX, Thumbnails
from dino_detector.structures.categories import Categories


def images(folder: Path, *sizes: tuple[int, int]) -> ImageList:
    """Write images 0, 1, 2 ... of these (width, height), of noise, because JPEG compresses noise least."""
    rng = np.random.default_rng(0)
    files = {}
    for number, (width, height) in enumerate(sizes):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        files[number] = (f"{number}.png", (height, width))
    return ImageList(files, Categories((), ()))


def size_of(url: str) -> tuple[int, int]:
    assert url.startswith(PREFIX)
    with Image.open(io.BytesIO(base64.b64decode(url.removeprefix(PREFIX)))) as picture:
        assert picture.format == "JPEG"
        return picture.size


def test_the_longest_side_has_480_pixels_and_small_images_stay(tmp_path: Path) -> None:
    listed = images(tmp_path, (960, 640), (500, 1000), (100, 80), (2000, 1))
    thumbnail = Thumbnails(listed, tmp_path, count=4, budget=10_000_000)
    assert [size_of(thumbnail(number)) for number in range(4)] == [(480, 320), (240, 480), (100, 80), (480, 1)]


@pytest.mark.parametrize("budget", [2_000_000, 300_000, 60_000])
def test_no_more_bytes_are_used_than_there_are(budget: int, tmp_path: Path) -> None:
    listed = images(tmp_path, *[(640, 480)] * 6)
    thumbnail = Thumbnails(listed, tmp_path, count=6, budget=budget)
    urls = [thumbnail(number) for number in range(6)]
    assert all(urls)
    assert sum(map(len, urls)) <= budget


def test_what_one_picture_leaves_the_next_may_use(tmp_path: Path) -> None:
    listed = images(tmp_path, (640, 480), (20, 20), (640, 480))
    thumbnail = Thumbnails(listed, tmp_path, count=3, budget=180_000)
    before, _, after = (size_of(thumbnail(number)) for number in range(3))
    assert before[0] < 480 == after[0]


def test_a_picture_that_fits_at_no_quality_is_left_out_and_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    thumbnail = Thumbnails(images(tmp_path, (640, 480)), tmp_path, count=1, budget=100)
    assert thumbnail(0) is None
    thumbnail.warn()
    assert "the report lacks the picture of 1 image: " in caplog.text


def test_a_name_can_not_lead_out_of_the_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "inside").mkdir()
    images(tmp_path, (20, 20))
    listed = ImageList({5: ("../0.png", (20, 20))}, Categories((), ()))
    thumbnail = Thumbnails(listed, tmp_path / "inside", count=1, budget=100_000)
    assert thumbnail(5) is None
    thumbnail.warn()
    assert "'../0.png', image 5, is not there" in caplog.text
