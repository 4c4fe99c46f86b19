"""Recommends settings of a training for a data set and a machine, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dino_detector.config import LIGHTWEIGHT, MAX_DETECTIONS, Config, ImageSize
from dino_detector.config.setting import plain as as_plain
from dino_detector.data.coco.columns import Split
from dino_detector.data.layouts import find_sources
from dino_detector.data_check.check import load
from dino_detector.data_check.classes import IMBALANCE
from dino_detector.data_check.machine import GIB, PlannedMachine
from dino_detector.data_check.patches import ENOUGH, PATCH, SMALL_SHARE, STRETCHED, STRETCHED_SHARE, PatchGrid
from dino_detector.errors import InputError
from dino_detector.plain_text import counted, percent, wrapped

SIDES = (224, 280, 336, 392, 448, 518, 616, 728, 840, 1022)
"""sides of square inputs to choose from; other shapes have the same areas"""
LARGEST_ON_CPU = 518
SAME_SHAPE, SAME_SHARE = 0.1, 0.9
"""images of a shape differ by less than a tenth in width / height; a data set has one shape if nine in ten have it"""
GPU_FOR_BASE = 10 * GIB
"""memory of a GPU from which dinov2-base is recommended"""
IMAGES_SHOWN = 20_000
"""images that a run shows, repeats over epochs included, within the bounds of EPOCHS"""
EPOCHS = (12, 16, 20, 30, 40, 50)
MOST_QUERIES = 900
SPARE = 1.2
"""queries for each object of the fullest image"""
STEPS = 20
"""least steps of an epoch, which a larger batch would go below"""
USED_MEMORY, USED_DISK = 0.6, 0.25
"""shares of the free memory and disk that a run may take"""
RARE = 0.1
"""share of the images below which a class is rare, as in docs/augment_a_small_set.md"""


@dataclass(frozen=True)
class Choice:
    """A setting with its value, the reason in one line, and the page of the documentation that it rests on."""

    setting: str
    value: Any
    reason: str
    page: str

    @property
    def text(self) -> str:
        """The value as in YAML."""
        value = as_plain(self.value)
        return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


@dataclass(frozen=True, repr=False)
class Recommendation:
    """Recommended settings of a training, and advice that no setting can follow.

    Attributes:
        data: folder or file of the data set.
        machine: the machine in words.
        choices: settings with their reasons.
        advice: sentences.
    """

    data: Path
    machine: str
    choices: tuple[Choice, ...]
    advice: tuple[str, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """The recommended settings by name."""
        return {choice.setting: choice.value for choice in self.choices}

    @property
    def reasons(self) -> dict[str, str]:
        """The reason of each setting by name."""
        return {choice.setting: choice.reason for choice in self.choices}

    def yaml_text(self) -> str:
        """Return the settings as YAML for ``train --config``, with the reasons as comments."""
        lines = wrapped(f"Settings for {self.data} on {self.machine}.", first="# ", then="# ")
        lines += ["# Train with: dino-detector train DATA --config THIS_FILE", ""]
        for choice in self.choices:
            lines += wrapped(f"{choice.reason} (docs/{choice.page})", first="# ", then="# ")
            lines.append(f"{choice.setting}: {choice.text}")
        for sentence in self.advice:
            lines += ["", *wrapped(sentence, first="# ", then="# ")]
        return "\n".join(lines) + "\n"

    def __repr__(self) -> str:
        names = max(len(choice.setting) for choice in self.choices) + 2
        values = max(len(choice.text) for choice in self.choices) + 2
        lines = [f"{'setting':{names}}{'value':{values}}reason"]
        for choice in self.choices:
            first = f"{choice.setting:{names}}{choice.text:{values}}"
            lines += wrapped(choice.reason, first=first, then=" " * (names + values))
        for sentence in self.advice:
            lines += ["", *wrapped(sentence)]
        return "\n".join(lines)


def recommend(data: str | Path, *, device: str = "auto", machine: PlannedMachine | None = None) -> Recommendation:
    """Recommend settings of a training for a data set and a machine.

    The annotations are read as in ``dino-detector data``; no image is opened beyond its size.

    Args:
        data: folder or file of a data set from any labelling tool.
        device: device to train on, as in the settings.
        machine: another machine to plan for; None takes this one.

    Raises:
        InputError: the data can't be read, or has no boxes to train on.
    """
    data = Path(data)
    sources = find_sources(data)
    loaded = load(sources, data if data.is_dir() else data.parent, [None] * len(sources))
    train = next((split for split in loaded.splits if split.name == "train"), loaded.splits[0])
    if not train.trained.any():
        raise InputError(f"{train.path}: has no boxes to train on; see dino-detector data {data}")
    plan = _Plan(train, loaded.splits, machine or PlannedMachine.here(device))
    return Recommendation(data, str(plan.machine), *plan.made())


class _Plan:
    """The choices for a training split and a machine; later choices rest on earlier ones."""

    def __init__(self, train: Split, splits: Sequence[Split], machine: PlannedMachine) -> None:
        self.train, self.machine = train, machine
        self.num_images = len(train.images.ids)
        self.val_images = sum(len(split.images.ids) for split in splits if split.name == "val")
        self.choices: list[Choice] = []
        self.advice: list[str] = []

    def made(self) -> tuple[tuple[Choice, ...], tuple[str, ...]]:
        self._model()
        self._input()
        self._queries()
        self._epochs()
        self._batch()
        self._cache()
        self._classes()
        if not self.val_images:
            self.advice.append(
                "There is no validation split, so nothing measures the detector: keep about a tenth of the images "
                "out of training and name their folder val."
            )
        return tuple(self.choices), tuple(self.advice)

    def _choose(self, setting: str, value: Any, reason: str, page: str) -> None:
        self.choices.append(Choice(setting, value, reason, page))

    def _model(self) -> None:
        machine = self.machine
        self.light = not machine.has_gpu
        if self.light:
            reason = "no GPU: the preset takes about 0.28 of the time of the standard model, at a lower AP"
            self._choose("lightweight", True, reason, "choose_a_model.md")
        large = machine.has_gpu and machine.memory >= GPU_FOR_BASE
        self.width, parameters = (768, 87) if large else (384, 22)
        name = f"facebook/dinov2-{'base' if large else 'small'}"
        place = f"a GPU with {machine.memory / GIB:.0f} GiB" if machine.has_gpu else f"{machine.cores} cores and no GPU"
        self._choose("dino_model", name, f"{parameters} million frozen parameters, for {place}", "choose_a_model.md")

    def _input(self) -> None:
        """Choose the shape, the smallest size at which few boxes are below a patch, and the feature levels."""
        sizes = self.train.images.sizes
        sizes = sizes[np.isfinite(sizes).all(axis=1)]
        if not len(sizes):
            self.size = Config().data.image_size
            self._choose("image_size", self.size, "the sizes of the images are unknown", "check_your_data.md")
            return
        ratios = sizes[:, 0] / sizes[:, 1]
        median = float(np.median(ratios))
        alike = float((np.abs(ratios / median - 1) <= SAME_SHAPE).mean())
        one_shape = alike >= SAME_SHARE
        ratio = median if one_shape and abs(median - 1) > SAME_SHAPE else 1.0
        stretched = float((np.maximum(ratios, 1 / ratios) >= STRETCHED).mean())
        mode = "stretch" if one_shape or stretched < STRETCHED_SHARE else "letterbox"
        picture = float(np.median(np.sqrt(sizes.prod(axis=1))))
        least, most = (SIDES[0], LARGEST_ON_CPU) if self.light else (LARGEST_ON_CPU, SIDES[-1])
        least = min(least, next((side for side in SIDES if side >= picture), SIDES[-1]))
        most = max(least, min(most, next((side for side in SIDES if side >= picture), SIDES[-1])))
        for side in (side for side in SIDES if least <= side <= most):
            size = ImageSize(*(PATCH * max(1, round(side * part / PATCH)) for part in (ratio**-0.5, ratio**0.5)))
            sides = PatchGrid(size, mode).sides(self.train)[self.train.trained]
            sides = sides[np.isfinite(sides)]
            below = float((sides < 1).mean()) if len(sides) else 0.0
            if below <= ENOUGH:
                break
        self.size = size
        middle = float(np.median(sides)) if len(sides) else math.nan
        shape = f"; {percent(alike)} of the images have width / height near {median:.2f}" if ratio != 1 else ""
        small = f"{percent(below)} of {counted(len(sides), 'box', 'boxes')} are below a patch of {PATCH} pixels"
        self._choose("image_size", size, f"{small}, the median is {middle:.1f} patches{shape}", "check_your_data.md")
        reason = f"{percent(stretched)} of the images have one side at least {STRETCHED:g} times the other"
        self._choose("resize_mode", mode, reason, "check_your_data.md")
        scales = LIGHTWEIGHT["feature_scales"] if self.light else Config().decoder.feature_scales
        usual = "levels of the preset" if self.light else "default levels"
        reason = f"a side has {middle:.1f} patches in the median: the {usual} fit"
        if below >= SMALL_SHARE:
            scales, reason = [4.0, 2.0, 1.0], f"{percent(below)} of the boxes are below a patch: finer cells show them"
            self.advice.append(
                f"{percent(below)} of the boxes stay below a patch at {size} pixels: cut large pictures into tiles "
                "before training, and detect with --tile_size (docs/detect_small_objects.md)."
            )
        self.levels = scales
        self._choose("feature_scales", scales, reason, "choose_a_model.md")

    def _queries(self) -> None:
        rows, split = self.train.trained, self.train
        most = int(np.bincount(split.boxes.image[rows]).max())
        mean = rows.sum() / max(1, self.num_images)
        least = 60 if self.light else 100
        self.queries = min(MOST_QUERIES, max(least, 10 * math.ceil(SPARE * most / 10)))
        reason = f"an image has {mean:.1f} objects in the mean and {most:,} at most"
        self._choose("num_queries", self.queries, reason, "choose_a_model.md")
        if most > MOST_QUERIES:
            self.advice.append(f"The fullest image has {most:,} objects: cut such pictures into tiles before training.")
        pairs = split.boxes.image[rows] * max(1, len(split.categories.ids)) + split.boxes.category[rows]
        of_class = int(np.unique(pairs, return_counts=True)[1].max())
        if of_class > MAX_DETECTIONS:
            limit = 100 * math.ceil(of_class / 100)
            reason = f"an image has up to {of_class:,} objects of a class, and COCO's metrics count {MAX_DETECTIONS}"
            self._choose("max_detections", limit, reason, "evaluate.md")

    def _epochs(self) -> None:
        wanted = IMAGES_SHOWN / max(1, self.num_images)
        self.epochs = next((epochs for epochs in EPOCHS if epochs >= wanted), EPOCHS[-1])
        shown = f"{counted(self.num_images, 'training image')}: the run shows {self.num_images * self.epochs:,}"
        self._choose("epochs", self.epochs, f"{shown} images in all", "recipe.md")
        every = max(1, self.epochs // 10)
        evaluations = math.ceil(self.epochs / every)
        self._choose("val_frequency", every, f"{counted(evaluations, 'evaluation')} in the run", "tune_the_training.md")

    def _batch(self) -> None:
        fixed, each = self._memory()
        room = self.machine.memory * USED_MEMORY - fixed
        default = Config().training.batch_size
        largest = 2 * default if self.machine.has_gpu else default
        batch = largest
        while batch > 1 and (batch * each > room or self.num_images < STEPS * batch):
            batch //= 2
        needed = (fixed + batch * each) / GIB
        steps = math.ceil(self.num_images / batch)
        reason = f"takes roughly {needed:.1f} of {self.machine.memory / GIB:.1f} GiB; {steps:,} steps an epoch"
        self._choose("batch_size", batch, reason, "performance.md")
        if batch < default and batch * each * 2 > room:
            reason = f"a step averages {default} images although {batch} fit in the memory"
            self._choose("accumulate_batches", default // batch, reason, "watch_a_run.md")
        if room < each:
            self.advice.append(
                f"The memory of this machine is small for this model, which needs roughly {needed:.1f} GiB: the run "
                "first takes its largest step, and names settings that fit."
            )
        workers = min(8, self.machine.cores) if self.machine.has_gpu else min(2, self.machine.cores - 1)
        work = "a GPU computes" if self.machine.has_gpu else "the cores compute too"
        reason = f"{counted(self.machine.cores, 'processor core')} to load images, and {work}"
        self._choose("num_workers", workers, reason, "watch_a_run.md")

    def _memory(self) -> tuple[float, float]:
        """Return the bytes of a run without images, and the bytes of each image of a batch: see `MEMORY`."""
        tokens = self.size.height * self.size.width / PATCH**2
        kind = "light" if self.light else "base" if self.width == 768 else "small"
        fixed, by_token = MEMORY[kind]
        scale = sum(level**2 for level in self.levels) if hasattr(self, "levels") else 5.25
        usual = 5.0 if self.light else 5.25
        return fixed * GIB, by_token * 2**20 * tokens * max(1.0, scale / usual)

    def _cache(self) -> None:
        """Cache the trunk where its output takes a small part of the free disk."""
        tokens = 1 + self.size.height * self.size.width // PATCH**2
        config = Config().augmentation
        views = Config().cache.views_of(config.no_augment_from(self.epochs))
        entries = self.num_images * (views + 2) + self.val_images  # an image is also shown whole, mirrored or not
        needed = entries * tokens * self.width * 2
        sizes = f"{needed / GIB:.1f} GiB for {counted(views, 'view')} of each image"
        if needed <= USED_DISK * self.machine.disk:
            reason = (
                f"at most {sizes}, with {self.machine.disk / GIB:.0f} GiB free; later epochs skip the frozen layers"
            )
            self._choose("cache_trunk", "trunk_cache", reason, "cache_the_trunk.md")
        else:
            self.advice.append(f"A trunk cache would take {sizes}, too much for the free disk.")

    def _classes(self) -> None:
        """Repeat the images of rare classes where the classes differ much."""
        split, rows = self.train, self.train.trained
        counts = np.bincount(split.boxes.category[rows], minlength=len(split.categories.ids))
        counts = counts[counts > 0]
        pairs = np.unique(np.stack([split.boxes.category[rows], split.boxes.image[rows]]), axis=1)
        images = np.bincount(pairs[0])
        rarest = images[images > 0].min() / max(1, self.num_images)
        times = counts.max() / counts.min()
        if times >= IMBALANCE and rarest < RARE:
            reason = (
                f"the largest class has {times:,.0f} times the boxes of the smallest, which is in {percent(rarest)}"
            )
            self._choose("repeat_threshold", RARE, f"{reason} of the images", "augment_a_small_set.md")


MEMORY = {"light": (1.2, 0.10), "small": (1.4, 0.35), "base": (1.8, 0.35)}
"""GiB of a run without images, and MiB for each patch of an image, both in float32 on a CPU

Measured at 518 pixels with a batch of one: 140 MiB of saved tensors and a peak of 1.28 GiB for the preset,
and 472 MiB and 2.10 GiB for dinov2-base with the default settings, both before the optimizer state. dinov2-small with
the default settings is not measured; it takes the tensors of dinov2-base, which are more.
"""
