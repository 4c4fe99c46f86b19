from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from dino_detector.data.images import read_image, to_rgb_tensor
from dino_detector.errors import InputError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners(tensor: torch.Tensor) -> list[tuple[int, ...]]:
    """Colours of the top-left, top-right, bottom-left and bottom-right pixel."""
    assert tensor.dtype == torch.uint8
    return [tuple(tensor[:, y, x].tolist()) for y in (0, -1) for x in (0, -1)]


@pytest.fixture
def quarters() -> Image.Image:
    """20 x 30 (height x width) pixels: red, green / blue, white."""
    image = Image.new("RGB", (30, 20), WHITE)
    image.paste(RED, (0, 0, 15, 10))
    image.paste(GREEN, (15, 0, 30, 10))
    image.paste(BLUE, (0, 10, 15, 20))
    return image


def save_rotated(image: Image.Image, path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


def test_rgb_image_is_channels_height_width(quarters, tmp_path):
    quarters.save(tmp_path / "a.png")
    tensor = read_image(tmp_path / "a.png", expected_size=(20, 30))
    assert tensor.shape == (3, 20, 30)
    assert corners(tensor) == [RED, GREEN, BLUE, WHITE]


def test_exif_rotation_is_applied(quarters, tmp_path):
    path = save_rotated(quarters, tmp_path / "a.png", 6)  # shown turned by 90 degrees clockwise
    for size in (None, (30, 20)):
        tensor = read_image(path, expected_size=size)
        assert tensor.shape == (3, 30, 20)
        assert corners(tensor) == [BLUE, RED, WHITE, GREEN]


def test_exif_rotation_is_left_out_where_annotations_are_of_the_stored_pixels(quarters, tmp_path):
    path = save_rotated(quarters, tmp_path / "a.png", 6)
    tensor = read_image(path, expected_size=(20, 30))
    assert corners(tensor) == [RED, GREEN, BLUE, WHITE]


def test_exif_rotation_by_180_degrees_is_applied_although_the_size_stays(quarters, tmp_path):
    path = save_rotated(quarters, tmp_path / "a.png", 3)
    assert corners(read_image(path, expected_size=(20, 30))) == [WHITE, BLUE, GREEN, RED]


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGBA", "P", "CMYK", "YCbCr", "I", "I;16"])
def test_every_mode_becomes_rgb_without_changing_black_and_white(mode, tmp_path):
    grey = np.zeros((20, 30), dtype=np.uint8)
    grey[:, 15:] = 255
    if mode.startswith("I"):
        image = Image.fromarray((grey.astype(np.uint16) * 257).astype(np.uint16 if mode == "I;16" else np.int32))
    else:
        image = Image.fromarray(grey).convert("RGB").convert(mode)
    assert image.mode == mode
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr", "I") else "a.png")
    image.save(path)
    tensor = read_image(path)
    assert tensor.shape == (3, 20, 30)
    assert corners(tensor) == [(0, 0, 0), WHITE] * 2


def test_cmyk_jpeg_keeps_its_colours(quarters, tmp_path):
    quarters.convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    tensor = read_image(tmp_path / "a.jpg")
    expected = torch.tensor(np.array(quarters)).permute(2, 0, 1)
    assert (tensor.int() - expected.int()).abs().float().mean() < 4


def test_palette_keeps_its_colours(quarters, tmp_path):
    quarters.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "a.png")
    assert corners(read_image(tmp_path / "a.png")) == [RED, GREEN, BLUE, WHITE]


def test_16_bit_is_scaled_and_not_clipped(tmp_path):
    values = np.array([[0, 257 * 100, 257 * 200, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0].tolist() == [[0, 100, 200, 255]]


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(kind, tmp_path):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 2, 4))
    image.convert(kind).save(tmp_path / "a.png")
    assert corners(read_image(tmp_path / "a.png")) == [(0, 0, 0), WHITE] * 2


def test_half_transparent_black_is_grey(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 128)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, 0, 0].item() == 127


def test_truncated_jpeg_is_an_error_that_names_the_file(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"a\.jpg: cannot be read as an image .*truncated.*; replace the file"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, b"\xff\xd8\xff\xe0"])
def test_what_is_no_image_is_an_error_of_one_line(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.jpg: cannot be read as an image") as caught:
        read_image(tmp_path / "a.jpg")
    assert "\n" not in str(caught.value)


def test_missing_image_is_named(tmp_path):
    with pytest.raises(InputError, match=r"a\.jpg: no such image file"):
        read_image(tmp_path / "a.jpg")


def test_size_that_contradicts_the_annotations_names_both(quarters, tmp_path):
    quarters.save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: the image has 20 x 30 pixels .* annotations say 20 x 31"):
        read_image(tmp_path / "a.png", expected_size=(20, 31))


def test_floating_point_image_is_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="floating-point pixels"):
        read_image(tmp_path / "a.tif")


def test_path_pil_numpy_and_tensor_give_the_same_pixels(quarters, tmp_path):
    quarters.save(tmp_path / "a.png")
    array = np.array(quarters)
    expected = torch.tensor(array).permute(2, 0, 1)
    opaque = np.dstack([array, np.full((20, 30), 255, dtype=np.uint8)])
    for image in (
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        quarters,
        array,
        opaque,
        expected,
        expected.float() / 255,
        expected.double() / 255,
    ):
        assert torch.equal(to_rgb_tensor(image), expected)


def test_grey_array_is_repeated_in_three_channels():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert torch.equal(to_rgb_tensor(grey), torch.tensor(grey).expand(3, 3, 4))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), dtype=np.float32),
        np.zeros((3, 4, 5), dtype=np.uint8),
        np.zeros((4,), dtype=np.uint8),
        np.zeros((0, 4, 3), dtype=np.uint8),
        torch.zeros(4, 4, 3),
        torch.zeros(1, 3, 4, 4),
        torch.zeros(3, 4, 4, dtype=torch.int64),
        torch.full((3, 4, 4), 1.1),
        torch.full((3, 4, 4), -0.1),
        torch.full((3, 4, 4), float("nan")),
        42,
    ],
)
def test_arrays_of_another_shape_type_or_range_are_refused(image):
    with pytest.raises(InputError, match="must"):
        to_rgb_tensor(image)
