"""Tiles and the merging of their detections, with a detector that finds painted squares exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import pytest
import torch
from squares import Scene, as_set, find_squares
from torch import Tensor

from dino_detector.config import ImageSize, TilingConfig
from dino_detector.data.windows import Window
from dino_detector.errors import InputError
from dino_detector.inference.image_detector import ImageDetector
from dino_detector.inference.tiling import merge_views, views_of
from dino_detector.structures.detections import ImageDetections

TILES = TilingConfig(ImageSize(200, 200), 0.2)
"""neighbours share at least 40 pixels; a square of 10 pixels or more is found in a tile"""


class SquareDetector(ImageDetector):
    """Finds the squares of a batch, or whatever another function finds."""

    def __init__(self, find: Callable[[Sequence[Tensor]], list[ImageDetections]] = find_squares) -> None:
        self.find = find

    def detect(self, images: Sequence[Tensor]) -> list[ImageDetections]:
        return self.find(images)


def detect(*scenes: Scene, tiling: TilingConfig = TILES, batch_size: int = 4) -> list[ImageDetections]:
    images = [scene.image for scene in scenes]
    return list(SquareDetector().detect_each(images, tiling=tiling, batch_size=batch_size))


# --- positions of tiles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "tile", "overlap", "tops", "lefts"),
    [
        (640, 1000, (640, 640), 0.2, [0], [0, 360]),
        (1500, 640, (640, 640), 0.2, [0, 430, 860], [0]),  # steps of at most 512: two to get from 0 to 860
        (300, 500, (100, 200), 0.0, [0, 100, 200], [0, 150, 300]),
        (50, 500, (100, 200), 0.5, [0], [0, 100, 200, 300]),
        (10, 3, (1, 1), 0.9, list(range(10)), [0, 1, 2]),
    ],
)
def test_the_whole_image_comes_first_and_then_its_tiles_row_by_row(
    height: int, width: int, tile: tuple[int, int], overlap: float, tops: list[int], lefts: list[int]
):
    whole, *tiles = views_of(height, width, TilingConfig(ImageSize(*tile), overlap))
    assert whole == Window(0, 0, width, height)
    assert [(view.top, view.left) for view in tiles] == [(top, left) for top in tops for left in lefts]
    assert {(view.height, view.width) for view in tiles} == {(min(tile[0], height), min(tile[1], width))}


@pytest.mark.parametrize("length", [101, 140, 180, 181, 260, 999, 1000, 1001])
@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.25, 0.5, 0.77, 0.99])
def test_tiles_lie_in_the_image_and_share_at_least_the_overlap(length: int, overlap: float):
    _, *tiles = views_of(80, length, TilingConfig(ImageSize(100, 100), overlap))
    lefts = [view.left for view in tiles]
    assert (lefts[0], lefts[-1] + 100) == (0, length)
    shared = [left + 100 - following for left, following in pairwise(lefts)]
    assert min(shared) >= 100 * overlap
    assert max(shared) - min(shared) <= 1, "they are spread evenly"
    assert max(shared) < 100


@pytest.mark.parametrize("size", [(200, 200), (1, 1), (200, 30)])
def test_an_image_that_fits_in_a_tile_is_a_single_view(size: tuple[int, int]):
    assert views_of(*size, TILES) == [Window(0, 0, size[1], size[0])]
    assert views_of(*size, TilingConfig()) == [Window(0, 0, size[1], size[0])]


def test_a_number_of_tiles_in_place_of_their_size_is_refused():
    with pytest.raises(InputError, match=r"tile_size 4 and .* 600 x 800 .* into 53,400 tiles; give a larger tile_size"):
        views_of(600, 800, TilingConfig(ImageSize(4, 4), 0.25))


@pytest.mark.parametrize("overlap", [1.0, 1.5, -0.1, float("nan")])
def test_an_overlap_that_leaves_no_step_is_refused(overlap: float):
    with pytest.raises(InputError, match=f"tile_overlap must be .*, not {overlap}"):
        TilingConfig(ImageSize(9, 9), overlap)


# --- merged detections --------------------------------------------------------------------------------------------


def test_an_image_of_one_tile_is_detected_as_without_tiles():
    scene = Scene(200, 180)
    scene.paint(3, 4, 60, 50)
    scene.paint(20, 30, 80, 66, label=2, score=0.3)
    for tiling in (TILES, TilingConfig(ImageSize(10_000, 10_000)), TilingConfig()):
        (found,) = detect(scene, tiling=tiling)
        for column, plain in zip(found, find_squares([scene.image])[0], strict=True):
            assert torch.equal(column, plain)


@pytest.mark.parametrize("seed", range(8))
def test_small_objects_come_out_once_wherever_they_lie(seed: int):
    """Each fits in the overlap of neighbours, so one tile sees it whole; others see a part, the whole image nothing."""
    generator = torch.Generator().manual_seed(seed)
    scene = Scene(913, 1107)
    for top in range(0, 860, 50):
        for left in range(0, 1050, 150):
            dx, dy, width, height = torch.randint(10, 40, (4,), generator=generator).tolist()
            label = int(torch.randint(3, (), generator=generator))
            score = 0.2 + 0.7 * torch.rand((), generator=generator).item()
            x, y = left + dx, top + dy // 4
            scene.paint(x, y, x + width, y + height, label=label, score=score)
    assert len(find_squares([scene.image])[0].scores) == 0
    (found,) = detect(scene)
    assert as_set(found) == sorted(scene.painted)


def test_an_object_that_every_tile_cuts_is_put_together():
    """Objects are wider than the overlap and too small for the whole image; tiles of 200 begin at 0, 150, 300 ..."""
    tiling = TilingConfig(ImageSize(200, 200), 0.25)
    scene = Scene(800, 2000)
    scene.paint(120, 40, 215, 60)  # in two tiles: the first ends at 200, and the second begins at 150
    scene.paint(420, 130, 520, 230, score=0.6)  # in four
    (found,) = detect(scene, tiling=tiling)
    assert as_set(found) == sorted(scene.painted)
    assert found.scores.tolist() == pytest.approx([204 / 255, 153 / 255])


@pytest.mark.parametrize(("box", "part"), [((150, 190), (160, 190)), ((170, 210), (170, 200))])
def test_half_an_object_that_scores_higher_does_not_displace_the_whole(box: tuple[int, int], part: tuple[int, int]):
    """Tiles are 0..200, 160..360 and so on: one sees the whole square, its neighbour a part, the full image none."""
    scene = Scene(200, 1000)
    scene.paint(box[0], 50, box[1], 80, score=0.4)
    scene.shine(part[0], 50, part[1], 80, score=0.9)
    (found,) = detect(scene)
    assert as_set(found) == scene.painted
    assert found.scores.item() == pytest.approx(0.9, abs=0.002)


def test_large_objects_come_from_the_whole_image():
    scene = Scene(900, 900)
    scene.paint(100, 150, 800, 700, score=0.7)
    scene.paint(0, 750, 450, 900, label=1)  # at the border of the image, which cuts nothing off
    (found,) = detect(scene)
    assert as_set(found) == sorted(scene.painted)
    assert found.labels.tolist() == [1, 0]


def test_small_objects_in_front_of_a_large_one_are_kept():
    scene = Scene(900, 900)
    scene.paint(100, 150, 800, 700, score=0.9)
    for left in range(130, 760, 60):
        scene.paint(left, 300, left + 20, 325)
    (found,) = detect(scene)
    assert as_set(found) == sorted(scene.painted)


def test_neighbours_that_overlap_are_kept():
    """Their IoU is 50 * 50 / (2 * 60 * 60 - 50 * 50) = 0.53, and up to four tiles see both."""
    scene = Scene(500, 500)
    for left, top in ((20, 20), (130, 130), (120, 220), (220, 225)):
        scene.paint(left, top, left + 60, top + 60, score=0.8)
        scene.paint(left + 10, top + 10, left + 70, top + 70, score=0.7)
    (found,) = detect(scene, tiling=TilingConfig(ImageSize(200, 200), 0.5))
    assert as_set(found) == sorted(scene.painted)


THREE = [Window(0, 0, 300, 100), Window(0, 0, 200, 100), Window(100, 0, 200, 100)]
"""an image and its two tiles"""


def seen(*rows: tuple[list[float], float, int]) -> ImageDetections:
    """Return boxes, scores and labels found in a view."""
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return ImageDetections(
        torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels, dtype=torch.int64)
    )


def rows_of(merged: ImageDetections) -> list[tuple[list[float], float, int]]:
    scores = [round(score, 6) for score in merged.scores.tolist()]
    return list(zip(merged.boxes_xyxy.tolist(), scores, merged.labels.tolist(), strict=True))


def test_boxes_come_out_in_pixels_of_the_image():
    views = [Window(0, 0, 300, 300), Window(0, 0, 200, 200), Window(100, 100, 200, 200)]
    merged = merge_views(views, [seen(), seen(), seen(([70.0, 20.0, 90.0, 60.0], 0.9, 4))])
    assert rows_of(merged) == [([170, 120, 190, 160], 0.9, 4)]


def test_objects_of_different_classes_in_the_same_place_are_kept():
    box = [20.0, 20.0, 60.0, 60.0]
    merged = merge_views(THREE, [seen((box, 0.8, 1)), seen((box, 0.9, 0)), seen()])
    assert rows_of(merged) == [(box, 0.9, 0), (box, 0.8, 1)]


def test_boxes_of_two_views_are_one_object_from_an_iou_of_a_half():
    small = ([20.0, 20.0, 60.0, 60.0], 0.9, 0)
    wide, wider = ([20.0, 20.0, 100.0, 60.0], 0.5, 0), ([20.0, 20.0, 100.5, 60.0], 0.5, 0)
    assert rows_of(merge_views(THREE, [seen(wide), seen(small), seen()])) == [small]
    assert rows_of(merge_views(THREE, [seen(wider), seen(small), seen()])) == [small, wider]


def test_boxes_of_one_view_are_never_merged():
    box = [120.0, 20.0, 180.0, 60.0]
    twice = seen((box, 0.9, 0), (box, 0.8, 0))
    in_the_second = seen(([20.0, 20.0, 80.0, 60.0], 0.7, 0))
    for found in ([twice, seen(), seen()], [seen(), twice, seen()], [twice, twice, in_the_second]):
        assert rows_of(merge_views(THREE, found)) == [(box, 0.9, 0), (box, 0.8, 0)]


def test_complete_neighbours_that_two_tiles_see_are_kept():
    """Each lies whole in one tile; in the strip that both tiles see they overlap by 20 of 100 and 135 pixels."""
    views = [Window(0, 0, 360, 200), Window(0, 0, 200, 200), Window(160, 0, 200, 200)]
    left, right = ([100.0, 50.0, 185.0, 100.0], 0.9, 0), ([165.0, 50.0, 300.0, 100.0], 0.8, 0)
    cut_right = ([165.0, 50.0, 200.0, 100.0], 0.4, 0)  # in the first tile, which ends at 200
    second = ([5.0, 50.0, 140.0, 100.0], 0.8, 0)
    assert rows_of(merge_views(views, [seen(), seen(left, cut_right), seen(second)])) == [left, right]


def test_one_box_stands_for_one_of_another_view_at_most():
    """The whole image finds one box over two neighbours that a tile separates: it merges with the more similar one."""
    blurred = ([30.0, 20.0, 90.0, 60.0], 0.95, 0)
    first, second = ([20.0, 20.0, 80.0, 60.0], 0.9, 0), ([38.0, 20.0, 98.0, 60.0], 0.85, 0)
    assert rows_of(merge_views(THREE, [seen(blurred), seen(first, second), seen()])) == [blurred, first]


def test_thousands_of_views_are_merged_in_little_memory():
    whole, *tiles = views_of(9000, 9000, TilingConfig(ImageSize(100, 100), 0.0))
    assert len(tiles) == 8100
    found = [seen() for _ in tiles]
    found[17] = seen(([10.0, 10.0, 30.0, 30.0], 0.9, 0))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        merged = merge_views([whole, *tiles], [seen(), *found])
    assert len(merged.scores) == 1
    largest = max(event.self_cpu_memory_usage for event in profile.key_averages())
    assert largest < 50 * 2**20  # a matrix of all pairs of views would have 250 MiB


def test_what_is_the_same_as_the_box_that_completes_another_is_not_kept_beside_it():
    """The first tile cuts the object at 200. The second box agrees with the whole image more than with the first."""
    cut, whole = ([140.0, 20.0, 200.0, 60.0], 0.9, 0), ([140.0, 20.0, 250.0, 60.0], 0.8, 0)
    short = ([75.0, 20.0, 150.0, 60.0], 0.7, 0)  # 175 to 250 in the image: 25 of 60 pixels of the first, 75 of 110
    assert rows_of(merge_views(THREE, [seen(whole), seen(cut), seen(short)])) == [(whole[0], 0.9, 0)]


def test_a_neighbour_in_the_view_of_the_best_is_kept_where_another_view_completes_that():
    """The first tile finds two overlapping boxes that are cut off; the whole image finds one, which resembles both."""
    cut, whole = ([140.0, 20.0, 200.0, 60.0], 0.9, 0), ([140.0, 20.0, 250.0, 60.0], 0.8, 0)
    neighbour = ([150.0, 22.0, 200.0, 62.0], 0.6, 0)  # IoU with the whole in that tile: 50 * 38 / (60 * 40 + 50 * 2)
    merged = merge_views(THREE, [seen(whole), seen(cut, neighbour), seen()])
    assert rows_of(merged) == [(whole[0], 0.9, 0), neighbour]


def test_the_border_of_the_image_cuts_nothing_off():
    """Otherwise the other box would extend the better box."""
    better, worse = ([0.0, 20.0, 40.0, 60.0], 0.9, 0), ([0.0, 20.0, 50.0, 60.0], 0.5, 0)
    assert rows_of(merge_views(THREE, [seen(worse), seen(better), seen()])) == [better]


def test_a_box_that_ends_just_short_of_a_tile_counts_as_cut_off():
    """The tolerance is a hundredth of the tile's side, here 2 pixels."""
    whole = ([150.0, 20.0, 210.0, 60.0], 0.5, 0)
    for end, box in ((198.0, whole[0]), (197.5, [150.0, 20.0, 197.5, 60.0])):
        cut = ([150.0, 20.0, end, 60.0], 0.9, 0)
        assert rows_of(merge_views(THREE, [seen(whole), seen(cut), seen()])) == [(box, 0.9, 0)]


def test_scores_fall():
    scene = Scene(700, 700)
    for number in range(30):
        x, y = 20 + number % 6 * 110, 20 + number // 6 * 130
        scene.paint(x, y, x + 30, y + 30, score=0.1 + number * 0.37 % 0.85, label=number % 3)
    (found,) = detect(scene)
    assert len(found.scores) == 30
    assert (found.scores.diff() <= 0).all()


def test_more_than_a_hundred_objects_come_out():
    scene = Scene(1000, 1000)
    for number in range(225):
        x, y = 10 + number % 15 * 65, 10 + number // 15 * 65
        scene.paint(x, y, x + 20, y + 20)
    (found,) = detect(scene)
    assert as_set(found) == sorted(scene.painted)


def test_an_empty_image_gives_nothing():
    (found,) = detect(Scene(500, 700))
    assert [(column.shape, column.dtype) for column in found] == [
        ((0, 4), torch.float32),
        ((0,), torch.float32),
        ((0,), torch.int64),
    ]


# --- batches ------------------------------------------------------------------------------------------------------


@pytest.fixture
def scenes() -> list[Scene]:
    """Return scenes of 1, 7, 3 and 1 views."""
    sizes = [(150, 150), (300, 500), (100, 350), (200, 60)]
    made = [Scene(*size) for size in sizes]
    for number, scene in enumerate(made):
        scene.paint(10, 20, 40, 60, label=number)
    made[1].paint(300, 140, 330, 190, score=0.5)
    assert [len(views_of(*size, TILES)) for size in sizes] == [1, 7, 3, 1]
    return made


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_the_batch_size_changes_nothing(scenes: list[Scene], batch_size: int):
    for scene, found in zip(scenes, detect(*scenes, batch_size=batch_size), strict=True):
        assert as_set(found) == sorted(scene.painted)


def test_batches_are_full_across_images_and_hold_views_in_order(scenes: list[Scene]):
    sizes = []

    def record(images: Sequence[Tensor]) -> list[ImageDetections]:
        sizes.append([tuple(image.shape[1:]) for image in images])
        return find_squares(images)

    list(SquareDetector(record).detect_each([scene.image for scene in scenes], tiling=TILES, batch_size=5))
    tile = (200, 200)
    assert sizes == [
        [(150, 150), (300, 500), tile, tile, tile],
        [tile, tile, tile, (100, 350), (100, 200)],
        [(100, 200), (200, 60)],
    ]


def test_images_are_taken_when_their_turn_comes(scenes: list[Scene]):
    taken = []

    def images() -> Iterator[Tensor]:
        for number, scene in enumerate(scenes):
            taken.append(number)
            yield scene.image

    found = SquareDetector().detect_each(images(), tiling=TILES, batch_size=5)
    seen = []
    for _ in found:
        seen.append(list(taken))
    assert seen == [[0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3]]


def test_no_images_give_nothing():
    assert detect() == []
