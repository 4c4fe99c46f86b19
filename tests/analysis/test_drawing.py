import logging

import numpy as np
import pytest
import torch
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageFont

from dino_detector.analysis.drawing import Comparison, class_color, draw_detections, enlarged, prediction_grid
from dino_detector.analysis.fonts import font_path
from dino_detector.structures.categories import Categories
from dino_detector.structures.detections import ImageDetections, supervision_detections

CATEGORIES = Categories(ids=(0, 4, 90), names=("cat", "käfer", "owl"))
GREY = (100, 100, 100)


def found(*rows, categories=CATEGORIES):
    """Return detections from rows (box, score, label)."""
    return ImageDetections(
        torch.tensor([box for box, _, _ in rows], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([score for _, score, _ in rows]),
        torch.tensor([label for _, _, label in rows], dtype=torch.int64),
    ).to_supervision(categories)


def truth(*rows):
    boxes = torch.tensor([box for box, _ in rows], dtype=torch.float32).reshape(-1, 4)
    return supervision_detections(boxes, torch.tensor([label for _, label in rows], dtype=torch.int64), CATEGORIES)


def where(picture, color):
    """Return [x, y] of all pixels of a colour."""
    rows, columns = np.nonzero((np.asarray(picture) == color).all(axis=2))
    return np.stack([columns, rows], axis=1)


def test_a_box_has_the_colour_of_its_class_where_it_lies():
    picture = draw_detections(
        Image.new("RGB", (640, 480), GREY),
        found(((100, 120, 300, 360), 0.9, 2)),
        categories=CATEGORIES,
        scores=True,
    )
    for x, y in ((100, 300), (300, 200), (200, 360), (200, 120)):
        assert picture.getpixel((x, y)) == class_color(2)
    for x, y in ((200, 240), (50, 240), (350, 240), (200, 420)):
        assert picture.getpixel((x, y)) == GREY
    assert len(where(picture, class_color(0))) == len(where(picture, class_color(1))) == 0


def test_a_class_has_one_colour_whatever_the_other_detections():
    image = Image.new("RGB", (200, 200), GREY)
    for rows in ([((20, 60, 90, 150), 0.9, 1)], [((110, 60, 190, 150), 0.95, 0), ((20, 60, 90, 150), 0.9, 1)]):
        picture = draw_detections(image, found(*rows), categories=CATEGORIES, scores=False)
        assert picture.getpixel((20, 120)) == class_color(1)


def test_eighty_classes_have_eighty_colours():
    assert len({class_color(label) for label in range(80)}) == 80
    assert class_color(0) == (0xE6, 0x19, 0x4B)


def test_tensors_and_pictures_of_any_mode_are_drawn_alike():
    detections = found(((20, 60, 90, 150), 0.9, 1))
    grey = Image.new("L", (200, 160), 100)
    tensor = torch.full((3, 160, 200), 100, dtype=torch.uint8)
    from_tensor = draw_detections(tensor, detections, categories=CATEGORIES, scores=True)
    assert from_tensor.size == (200, 160)
    assert from_tensor.tobytes() == draw_detections(grey, detections, categories=CATEGORIES, scores=True).tobytes()


def test_the_given_image_is_not_drawn_on():
    tensor = torch.full((3, 160, 200), 100, dtype=torch.uint8)
    image = Image.new("RGB", (200, 160), GREY)
    for given in (tensor, image):
        draw_detections(given, found(((20, 60, 90, 150), 0.9, 1)), categories=CATEGORIES, scores=True)
    assert image.getcolors() == [(200 * 160, GREY)]
    assert bool((tensor == 100).all())


def test_nothing_found_leaves_the_picture_as_it_was():
    image = Image.new("RGB", (64, 48), GREY)
    assert draw_detections(image, found(), categories=CATEGORIES, scores=True).tobytes() == image.tobytes()


def test_a_label_at_the_edge_stays_inside_the_image():
    picture = draw_detections(
        Image.new("RGB", (640, 480), GREY), found(((600, 0, 640, 30), 0.9, 2)), categories=CATEGORIES, scores=True
    )
    rows, columns = np.nonzero((np.asarray(picture) < 60).all(axis=2))  # black letters on yellow
    assert len(columns) > 20
    assert columns.max() < 638
    assert rows.max() < 20


def test_higher_scores_lie_on_top():
    box = (50, 50, 150, 150)
    picture = draw_detections(
        Image.new("RGB", (200, 200), GREY), found((box, 0.9, 0), (box, 0.1, 2)), categories=CATEGORIES, scores=True
    )
    assert picture.getpixel((50, 120)) == class_color(0)


def test_lines_grow_with_the_image():
    def covered(size):
        box = (0.2 * size, 0.2 * size, 0.8 * size, 0.8 * size)
        picture = draw_detections(
            Image.new("RGB", (size, size), GREY), found((box, 0.9, 0)), categories=CATEGORIES, scores=False
        )
        row = np.asarray(picture)[size // 2]
        return (row == class_color(0)).all(axis=1).mean()

    assert covered(2560) == pytest.approx(covered(640), rel=0.35)


@pytest.mark.parametrize("name", ["käfer", "Жук", "σκύλος"])
def test_letters_beyond_ascii_are_drawn_as_themselves(name):
    letters = ImageFont.truetype(font_path(name), 40)
    missing = letters.getmask("\U000f0000")
    for character in name:
        assert bytes(letters.getmask(character)) != bytes(missing)


def test_an_installed_font_that_has_the_letters_is_found():
    monospace_seven = "\U0001d7fd"  # not in DejaVu Sans, but in other fonts that come with matplotlib
    assert font_path("owl").name == "DejaVuSans.ttf"
    assert ord(monospace_seven) not in FT2Font(str(font_path("owl"))).get_charmap()
    assert ord(monospace_seven) in FT2Font(str(font_path(monospace_seven))).get_charmap()


def test_letters_that_no_font_has_are_reported_once(caplog):
    nowhere = "\U0010fffd"
    with caplog.at_level(logging.WARNING):
        assert font_path(nowhere) == font_path(nowhere)
    assert len(caplog.records) == 1


def grid_of(count):
    image = torch.full((3, 60, 80), 100, dtype=torch.uint8)
    item = Comparison(
        image=image,
        ground_truth=truth(((10, 20, 40, 50), 0)),
        predictions=found(((30, 20, 70, 50), 0.9, 1), ((5, 5, 75, 55), 0.1, 2)),
        caption="photo.jpg",
    )
    return prediction_grid([item] * count, categories=CATEGORIES, min_score=0.5, cell_width=240)


def picture_rows(grid):
    """Count the rows of pictures by their grey background."""
    has_pictures = (np.asarray(grid) == GREY).all(axis=2).sum(axis=1) > 100
    return int((np.diff(has_pictures.astype(int)) == 1).sum())


def test_truth_lies_left_and_predictions_right():
    grid = grid_of(1)
    legend = 60
    true = where(grid, class_color(0))
    predicted = where(grid, class_color(1))
    true, predicted = true[true[:, 1] > legend], predicted[predicted[:, 1] > legend]
    assert len(true)
    assert len(predicted)
    assert true[:, 0].max() < grid.width / 2 < predicted[:, 0].min()


def test_boxes_are_scaled_with_their_image():
    # Cells are 240 pixels wide for images of 80: the prediction, 40 x 30 pixels, covers 120 x 90.
    predicted = where(grid_of(1), class_color(1))
    predicted = predicted[predicted[:, 1] > 60]
    right_edge = predicted[predicted[:, 0] == predicted[:, 0].max()]
    assert np.ptp(right_edge[:, 1]) == pytest.approx(90, abs=6)
    assert np.ptp(predicted[:, 0]) == pytest.approx(120, abs=6)


def test_predictions_below_the_least_score_are_left_out():
    assert len(where(grid_of(1), class_color(2))) == 0


def test_pairs_fill_rows():
    one, three = grid_of(1), grid_of(3)
    assert three.width == pytest.approx(2 * one.width, rel=0.05)
    assert three.height > one.height * 1.4
    assert picture_rows(three) == 2


def test_the_legend_shows_the_classes_of_the_pictures_only():
    grid = grid_of(1).crop((0, 0, 506, 40))
    assert len(where(grid, class_color(0)))
    assert len(where(grid, class_color(1)))
    assert not len(where(grid, class_color(2)))


def test_a_crowded_picture_is_drawn_without_text():
    def pixels_of_text(count):
        boxes = [((10 * number, 100, 10 * number + 8, 108), 0.9, 0) for number in range(count)]
        image = Image.new("RGB", (480, 480), GREY)
        item = Comparison(image, truth(), found(*boxes), "x")
        grid = prediction_grid([item], categories=CATEGORIES, min_score=0.5)
        cell = grid.crop((512, grid.height - 504, 992, grid.height - 24))
        assert cell.getpixel((479, 479)) == cell.getpixel((0, 0)) == GREY
        return int((np.asarray(cell) > 200).all(axis=2).sum())

    assert pixels_of_text(25) > 50
    assert pixels_of_text(26) == 0


def test_a_grid_of_empty_images_is_drawn():
    item = Comparison(Image.new("RGB", (64, 48), GREY), truth(), found(), "nothing here")
    grid = prediction_grid([item], categories=CATEGORIES, min_score=0.5)
    assert len(where(grid.crop((0, grid.height - 24 - 360, *grid.size)), GREY)) == 2 * 480 * 360


def test_a_small_picture_is_enlarged_and_a_large_one_is_not():
    picture, scale = enlarged(Image.new("RGB", (64, 48), GREY), 640)
    assert (picture.size, scale) == ((640, 480), 10.0)
    picture, scale = enlarged(Image.new("RGB", (64, 900), GREY), 640)
    assert (picture.size, scale) == ((64, 900), 1.0)


def test_the_label_of_a_small_picture_leaves_most_of_it_to_see():
    box = ([10, 25, 60, 60], 0.9, 0)
    for side in (48, 64):
        picture = draw_detections(Image.new("RGB", (side, side), GREY), found(box), categories=CATEGORIES, scores=True)
        changed = (np.asarray(picture) != GREY).any(axis=2)
        assert changed.mean() < 1 / 6
