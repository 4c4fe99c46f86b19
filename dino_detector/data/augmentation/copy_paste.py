"""Copy-paste for data with boxes: rectangles of objects from one image, with soft edges, in another."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dino_detector.data.augmentation.scene import Scene
from dino_detector.data.coco.images import CocoImages, Objects
from dino_detector.data.windows import Piece, Window, for_both_corners, whole_window

CHOSEN = 0.5
"""Chance of each object of the other image to be pasted."""
SMALLEST_SIDE = 4
"""Pixels of the input; a smaller object is not pasted for its own sake."""
MARGIN = 0.1
"""Width of the soft edge around a box, as a fraction of the box's side; half of it hides what is below."""
PLACES = 10
"""How many places are tried for an object."""
MOST_HIDDEN = 0.3
"""Largest share of a box that pasted objects may hide."""
SLIVER = 1
"""Pixels of the input; a stripe between a pasted object and the edge of a box that is no wider does not count, unless
it is more than a tenth of the box. So what is left of a box of which `MOST_HIDDEN` is hidden has always some extent."""
LARGEST_SCENE = 3
"""how many times wider or higher than where it is pasted the other image is enlarged at most; objects of more have no
room in it"""
ALONG = 0.5
"""Share of another object of the other image that has to be in what is pasted, to come along with its box."""


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
    """Paste some objects of another image into a scene, each once at most.

    After "Simple Copy-Paste" (https://arxiv.org/abs/2012.07177), for boxes instead of masks: as in "Cut, Paste and
    Learn" (https://arxiv.org/abs/1708.01642), objects go to random places and their edges are blended. With the
    rectangle of an object come the others that are for the most part in it.

    No place is taken where objects would be hidden for the most part: their boxes would have to go, and the rest of
    them would be visible without one. A box of which some is hidden shrinks to the smallest around what is visible,
    since annotators box what they see.

    Args:
        scene: its pixels are changed.
        rng: what is random is drawn from it.
        images: of the data set.
        partner: index of the other image.
        scale: ``[2]``, height and width in the scene of a pixel of the other image, limited by `LARGEST_SCENE`.
        within: where in the scene to paste.
        flip_probability: chance to mirror the other image.

    Raises:
        InputError: the other image can't be read; nothing has been pasted then.
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
    covers: list[np.ndarray] = []  # what is pasted later lies over the layers before
    hidden = np.zeros(len(scene.objects.labels))
    while left.any():
        number = int((left * areas).argmax())  # large ones first, while there is room for them
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
    """The rectangle of a box in an image, with a soft edge around it.

    Args:
        box_xyxy: ``[4]`` float32.
        image: ``[3, H, W]`` uint8, which holds the box.

    Attributes:
        cover: ``[4]`` xyxy, what of the image hides what is below: the box and half of the edge.
    """

    def __init__(self, box_xyxy: np.ndarray, image: Tensor) -> None:
        limits = np.array(image.shape[:0:-1], np.float32)  # width, height
        near, far = box_xyxy[:2], box_xyxy[2:]
        margin = np.maximum(MARGIN * (far - near), 1)
        self._near = np.floor(np.maximum(near - margin, 0)).astype(int)
        self._far = np.ceil(np.minimum(far + margin, limits)).astype(int)
        self.cover = np.concatenate([np.maximum(near - margin / 2, 0), np.minimum(far + margin / 2, limits)])
        across, down = (
            1 - np.maximum(np.maximum(start - centres, centres - end), 0) / width
            for start, end, width, centres in zip(near, far, margin, self._pixel_centres(), strict=True)
        )
        self._opacity = torch.from_numpy(np.outer(down.clip(0), across.clip(0)).astype(np.float32))  # [h, w]
        (left, top), (right, bottom) = self._near, self._far
        self._pixels = image[:, top:bottom, left:right].float()

    def find_place(
        self, rng: np.random.Generator, within: Window, boxes_xyxy: np.ndarray, may_hide: np.ndarray
    ) -> np.ndarray | None:
        """By how many pixels ``[2]`` (x, y) to move it into a window; None where no place was found.

        Of the boxes ``[N, 4]`` that are there, it hides no more than the shares ``[N]``.
        """
        room = within.sides - (self._far - self._near)
        if (room < 0).any():
            return None
        shifts = within.corner - self._near + rng.integers(0, room + 1, (PLACES, 2))
        allowed = (covered_share(boxes_xyxy, self.cover + for_both_corners(shifts)) <= may_hide).all(axis=1)
        return shifts[allowed.argmax()] if allowed.any() else None

    def paste(self, canvas: Tensor, shift: np.ndarray) -> None:
        """Blend it into a canvas ``[3, H, W]``, moved by ``shift`` (x, y)."""
        (left, top), (right, bottom) = self._near + shift, self._far + shift
        below = canvas[:, top:bottom, left:right]
        below.copy_(torch.lerp(below.float(), self._pixels, self._opacity).round_())

    def _pixel_centres(self) -> tuple[np.ndarray, np.ndarray]:
        columns, rows = (np.arange(first, end) + 0.5 for first, end in zip(self._near, self._far, strict=True))
        return columns, rows


def covered_share(boxes_xyxy: np.ndarray, covers_xyxy: np.ndarray) -> np.ndarray:
    """Shares ``[K, N]`` of the areas of boxes ``[N, 4]`` that lie in rectangles ``[K, 4]``, in each by itself."""
    near = np.maximum(boxes_xyxy[:, :2], covers_xyxy[:, None, :2])
    common = (np.minimum(boxes_xyxy[:, 2:], covers_xyxy[:, None, 2:]) - near).clip(0)  # [K, N, 2]
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    return common[..., 0] * common[..., 1] / (sides[:, 0] * sides[:, 1])


def visible_parts(boxes_xyxy: np.ndarray, covers_xyxy: list[np.ndarray]) -> np.ndarray:
    """The smallest boxes ``[N, 4]`` around what is visible of boxes ``[N, 4]`` under rectangles ``[4]`` each.

    A rectangle that leaves no more than a `SLIVER` free at an edge of a box counts as reaching it. Some of each box
    must be visible.
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
    """The smallest box ``[4]`` around what is visible of a box ``[4]`` under rectangles ``[K, 4]``.

    It is exact: their edges cut the box into cells that are visible or not as a whole. One at least must be visible.
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
