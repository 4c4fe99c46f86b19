from __future__ import annotations

import errno
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, PngImagePlugin
from PIL.JpegImagePlugin import JpegImageFile
from torchvision.transforms.v2 import functional as F

from dino_detector.data.pictures.bit_depth import survey
from dino_detector.data.pictures.decoding import check_image, read_image, read_part, to_rgb_tensor
from dino_detector.data.pictures.opening import allow_megapixels, image_size
from dino_detector.errors import InputError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners(tensor: torch.Tensor) -> list[tuple[int, ...]]:
    """Return the colours of the top-left, top-right, bottom-left and bottom-right pixel."""
    assert tensor.dtype == torch.uint8
    return [tuple(tensor[:, y, x].tolist()) for y in (0, -1) for x in (0, -1)]


@pytest.fixture
def quarters() -> Image.Image:
    """Return an image of 20 x 30 pixels (height x width): red, green / blue, white."""
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


def damaged_exif(kind: str) -> bytes:
    """Return a damaged EXIF block: its name alone, random bytes, or an orientation out of place or not a number."""
    entry = {
        "cut": b"",
        "noise": bytes(range(200)),
        "elsewhere": b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\x7f\x06\0\0\0\x08\0\0\0",
        "text": b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0\0\0\0\0",
    }
    return b"Exif\0\0" + entry[kind]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["cut", "noise", "elsewhere", "text"])
@pytest.mark.parametrize("extension", ["png", "jpg", "webp"])
def test_damaged_exif_loses_no_pixels(extension, kind, quarters, tmp_path):
    path, plain = tmp_path / f"a.{extension}", tmp_path / f"b.{extension}"
    quarters.save(path, exif=damaged_exif(kind))
    quarters.save(plain)
    assert torch.equal(read_image(path), read_image(plain))
    assert image_size(path) == (20, 30)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(("field", "value"), [(2, b"\x63\0"), (4, b"\xff\xff\xff\x7f"), (8, b"\xff\xff\xff\x7f")])
def test_a_damaged_description_in_a_tiff_loses_no_pixels(field, value, quarters, tmp_path):
    """The damage is in the type, the length or the offset of the description."""
    path = tmp_path / "a.tif"
    quarters.save(path, description="a street in the rain")
    content = bytearray(path.read_bytes())
    entry = content.index(b"\x0e\x01\x02\0")  # tag 270, text
    content[entry + field : entry + field + len(value)] = value
    path.write_bytes(content)
    assert corners(read_image(path)) == [RED, GREEN, BLUE, WHITE]
    assert image_size(path) == (20, 30)


def test_a_text_longer_than_pillow_allows_loses_no_pixels(quarters, tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    quarters.save(tmp_path / "a.png", pnginfo=text)
    with pytest.raises(ValueError, match="too large"):
        Image.open(tmp_path / "a.png").load()
    assert corners(read_image(tmp_path / "a.png")) == [RED, GREEN, BLUE, WHITE]
    assert image_size(tmp_path / "a.png") == (20, 30)


def test_every_reader_of_pictures_registers_heic(tmp_path):
    (tmp_path / "pillow_heif.py").write_text("def register_heif_opener():\n    print('registered')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import dino_detector.data.pictures.opening"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "registered\n"


def test_heic_without_its_reader_names_the_package(tmp_path, monkeypatch):
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    monkeypatch.setattr("dino_detector.data.pictures.opening.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"a\.HEIC: cannot be read .*; pip install pillow-heif"):
        read_image(tmp_path / "a.HEIC")


def test_a_picture_of_too_many_pixels_names_the_setting_and_its_value(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    allow_megapixels(1)
    Image.new("L", (1100, 1000)).save(tmp_path / "a.png")
    with pytest.raises(
        InputError, match=r"a\.png: has 1.1 megapixels, more .* 1 of --max_megapixels.*; give --max_m.* 2$"
    ):
        read_image(tmp_path / "a.png")
    allow_megapixels(2)
    assert read_image(tmp_path / "a.png").shape == (3, 1000, 1100)


def test_limits_hold_for_pictures_that_many_threads_open(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    allow_megapixels(0.01)
    for number in range(8):
        Image.new("L", (200, 200)).save(tmp_path / f"{number}.png")

    def refusal(number: int) -> str:
        with pytest.raises(InputError) as refused:
            read_image(tmp_path / f"{number % 8}.png")
        return str(refused.value).partition(": ")[2]

    with ThreadPoolExecutor(8) as pool:
        refusals = set(pool.map(refusal, range(48)))
    assert refusals == {
        "has 0.04 megapixels, more than the 0.01 of --max_megapixels, which guards against files that fill the memory; "
        "give --max_megapixels 1"
    }


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), r"Permission denied\); correct its permissions"),
        (OSError(errno.EIO, "Input/output error"), r"Input/output error\); check the disk"),
    ],
)
def test_what_the_system_refuses_is_no_damage_of_the_file(error, words, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "open", Mock(side_effect=error))
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match=words):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, "Too many open files")])
def test_too_little_of_the_machine_does_not_skip_a_picture(error, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "open", Mock(side_effect=error))
    (tmp_path / "a.png").touch()
    with pytest.raises(type(error)):
        read_image(tmp_path / "a.png")


def test_a_survey_looks_at_the_whole_folder(tmp_path):
    """60 of 399 pictures are there, 200 names are looked at, and 50 deep pictures are measured."""
    names = [f"{number:03}.png" for number in range(399)]
    for name in names[280::2]:
        Image.fromarray(np.array([[60_000 if name == names[396] else 1000]], np.uint16)).save(tmp_path / name)
    assert survey(tmp_path, names) == (65_535, 60, 0, 60)


def test_values_without_end_do_not_set_the_white_level_of_all(tmp_path):
    Image.fromarray(np.array([[0, 0.5]], np.float32)).save(tmp_path / "a.tif")
    for name, value in (("b.tif", np.inf), ("c.tif", np.nan)):
        Image.fromarray(np.array([[0, value]], np.float32)).save(tmp_path / name)
    assert survey(tmp_path, ["a.tif", "b.tif", "c.tif"]).white_level == 1


def test_an_empty_file_and_nan_are_called_that(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match=r"a\.png: cannot be read as an image \(it is empty\)"):
        read_image(tmp_path / "a.png")
    Image.fromarray(np.array([[0, np.nan]], np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(InputError, match=r"b\.tif: has NaN values"):
        read_image(tmp_path / "b.tif")


def test_missing_image_is_named(tmp_path):
    with pytest.raises(InputError, match=r"a\.jpg: no such image file"):
        read_image(tmp_path / "a.jpg")


def test_size_that_contradicts_the_annotations_names_both(quarters, tmp_path):
    quarters.save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: the image has 20 x 30 pixels .* annotations say 20 x 31"):
        read_image(tmp_path / "a.png", expected_size=(20, 31))


@pytest.mark.parametrize("value", [-0.5, float("inf")])
def test_values_that_are_no_colours_are_refused(tmp_path, value):
    Image.fromarray(np.array([[0, 1], [0.5, value]], dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif: has values from .* convert it"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("values", "mode", "expected"),
    [
        ([0, 100, 255], np.int32, [0, 100, 255]),
        ([0, 2048, 4095], np.uint16, [0, 128, 255]),
        ([0, 32768, 65535], np.uint16, [0, 128, 255]),
        ([0, 0.5, 1], np.float32, [0, 128, 255]),
        ([0, 100, 255], np.float32, [0, 100, 255]),
        ([0, 50_000, 100_000], np.int32, [0, 128, 255]),
    ],
)
def test_the_largest_value_of_a_deep_picture_tells_how_many_bits_it_uses(values, mode, expected, tmp_path):
    Image.fromarray(np.array([values], mode)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[:, 0].tolist() == [expected] * 3


def test_a_white_level_serves_pictures_of_any_brightness(tmp_path):
    Image.fromarray(np.array([[0, 100, 200]], np.uint16)).save(tmp_path / "dark.png")
    assert read_image(tmp_path / "dark.png", white_level=4095.0)[0, 0].tolist() == [0, 6, 12]
    Image.fromarray(np.array([[0, 100, 5000]], np.uint16)).save(tmp_path / "bright.png")
    with pytest.raises(InputError, match=r"bright\.png: has values up to 5000, above the white level 4095; give --wh"):
        read_image(tmp_path / "bright.png", white_level=4095.0)


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


def blurred_noise(height: int, width: int, grain: int = 12) -> Image.Image:
    """Return noise in spots of ``grain`` pixels, like a photograph with more pixels than detail."""
    rng = np.random.default_rng(0)
    spots = Image.fromarray(rng.integers(0, 256, (height // grain + 2, width // grain + 2, 3), dtype=np.uint8))
    return spots.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("crop", [(0, 0, 641, 483), (35, 20, 300, 401), (340, 82, 301, 401)], ids=str)
def test_a_part_is_the_resized_crop(name, crop, tmp_path):
    """A part at full size, or down to half of it, is decoded at full resolution."""
    blurred_noise(483, 641).save(tmp_path / name)
    left, top, width, height = crop
    cropped = read_image(tmp_path / name)[:, top : top + height, left : left + width]
    for size in ((height, width), (height // 2 + 1, width // 2 + 1), (height + 50, width // 2 + 1)):
        part = read_part(tmp_path / name, expected_size=(483, 641), crop=crop, size=size)
        assert torch.equal(part, F.resize(cropped, size, antialias=True))


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_small_part_of_a_jpeg_is_decoded_small_and_looks_the_same(reduction, mode, tmp_path, monkeypatch):
    """The sides are not divisible by a power of two, so a shift of half a pixel would show."""
    blurred_noise(1003, 1501, grain=8 * reduction).convert(mode).save(tmp_path / "a.jpg", quality=95)
    crop = (123, 77, 1301, 901)
    size = (901 // (2 * reduction), 1301 // (2 * reduction))
    cropped = read_image(tmp_path / "a.jpg")[:, 77 : 77 + 901, 123 : 123 + 1301]
    full = F.resize(cropped, size, antialias=True).float()
    decoded = []
    load = JpegImageFile.load
    monkeypatch.setattr(JpegImageFile, "load", lambda image: (decoded.append(image.size), load(image))[1])
    part = read_part(tmp_path / "a.jpg", expected_size=(1003, 1501), crop=crop, size=size).float()
    assert decoded[0] == (math.ceil(1501 / reduction), math.ceil(1003 / reduction))
    assert part.shape == full.shape
    error = (part - full).abs().mean()
    assert error < 1
    for axis in (1, 2):
        shifted = (part.roll(1, axis) + part) / 2  # by half a pixel
        assert (shifted - full).abs().mean() > 2 * error


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_box_stays_where_it_is_in_a_part_that_is_decoded_small(reduction, tmp_path):
    """Measure the box by the mass and the centre of the white pixels."""
    height, width = 1003, 1501
    pixels = np.zeros((height, width, 3), np.uint8)
    left, top, right, bottom = 411, 307, 1021, 753
    pixels[top:bottom, left:right] = 255
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    crop = (101, 55, 1301, 901)
    size = (901 // (2 * reduction), 1301 // (2 * reduction))
    part = read_part(tmp_path / "a.jpg", expected_size=(height, width), crop=crop, size=size)
    white = part[0].double() / 255
    for axis, first, last, start, whole in ((0, left, right, 101, 1301), (1, top, bottom, 55, 901)):
        profile = white.sum(axis) / white.sum(axis).max()
        scale = size[1 - axis] / whole
        centre = (profile * (torch.arange(len(profile)) + 0.5)).sum() / profile.sum()
        assert centre.item() == pytest.approx(((first + last) / 2 - start) * scale, abs=0.02)
        assert profile.sum().item() == pytest.approx((last - first) * scale, abs=0.1)


def test_a_small_part_of_an_image_that_exif_turns_is_turned(tmp_path):
    image = blurred_noise(480, 640)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    whole = read_image(tmp_path / "a.jpg")
    assert whole.shape == (3, 640, 480)
    part = read_part(tmp_path / "a.jpg", expected_size=(640, 480), crop=(40, 80, 400, 480), size=(60, 50))
    assert torch.equal(part, F.resize(whole[:, 80:560, 40:440], [60, 50], antialias=True))
    stored = read_part(tmp_path / "a.jpg", expected_size=(480, 640), crop=(0, 0, 640, 480), size=(48, 64))
    assert (stored.float() - F.resize(whole.rot90(1, (1, 2)), [48, 64], antialias=True).float()).abs().mean() < 1


@pytest.mark.parametrize("size", [(480, 640), (48, 64)], ids=str)
def test_a_part_of_a_bad_file_is_refused_as_the_whole_is(size, tmp_path):
    path = tmp_path / "a.jpg"
    blurred_noise(480, 640).save(path)
    with pytest.raises(InputError, match=r"480 x 640 pixels \(height x width\), but its annotations say 480 x 641"):
        read_part(path, expected_size=(480, 641), crop=(0, 0, 640, 480), size=size)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"a\.jpg: cannot be read as an image"):
        read_part(path, expected_size=(480, 640), crop=(0, 0, 640, 480), size=size)


def bad_files(folder):
    """Return broken files by kind of damage; the annotations state the size 24 x 32."""
    rng = np.random.default_rng(0)
    whole = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    whole.save(folder / "other size.jpg", quality=90)
    content = (folder / "other size.jpg").read_bytes()
    (folder / "cut short.jpg").write_bytes(content[: len(content) * 2 // 3])
    (folder / "no image.jpg").write_bytes(b"hello")
    Image.new("F", (32, 24), -1).save(folder / "floats.tiff")
    turned = Image.Exif()
    turned[274] = 6
    whole.save(folder / "turned.jpg", exif=turned)
    return dict.fromkeys(sorted(folder.iterdir()), (24, 32)) | {folder / "other size.jpg": (24, 31)}


def test_a_check_finds_what_reading_finds(tmp_path):
    for path, size in {**bad_files(tmp_path), tmp_path / "absent.jpg": (24, 32)}.items():
        if path.name == "turned.jpg":  # the annotations refer to the stored pixels
            assert read_image(path, expected_size=size).shape == (3, *size)
            check_image(path, expected_size=size)
            continue
        with pytest.raises(InputError) as of_reading:
            read_image(path, expected_size=size)
        with pytest.raises(InputError) as of_check:
            check_image(path, expected_size=size)
        assert str(of_check.value) == str(of_reading.value)


@pytest.mark.parametrize("size", [(1, 1), (1, 640), (7, 9), (8, 8), (480, 640)], ids=str)
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_good_file_of_any_size_passes_the_check(name, size, tmp_path):
    Image.new("RGB", size[::-1], "red").save(tmp_path / name)
    check_image(tmp_path / name, expected_size=size)


@pytest.mark.parametrize("size", [(4, 4), (1, 640), (640, 5)], ids=str)
def test_a_file_that_is_smaller_than_its_annotations_say_fails_the_check(size, tmp_path):
    Image.new("RGB", size[::-1]).save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=rf"has {size[0]} x {size[1]} pixels .* say 480 x 640"):
        check_image(tmp_path / "a.jpg", expected_size=(480, 640))
