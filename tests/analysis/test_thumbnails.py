from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino_detector.analysis import gallery
from dino_detector.analysis.gallery import thumbnails
from dino_detector.analysis.html_file import JPEG_PREFIX
from dino_detector.data.coco.annotations import ImageRecord


def images(folder: Path, *sizes: tuple[int, int]) -> list[ImageRecord]:
    """Write images 0, 1, 2 ... of these (width, height), of noise, because JPEG compresses noise least."""
    rng = np.random.default_rng(0)
    records = []
    for number, (width, height) in enumerate(sizes):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        records.append(ImageRecord(number, f"{number}.png", height, width))
    return records


def size_of(url: str) -> tuple[int, int]:
    assert url.startswith(JPEG_PREFIX)
    with Image.open(io.BytesIO(base64.b64decode(url.removeprefix(JPEG_PREFIX)))) as picture:
        assert picture.format == "JPEG"
        return picture.size


def test_the_longest_side_has_480_pixels_and_small_images_stay(tmp_path: Path) -> None:
    listed = images(tmp_path, (960, 640), (500, 1000), (100, 80), (2000, 1))
    assert [size_of(url) for url in thumbnails(listed, tmp_path)] == [(480, 320), (240, 480), (100, 80), (480, 1)]


@pytest.mark.parametrize("budget", [2_000_000, 300_000, 60_000])
def test_no_more_bytes_are_used_than_there_are(budget: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "THUMBNAIL_BYTES", budget)
    listed = images(tmp_path, *[(640, 480)] * 6)
    urls = thumbnails(listed, tmp_path)
    assert all(urls)
    assert sum(map(len, urls)) <= budget


def test_what_one_picture_leaves_the_next_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "THUMBNAIL_BYTES", 180_000)
    listed = images(tmp_path, (640, 480), (20, 20), (640, 480))
    before, _, after = map(size_of, thumbnails(listed, tmp_path))
    assert before[0] < 480 == after[0]


def test_a_picture_that_fits_at_no_quality_is_left_out_and_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "THUMBNAIL_BYTES", 100)
    assert thumbnails(images(tmp_path, (640, 480)), tmp_path) == [None]
    assert "the report lacks the picture of 1 image: " in caplog.text


def test_a_name_can_not_lead_out_of_the_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "inside").mkdir()
    images(tmp_path, (20, 20))
    assert thumbnails([ImageRecord(5, "../0.png", 20, 20)], tmp_path / "inside") == [None]
    assert "'../0.png', image 5, is not there" in caplog.text
