from __future__ import annotations

import numpy as np
import pytest
import torch

from dino_detector.config import AugmentationConfig, ImageSize
from dino_detector.data.augmentation.copy_paste import MOST_HIDDEN, covered_share, visible_part, visible_parts
from dino_detector.data.augmentation.pipeline import Augmentation
from dino_detector.data.dataset import CocoDetection, SampleKey

SIZE = ImageSize(200, 200)
WHOLE = {"scale_range": [1.0, 1.0], "zoom_out_probability": 0.0, "crop_probability": 0.0}
GROUND = torch.tensor([40, 40, 40], dtype=torch.uint8).view(3, 1, 1)
COLOURS = {0: (250, 0, 0), 1: (0, 250, 0), 2: (0, 0, 250), 3: (250, 250, 0), 4: (250, 0, 250)}


def picture(boxes: list[list[int]], labels: list[int], side: int = 200):
    """Draw objects that fill their boxes with the colour of their label; later objects lie above."""
    image = GROUND.repeat(1, side, side)
    for (left, top, right, bottom), label in zip(boxes, labels, strict=True):
        image[:, top:bottom, left:right] = torch.tensor(COLOURS[label], dtype=torch.uint8).view(3, 1, 1)
    return image, boxes, labels


def samples(images, *, count, size=SIZE, mode="stretch", probability=1.0, **settings):
    """Return ``count`` samples of the first image."""
    settings = {
        "copy_paste_probability": probability,
        "photometric_probability": 0.0,
        "flip_probability": 0.0,
    } | settings
    view = Augmentation(AugmentationConfig(**settings), resize_mode=mode, seed=1, no_augment_from=10**6)
    data = CocoDetection(images, view=view, on_bad_image="skip")
    return [data[SampleKey(epoch, 0, 0, size)] for epoch in range(count)]


def around(image: torch.Tensor, label: int, side: int) -> np.ndarray:
    """Return the smallest box around all squares of ``side`` pixels in the colour of a label."""
    colour = torch.tensor(COLOURS[label]).view(3, 1, 1)
    mask = ((image.int() - colour).abs() < 125).all(dim=0)
    squares = -torch.nn.functional.max_pool2d(-mask[None].float(), side, stride=1)[0]
    rows, columns = squares.nonzero(as_tuple=True)
    return np.array([columns.min(), rows.min(), columns.max() + side, rows.max() + side])


def assert_tight(box: list[float], image: torch.Tensor, label: int) -> None:
    """Check that a box holds all clearly visible pixels and no invisible ones, with soft edges up to 8 pixels."""
    edges, widest, surest = np.array(box), around(image, label, side=1), around(image, label, side=5)
    assert (edges[:2] >= widest[:2] - 4).all()
    assert (edges[2:] <= widest[2:] + 4).all()
    assert (edges[:2] <= surest[:2] + 4).all()
    assert (edges[2:] >= surest[2:] - 4).all()


def test_the_share_that_is_covered_by_hand():
    boxes = np.array([[0, 0, 10, 10], [5, 5, 25, 15], [20, 20, 30, 30], [2, 2, 4, 4]], np.float32)
    # covers 5 x 5 of the second box's 20 x 10; the third only touches
    covers = np.array([[0, 0, 10, 10], [0, 0, 100, 100], [3, 3, 25, 25]])
    shares = covered_share(boxes, covers)
    assert shares[:2].tolist() == [[1, 0.125, 0, 1], [1, 1, 1, 1]]
    assert shares[2].tolist() == pytest.approx([0.49, 1, 0.25, 0.25])
    assert covered_share(boxes[:0], covers).shape == (3, 0)


@pytest.mark.parametrize(
    ("covers", "visible"),
    [
        ([], [10, 10, 30, 40]),
        ([[0, 0, 15, 50]], [15, 10, 30, 40]),  # over the whole left
        ([[10, 35, 30, 40]], [10, 10, 30, 35]),  # exactly the lowest sixth
        ([[0, 0, 20, 20]], [10, 10, 30, 40]),  # a corner
        ([[15, 0, 20, 50]], [10, 10, 30, 40]),  # a stripe in the middle
        ([[12, 12, 28, 38]], [10, 10, 30, 40]),  # all but the edges
        ([[0, 0, 15, 25], [5, 20, 15.5, 60]], [15, 10, 30, 40]),  # the left, by two together
        ([[0, 0, 15, 25], [5, 26, 15.5, 60]], [10, 10, 30, 40]),  # the left, except for a gap
        ([[30, 10, 50, 40]], [10, 10, 30, 40]),  # touches
        ([[11, 10.5, 15, 39]], [15, 10, 30, 40]),  # the left, except for one-pixel stripes
        ([[0, 11.1, 15, 50]], [10, 10, 30, 40]),  # the left, except for a wider stripe
    ],
)
def test_a_box_shrinks_to_what_is_visible_by_hand(covers, visible):
    seen = visible_parts(np.array([[10, 10, 30, 40]], np.float32), [np.array(cover, np.float32) for cover in covers])
    assert seen.tolist() == [visible]


@pytest.mark.parametrize(
    ("box", "cover"), [([10, 10, 11.5, 11.5], [10.7, 10.7, 50, 50]), ([10, 10, 11.4, 40], [11, 0, 50, 50])]
)
def test_a_box_of_a_pixel_or_two_keeps_what_is_visible_of_it(box, cover):
    (seen,) = visible_parts(np.array([box], np.float32), [np.array(cover, np.float32)])
    assert seen[0] == box[0]
    assert seen[2] == pytest.approx(box[2] if box[3] == 11.5 else cover[0])
    assert seen[[1, 3]].tolist() == [box[1], box[3]]


def test_some_of_every_box_is_left_whatever_may_be_pasted_over_it():
    rng = np.random.default_rng(0)
    hidden_somewhere = 0
    for _ in range(3000):
        near = rng.uniform(2, 20, 2)
        box = np.concatenate([near, near + rng.uniform(0.5, 4, 2)]).astype(np.float32)
        covers, left = [], MOST_HIDDEN
        for _ in range(rng.integers(1, 4)):
            cover = np.sort(rng.uniform(0, 26, (2, 2)), axis=0).ravel().astype(np.float32)
            share = covered_share(box[None], cover[None]).item()
            if share <= left:
                covers.append(cover)
                left -= share
        (seen,) = visible_parts(box[None], covers)
        assert (seen[:2] >= box[:2]).all()
        assert (seen[2:] <= box[2:]).all()
        assert (seen[2:] - seen[:2] >= 0.4 * (box[2:] - box[:2])).all()
        hidden_somewhere += left < MOST_HIDDEN
    assert hidden_somewhere > 100


def test_visible_parts_are_those_of_painted_pixels():
    rng = np.random.default_rng(0)
    shrunk = 0
    for _ in range(300):
        corners = np.sort(rng.integers(0, 30, (8, 2, 2)), axis=1) + np.array([[0], [1]])
        boxes = corners.reshape(8, 4).astype(np.float32)
        canvas = np.zeros((40, 40), bool)
        for left, top, right, bottom in boxes[1:].astype(int):
            canvas[top:bottom, left:right] = True
        left, top, right, bottom = boxes[0].astype(int)
        free = ~canvas[top:bottom, left:right]
        if not free.any():
            continue
        rows, columns = np.nonzero(free.any(axis=1))[0], np.nonzero(free.any(axis=0))[0]
        painted = [left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1]
        assert visible_part(boxes[0], boxes[1:]) == painted
        shrunk += painted != boxes[0].tolist()
    assert shrunk > 50


def test_pasted_objects_have_their_boxes_and_their_size(pictures):
    """Paste three objects of three sizes onto an empty image; their places differ from sample to sample."""
    boxes = [[20, 20, 60, 50], [120, 30, 150, 90], [30, 130, 100, 180]]
    images = pictures(picture([], []), picture(boxes, [0, 1, 2]))
    places, counts = set(), np.zeros(4)
    for seen in samples(images, count=60, **WHOLE):
        assert len(set(seen.labels.tolist())) == len(seen.labels), "each object comes once at most"
        counts[len(seen.labels)] += 1
        for box, label in zip(seen.boxes_xyxy, seen.labels.tolist(), strict=True):
            places.add(tuple(box.tolist()))
            left, top, right, bottom = boxes[label]
            # an object that is pasted later may hide an edge of it
            assert (box[2:] - box[:2] <= torch.tensor([right - left, bottom - top]) + 1e-4).all()
            assert_tight(box.tolist(), seen.image, label)
    assert (counts[1:] > 0).all()
    assert len(places) > 60


def test_soft_edges_fade_to_what_is_below(pictures):
    """Within ten percent of 100 pixels around the box, the object's image fades in gradually."""
    white = torch.full((3, 200, 200), 200, dtype=torch.uint8)
    images = pictures((white, [], []), picture([[40, 40, 140, 140]], [0]))
    seen = next(
        seen for seen in samples(images, count=20, **WHOLE) if len(seen.labels) == 1 and seen.boxes_xyxy[0, 0] >= 10
    )
    left, top, right, bottom = seen.boxes_xyxy[0].int().tolist()
    middle = seen.image[0, (top + bottom) // 2].float()
    assert (middle[left:right] == 250).all()
    # opacity 1 - (distance to the box) / 10 at pixel centres, over 200 with 40 above
    expected = 200 + (40 - 200) * (1 - (torch.arange(10) + 0.5).flip(0) / 10)
    torch.testing.assert_close(middle[left - 10 : left], expected.round(), atol=1, rtol=0)
    assert (middle[: left - 10] == 200).all()


def test_objects_of_the_image_stay_visible_with_tight_boxes(pictures):
    """Long objects are pasted too, which hide a whole side."""
    old = [[10, 10, 60, 70], [70, 20, 130, 60], [140, 30, 190, 110], [20, 100, 90, 180], [120, 120, 180, 190]]
    new = [[20, 20, 50, 50], [60, 20, 74, 120], [40, 140, 150, 154], [160, 20, 172, 110]]
    images = pictures(picture(old, [0, 1, 2, 3, 4]), picture(new, [0, 0, 0, 0]))
    shrunk = pasted = 0
    for seen in samples(images, count=150, **WHOLE):
        assert len(seen.labels) >= 5
        assert sorted(set(seen.labels.tolist())) == [0, 1, 2, 3, 4], "none is lost"
        pasted += len(seen.labels) > 5
        for label in range(1, 5):
            (box,) = seen.boxes_xyxy[seen.labels == label].tolist()
            assert_tight(box, seen.image, label)
            area = (old[label][2] - old[label][0]) * (old[label][3] - old[label][1])
            colour = torch.tensor(COLOURS[label]).view(3, 1, 1)
            seen_pixels = ((seen.image.int() - colour).abs() < 125).all(dim=0).sum().item()
            assert seen_pixels >= (1 - MOST_HIDDEN) * area - 4 * (box[2] - box[0] + box[3] - box[1])
            shrunk += box != [float(edge) for edge in old[label]]
    assert pasted > 50, "there are places left"
    assert shrunk > 20


def test_with_an_object_come_those_that_are_in_its_box(pictures):
    boxes = [[40, 40, 140, 140], [60, 60, 90, 90], [120, 100, 180, 130]]  # the last is a third in the first
    images = pictures(picture([], []), picture(boxes, [0, 1, 2]))
    together = 0
    for seen in samples(images, count=80, **WHOLE):
        labels = seen.labels.tolist()
        if 0 in labels and labels.index(0) == 0:
            together += 1
            assert labels.count(1) == 1
            offset = seen.boxes_xyxy[labels.index(1), :2] - seen.boxes_xyxy[0, :2]
            torch.testing.assert_close(offset, torch.tensor([20.0, 20.0]), atol=1e-3, rtol=0)
    assert together > 20


@pytest.mark.parametrize("mode", ["stretch", "letterbox"])
def test_objects_are_pasted_onto_the_image_at_its_scale(pictures, mode):
    """The image is shown at half its size somewhere on the canvas; the other image has twice its pixels."""
    white = torch.full((3, 200, 200), 200, dtype=torch.uint8)
    images = pictures((white, [], []), picture([[80, 80, 160, 120]], [0], side=400))
    found = 0
    for seen in samples(images, count=60, mode=mode, **WHOLE | {"scale_range": [0.5, 0.5]}):
        rows, columns = (seen.image[1] == 200).nonzero(as_tuple=True)
        for box in seen.boxes_xyxy:
            found += 1
            # 80 x 40 of 400 pixels, shown in 100
            torch.testing.assert_close(box[2:] - box[:2], torch.tensor([20.0, 10.0]), atol=0.01, rtol=0)
            assert (box[:2] >= torch.tensor([columns.min(), rows.min()]) - 2).all()
            assert (box[2:] <= torch.tensor([columns.max(), rows.max()]) + 3).all()
    assert found > 15


def test_an_image_stays_as_it_is_where_nothing_is_pasted(pictures):
    base = picture([[10, 10, 60, 70]], [1])
    images = pictures(base, picture([[20, 20, 50, 50]], [0]))
    for seen in samples(images, count=10, probability=0.0, **WHOLE):
        assert torch.equal(seen.image, base[0])
        assert seen.boxes_xyxy.tolist() == [[10, 10, 60, 70]]
    full = picture([[0, 0, 200, 200]], [1])
    images = pictures(full, picture([[0, 0, 190, 190]], [0]))
    for seen in samples(images, count=10, **WHOLE):
        assert torch.equal(seen.image, full[0]), "it would hide the image"
        assert seen.labels.tolist() == [1]


def test_however_large_the_scale_the_other_image_is_not_enlarged_without_end(pictures, monkeypatch):
    images = pictures(picture([], []), picture([[50, 50, 60, 60]], [1]))
    read, asked = images.read_part, []

    def remember(index, crop, size):
        asked.append(size)
        return read(index, crop, size)

    monkeypatch.setattr(images, "read_part", remember)
    samples(images, count=40, **WHOLE | {"scale_range": [90.0, 90.0]})
    pasted = [size for size in asked if size != SIZE]
    assert max(max(size) for size in pasted) <= 3 * 200


def test_another_image_that_cannot_be_read_is_replaced_by_the_next_and_reported(pictures):
    objects = [[20, 20, 60, 50]]
    images = pictures(picture([], []), picture(objects, [1]), picture(objects, [2]))
    path = images.folder / "1.png"
    path.write_bytes(path.read_bytes()[:60])
    labels, reported = set(), 0
    for seen in samples(images, count=40, **WHOLE):
        labels |= set(seen.labels.tolist())
        assert seen.image_id == 100
        assert all("1.png: cannot be read" in line and "image 101" in line for line in seen.skipped)
        reported += bool(seen.skipped)
    assert labels == {2}
    assert 3 < reported < 37


def test_small_objects_that_come_along_keep_their_boxes(pictures):
    """They are too small to be chosen for pasting, but they are visible inside the large object."""
    small = [[60, 60, 63, 63], [100, 100, 102, 102]]
    images = pictures(picture([], []), picture([[40, 40, 140, 140], *small], [0, 1, 1]))
    together = 0
    for seen in samples(images, count=40, **WHOLE):
        labels = seen.labels.tolist()
        assert labels in ([], [0, 1, 1]), "never alone"
        together += bool(labels)
    assert together > 10
