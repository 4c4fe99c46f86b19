"""Copy-paste for boxes: pastes rectangles of objects from another image, with soft edges."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dino_detector.data.augmentation.scene import Scene
from dino_detector.data.coco.images import CocoImages, Objects
from dino_detector.data.windows import Piece, Window, for_both_corners, whole_window

CHOSEN = 0.5
"""probability to paste each object of the other image"""
SMALLEST_SIDE = 4
"""smallest side in input pixels of an object that is chosen for pasting"""
MARGIN = 0.1
"""width of the soft edge around a box, as a fraction of the box's side; half of it counts as opaque"""
PLACES = 10
"""number of random places to try for an object"""
MOST_HIDDEN = 0.3
"""largest share of a box that pasted objects may hide"""
SLIVER = 1
"""stripes at a box's edge of at most this width in input pixels, and at most a tenth of the box, count as hidden; a box
with `MOST_HIDDEN` hidden keeps an area"""
LARGEST_SCENE = 3
"""largest side of the resized other image, relative to the paste window; larger objects would not fit"""
ALONG = 0.5
"""least share of an object that must lie in the rectangle of a pasted object for its box to be pasted too"""


def paste_objects(
    scene: Scene,
    rng: np.random.Generator,
    images: CocoImages,
    partner: int,
    *,
    scale: np.ndarray,
    within: Window,
    flip_probability: float,
) -> Scene:
    """Paste some objects of another image into a scene, each at most once, and return the scene.

    Follows "Simple Copy-Paste" (https://arxiv.org/abs/2012.07177), for boxes instead of masks. As in "Cut, Paste and
    Learn" (https://arxiv.org/abs/1708.01642), objects go to random places and their edges are blended. Other objects
    that lie mostly inside the pasted rectangle are pasted with it.

    No place is used that hides more than `MOST_HIDDEN` of an object. The box of a partly hidden object shrinks to its
    visible part, because annotators box what they see.

    Args:
        scene: the scene; its pixels are changed in place.
        rng: source of randomness.
        images: the data set.
        partner: index of the other image; if it can't be read, `InputError` is raised and the scene is unchanged.
        scale: ``[2]``, height and width in the scene of a pixel of the other image, limited by `LARGEST_SCENE`.
        within: the part of the scene to paste into.
        flip_probability: probability to mirror the other image.
    """
    size = images.size(partner)
    scale = scale * min(1, (LARGEST_SCENE * within.sides[::-1] / (scale * size)).min())
    height, width = np.maximum((scale * size).round().astype(int), 1).tolist()
    mirrored = rng.random() < flip_probability
    piece = Piece(whole_window(size), Window(0, 0, width, height), mirrored)
    offered = images.objects(partner)
    offered = Objects(piece.move(offered.boxes_xyxy), offered.labels).at_least(1)
    sides = offered.boxes_xyxy[:, 2:] - offered.boxes_xyxy[:, :2]
    left = (rng.random(len(offered.labels)) < CHOSEN) & (sides >= SMALLEST_SIDE).all(axis=1)
    if not left.any():
        return scene
    source = images.read_part(partner, piece.crop, (height, width))
    source = source.flip(-1) if mirrored else source

    areas = sides.prod(axis=1)
    layers = [scene.objects]
    covers: list[np.ndarray] = []  # of the pasted rectangles; each lies over the earlier layers
    hidden = np.zeros(len(scene.objects.labels))
    while left.any():
        number = int((left * areas).argmax())  # large objects first, while there is room
        left[number] = False
        patch = Patch(offered.boxes_xyxy[number], source)
        boxes_xyxy = Objects.joined(layers).boxes_xyxy
        shift = patch.find_place(rng, within, boxes_xyxy, np.maximum(MOST_HIDDEN - hidden, 0))
        if shift is None:
            continue
        patch.paste(scene.pixels, shift)
        along = covered_share(offered.boxes_xyxy, patch.cover[None])[0] >= ALONG
        along[number] = True
        left &= ~along
        edges = for_both_corners(shift).astype(np.float32)
        near, far = np.split(patch.cover, 2)
        inside = offered.boxes_xyxy[along].clip(for_both_corners(near), for_both_corners(far))
        covers.append(patch.cover + edges)
        layers.append(Objects(inside + edges, offered.labels[along]))
        hidden = np.append(hidden + covered_share(boxes_xyxy, covers[-1][None])[0], np.zeros(along.sum()))
    visible = [
        Objects(visible_parts(layer.boxes_xyxy, covers[depth:]), layer.labels) for depth, layer in enumerate(layers)
    ]
    return Scene(scene.pixels, Objects.joined(visible).at_least(1))


class Patch:
    """The rectangle of a box ``[4]`` in an image ``[3, H, W]`` uint8, with a soft edge around it.

    Attributes:
        cover: ``[4]`` xyxy, the opaque part: the box and half of the edge.
    """

    def __init__(self, box_xyxy: np.ndarray, image: Tensor) -> None:
        limits = np.array(image.shape[:0:-1], np.float32)  # width, height
        near, far = box_xyxy[:2], box_xyxy[2:]
        margin = np.maximum(MARGIN * (far - near), 1)
        self.cover = np.concatenate([np.maximum(near - margin / 2, 0), np.minimum(far + margin / 2, limits)])
        self._near = np.floor(np.maximum(near - margin, 0)).astype(int)
        self._far = np.ceil(np.minimum(far + margin, limits)).astype(int)
        (left, top), (right, bottom) = self._near, self._far
        self._pixels = image[:, top:bottom, left:right].float()
        centres = np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5
        across, down = (
            1 - np.maximum(np.maximum(near[axis] - centres[axis], centres[axis] - far[axis]), 0) / margin[axis]
            for axis in (0, 1)
        )
        self._opacity = torch.from_numpy(np.outer(down.clip(0), across.clip(0)).astype(np.float32))  # [h, w]

    def find_place(
        self, rng: np.random.Generator, within: Window, boxes_xyxy: np.ndarray, may_hide: np.ndarray
    ) -> np.ndarray | None:
        """Draw a shift ``[2]`` (x, y) in pixels that moves the patch into a window; None if no place was found.

        The moved patch hides at most the shares ``may_hide`` ``[N]`` of the boxes ``[N, 4]``.
        """
        room = within.sides - (self._far - self._near)
        if (room < 0).any():
            return None
        shifts = within.corner - self._near + rng.integers(0, room + 1, (PLACES, 2))
        allowed = (covered_share(boxes_xyxy, self.cover + for_both_corners(shifts)) <= may_hide).all(axis=1)
        return shifts[allowed.argmax()] if allowed.any() else None

    def paste(self, canvas: Tensor, shift: np.ndarray) -> None:
        """Blend the patch into a canvas ``[3, H, W]``, moved by ``shift`` (x, y)."""
        (left, top), (right, bottom) = self._near + shift, self._far + shift
        below = canvas[:, top:bottom, left:right]
        below.copy_(torch.lerp(below.float(), self._pixels, self._opacity).round_())


def covered_share(boxes_xyxy: np.ndarray, covers_xyxy: np.ndarray) -> np.ndarray:
    """Return the share ``[K, N]`` of each box ``[N, 4]`` that each rectangle ``[K, 4]`` covers."""
    near = np.maximum(boxes_xyxy[:, :2], covers_xyxy[:, None, :2])
    common = (np.minimum(boxes_xyxy[:, 2:], covers_xyxy[:, None, 2:]) - near).clip(0)  # [K, N, 2]
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    return common[..., 0] * common[..., 1] / (sides[:, 0] * sides[:, 1])


def visible_parts(boxes_xyxy: np.ndarray, covers_xyxy: list[np.ndarray]) -> np.ndarray:
    """Return the smallest boxes ``[N, 4]`` around the visible parts of boxes ``[N, 4]`` under rectangles ``[4]``.

    A rectangle that leaves at most a `SLIVER` free at an edge of a box counts as reaching the edge. Each box must be
    partly visible.
    """
    visible_xyxy = boxes_xyxy.copy()
    covers = np.array(covers_xyxy, np.float32).reshape(-1, 4)
    for number, (near, far) in enumerate(boxes_xyxy.reshape(-1, 2, 2)):
        sliver = np.minimum(SLIVER, (far - near) / 10)
        above = covers[(covers[:, :2] < far).all(axis=1) & (covers[:, 2:] > near).all(axis=1)]
        if len(above) > 0:
            start = np.where(above[:, :2] <= near + sliver, near, above[:, :2])
            end = np.where(above[:, 2:] >= far - sliver, far, above[:, 2:])
            visible_xyxy[number] = visible_part(boxes_xyxy[number], np.concatenate([start, end], axis=1))
    return visible_xyxy


def visible_part(box_xyxy: np.ndarray, covers_xyxy: np.ndarray) -> list[float]:
    """Return the smallest box ``[4]`` around the visible part of a box ``[4]`` under rectangles ``[K, 4]``.

    The result is exact: the edges of the rectangles cut the box into cells that are wholly visible or wholly hidden.
    At least one cell must be visible.
    """
    x, y = (
        np.unique(np.concatenate([box_xyxy[axis::2], covers_xyxy[:, axis::2].ravel()]).clip(*box_xyxy[axis::2]))
        for axis in (0, 1)
    )
    columns = (covers_xyxy[:, [0]] <= x[:-1]) & (covers_xyxy[:, [2]] >= x[1:])  # [K, cells along x]
    rows = (covers_xyxy[:, [1]] <= y[:-1]) & (covers_xyxy[:, [3]] >= y[1:])  # [K, cells along y]
    visible = ~(rows[:, :, None] & columns[:, None, :]).any(axis=0)
    across, down = (np.flatnonzero(visible.any(axis=axis)) for axis in (0, 1))
    return [x[across[0]], y[down[0]], x[across[-1] + 1], y[down[-1] + 1]]
