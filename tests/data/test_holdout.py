"""Validation images taken from the training images: by content, groups on one side, near the wanted fraction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from dino_detector.data.holdout import hold_out
from dino_detector.errors import InputError

pytestmark = pytest.mark.fast


def scene(seed: int) -> Image.Image:
    """Return a picture of random patches, unlike the picture of any other seed."""
    patches = np.random.default_rng(seed).integers(20, 220, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((128, 128), Image.Resampling.BICUBIC)


def write(folder: Path, names: list[str], *, first: int = 0) -> list[str]:
    for number, name in enumerate(names, start=first):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        scene(number).save(folder / name)
    return names


def chosen(folder: Path, names: list[str], fraction: float = 0.3) -> set[str]:
    found = hold_out(folder, names, fraction, source=folder)
    return {name for name, is_val in zip(names, found.is_val.tolist(), strict=True) if is_val}


def letters(count: int) -> list[str]:
    """Return names without numbers, which no rule takes for frames of a video."""
    return [f"{chr(97 + number // 26)}{chr(97 + number % 26)}.png" for number in range(count)]


def test_an_image_keeps_its_side_when_images_are_added_renamed_and_reordered(tmp_path: Path):
    names = write(tmp_path, letters(200))
    few, many = chosen(tmp_path, names[:80]), chosen(tmp_path, names)
    assert few == many & set(names[:80])
    assert chosen(tmp_path, names[::-1]) == many
    for name in names:
        (tmp_path / name).rename(tmp_path / f"z{name}")
    assert chosen(tmp_path, [f"z{name}" for name in names]) == {f"z{name}" for name in many}


def test_the_fraction_is_near_the_wanted_one_and_grows_with_it(tmp_path: Path):
    """Of 400 independent images 80 are expected at 0.2, with a standard deviation of 8."""
    names = write(tmp_path, letters(400))
    fifth, half = chosen(tmp_path, names, 0.2), chosen(tmp_path, names, 0.5)
    assert 48 <= len(fifth) <= 112
    assert 150 <= len(half) <= 250
    assert fifth < half


def test_no_side_is_ever_empty(tmp_path: Path):
    names = write(tmp_path, letters(3))
    for fraction in (0.001, 0.999):
        assert 0 < len(chosen(tmp_path, names, fraction)) < 3


@pytest.mark.parametrize("start", range(0, 80, 20))
def test_near_copies_stay_on_one_side(start: int, tmp_path: Path):
    """A copy that is saved again, smaller and brighter, has the side of its picture."""
    names = write(tmp_path, letters(6), first=start)
    copies = []
    for name in names:
        picture = Image.open(tmp_path / name)
        ImageEnhance.Brightness(picture.resize((64, 64))).enhance(1.05).save(
            tmp_path / f"copy_{name[:-4]}.jpg", quality=80
        )
        copies.append(f"copy_{name[:-4]}.jpg")
    found = hold_out(tmp_path, names + copies, 0.5, source=tmp_path)
    assert found.is_val[:6].tolist() == found.is_val[6:].tolist()
    assert "6 groups of near-copies and frames of one video stay on one side" in found.summary


@pytest.mark.parametrize(
    "form",
    ["{video}_frame_{number:04d}.png", "{video}/frame{number}.png", "{video}_mp4-{number}_png.rf.{hash}.png"],
)
def test_frames_of_one_video_stay_on_one_side(form: str, tmp_path: Path):
    """The frames look different, so their names alone tell the video."""
    names = [
        form.format(video=f"clip{'abcdefgh'[video]}", number=number, hash=f"{video}{number}".zfill(16))
        for video in range(8)
        for number in range(4)
    ]
    write(tmp_path, names)
    found = hold_out(tmp_path, names, 0.4, source=tmp_path)
    sides = found.is_val.reshape(8, 4)
    assert (sides == sides[:, :1]).all()
    assert 0 < sides[:, 0].sum() < 8
    assert "8 groups" in found.summary


def test_neighbouring_frames_that_look_alike_stay_on_one_side_whatever_their_names(tmp_path: Path):
    """An object wanders through each of six scenes; the names count on over all scenes."""
    names = []
    for number in range(24):
        picture, step = scene(number // 4), number % 4
        picture.paste((170, 170, 170), (30 * step, 40, 30 * step + 12, 52))
        names.append(f"img{number:03d}.png")
        picture.save(tmp_path / names[-1])
    found = hold_out(tmp_path, names, 0.5, source=tmp_path)
    sides = found.is_val.reshape(6, 4)
    assert (sides == sides[:, :1]).all()
    assert "6 groups" in found.summary


def test_counters_alone_are_no_video(tmp_path: Path):
    names = write(tmp_path, [f"cat_{number:03d}.png" for number in range(40)])
    found = hold_out(tmp_path, names, 0.3, source=tmp_path)
    assert "group" not in found.summary
    assert 0 < found.is_val.sum() < 40


def test_a_set_of_one_scene_is_divided_with_a_warning(tmp_path: Path):
    names = [f"img{number:03d}.png" for number in range(12)]
    for number, name in enumerate(names):
        picture = scene(0)
        picture.putpixel((number, 5), (255, 0, 0))
        picture.save(tmp_path / name)
    found = hold_out(tmp_path, names, 0.3, source=tmp_path)
    assert 0 < found.is_val.sum() < 12
    assert "the AP will be higher than on new images" in found.warnings[0]


def test_one_big_group_is_told(tmp_path: Path):
    names = write(tmp_path, letters(4)) + write(tmp_path, [f"film_frame_{number}.png" for number in range(40)], first=9)
    found = hold_out(tmp_path, names, 0.4, source=tmp_path)
    assert any("a group of 40 images has one side" in warning for warning in found.warnings)


def test_an_unreadable_image_is_for_training(tmp_path: Path):
    names = write(tmp_path, letters(5))
    for name in letters(30)[5:]:
        (tmp_path / name).write_bytes(f"broken {name}".encode())
    assert chosen(tmp_path, letters(30), 0.9) <= set(names)
    for name in names[1:]:
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match=r"has 1 image that can be read, and --val_fraction needs 2"):
        hold_out(tmp_path, names, 0.5, source=tmp_path)
