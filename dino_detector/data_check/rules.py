"""The rules of a recommendation: each chooses one setting from the facts, and gives the reason in one line.

A rule keeps the default unless a number speaks against it. Reasons name the page of ``docs/`` with the measurement. A
constant that rests on no measurement of this project says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from dino_detector.config import LIGHTWEIGHT, Config, ImageSize
from dino_detector.data_check.classes import FEW_BOXES, IMBALANCE
from dino_detector.data_check.facts import GIB, Facts, Hardware
from dino_detector.data_check.patches import PATCH, SMALL_SHARE, STRETCHED, STRETCHED_SHARE, PatchGrid, larger_input
from dino_detector.download.disk import as_size
from dino_detector.plain_text import counted, percent, quoted


class Limits(NamedTuple):
    """Limits of a run on one kind of device.

    Attributes:
        images: images that a run sees, each once in an epoch.
        epochs: fewest epochs, even with more images.
        schedule: the reason for both numbers.
    """

    images: int
    epochs: int
    schedule: str


class Memory(NamedTuple):
    """GiB of a training step: without its images, of each image, and of each image with the levels `FINER`."""

    fixed: float
    image: float
    finer: float


PROCESSOR = Limits(100_000, 10, "100,000 images of 336 pixels take two cores 5 to 12 hours (performance.md)")
"""5.7 and 2.3 images/s of the lightweight preset with bf16 and without"""
GPU = Limits(1_500_000, 12, "12 epochs of COCO's 118,287 images are the common 1x schedule")
"""from the literature; GPUs are not measured"""
MEMORY = {False: Memory(0.5, 0.9, 1.5), True: Memory(0.2, 0.25, 0.65)}
"""GiB of a step of the standard model and of the lightweight preset: ``python -m benchmarks.speed.ours step`` at 518
pixels in float32 on a processor, which measured 1.39 GiB for one image of the standard model (2.00 with finer levels),
and 0.43 and 1.11 GiB for one and four images of the preset (0.85 for one with finer levels). GPUs are not measured"""
SPARE = 0.8
"""share of the memory that a step may take"""
LARGEST_FACTOR = 2.0
"""largest factor on the sides of a GPU's input for small objects, which makes four times the patches. Not measured"""
WIDE = 1.6
"""aspect ratio from which the input gets the shape of the pictures; 16:9 is wider, 3:2 is not. Not measured"""
SAFE_SIDE = 2.0
"""patches that the sides of 95 % of the boxes keep where a processor trains on smaller images. Not measured"""
SMALLEST_INPUT = 224
"""smallest input in pixels on a processor: the input of the measurements in choose_a_model.md"""
FINER = [4.0, 2.0, 1.0]
CHEAP_QUERIES, MOST_QUERIES = 300, 900
"""queries up to which they cost little, and the largest number that performance.md has measured"""
LEAST_STEPS = 2_000
"""optimizer steps in which AP still rises: 40 epochs of 205 images in batches of 4, see recipe.md"""
MOST_EPOCHS = 500
SHORT_RUN = 10
"""epochs of a run for which recipe.md advises no scale jitter"""
EVALUATIONS = 20
COMMON_SHARE = 0.1
"""share of images from which a class needs no repeats: the example in augment_a_small_set.md"""
CACHE_SHARE = 0.5
"""share of the free disk that the trunk cache may take"""
VAL_FRACTION = 0.2
"""share of the training images to evaluate on if there are no others, as in train_on_my_data.md. Not measured"""
SMALL_WIDTH = 384
"""width of dinov2-small, the base of the lightweight preset"""
FEW_CORES = 2
"""processor cores from which a step leaves none for data workers, see performance.md"""
CONFIG = Config()
DEFAULTS = CONFIG.flat()


class Choice(NamedTuple):
    """A setting, its value in the types of YAML, and the reason in one line."""

    name: str
    value: Any
    reason: str


Chosen = Mapping[str, Any]
"""the values of the earlier rules, by setting"""
Rule = Callable[[Facts, Hardware, Chosen], Choice | None]


def lightweight(facts: Facts, hardware: Hardware, chosen: Chosen) -> Choice:
    """Choose the lightweight preset on a processor, and on a GPU without room for the standard model."""
    need, memory = step_memory(1, {"lightweight": False, "image_size": 518}), f"{hardware.memory / GIB:.1f} GiB"
    if hardware.device == "cpu":
        reason = "on a processor; the preset trains in 0.28 of the time of the standard model (choose_a_model.md)"
        return Choice("lightweight", True, reason)
    if need > SPARE * hardware.memory:
        reason = f"a step of the standard model takes about {need / GIB:.1f} GiB, and the GPU has {memory}"
        return Choice("lightweight", True, reason)
    reason = f"the GPU has {memory}, enough for the standard model, whose AP is higher (choose_a_model.md)"
    return Choice("lightweight", False, reason)


def dino_model(facts: Facts, hardware: Hardware, chosen: Chosen) -> Choice:
    """Choose the base of the preset, or the default base."""
    model = _default("dino_model", chosen)
    if chosen["lightweight"]:
        return Choice("dino_model", model, "the base of the lightweight preset")
    return Choice("dino_model", model, "the default; larger bases are not measured")


def resize_mode(facts: Facts, hardware: Hardware, chosen: Chosen) -> Choice:
    """Choose letterbox if no one shape of the input fits the pictures."""
    squeezed, shape = input_shape(facts)
    if shape is None:
        half = "would be squeezed to half their width or height"
        return Choice(
            "resize_mode", "letterbox", f"{percent(squeezed)} of the pictures {half} in an input of one shape"
        )
    text = "of the pictures are squeezed to half their width or height"
    return Choice("resize_mode", "stretch", f"{percent(squeezed)} {text}")


def image_size(facts: Facts, hardware: Hardware, chosen: Chosen) -> Choice:
    """Choose the shape of the pictures; a larger input for small objects, and a smaller one on a processor for large.

    The processor's smaller input keeps 95 % of the boxes at `SAFE_SIDE` patches or more.
    """
    shape = input_shape(facts)[1] or 1.0
    default = CONFIG.data.image_size.height
    grid = PatchGrid(_of_shape(default, shape), chosen["resize_mode"])
    sides, size = facts.sides(grid), grid.image_size
    below, low = facts.share_below_patch(grid), float(np.quantile(sides, 0.05))
    small = f"{percent(below)} of the boxes are below a patch ({PATCH} pixels) at {size}"
    if below >= SMALL_SHARE and hardware.device == "cpu":
        reason = f"{small}; on a processor finer levels come before a larger input (recipe.md)"
    elif below >= SMALL_SHARE:
        larger = larger_input(sides, grid, most=LARGEST_FACTOR)
        size, left = (size, below) if larger is None else larger
        worth = f"{LARGEST_FACTOR:g} times the sides would not help half of them"
        reason = f"{small}, and {worth if larger is None else f'{percent(left)} at this size'}"
    elif hardware.device == "cpu" and low > SAFE_SIDE:
        patches = _patches(size)
        wanted = max(SMALLEST_INPUT, default * SAFE_SIDE / low)
        size = _of_shape(min(default, PATCH * math.ceil(round(wanted / PATCH, 6))), shape)
        least = float(np.quantile(facts.sides(PatchGrid(size, grid.resize_mode)), 0.05))
        share = f"{_patches(size) / patches:.2f} of the patches of {grid.image_size}"
        reason = f"95 % of the boxes keep sides of {least:.1f} patches, at {share}"
    else:
        reason = small
    if shape != 1:
        reason = f"the median picture is {shape:.2f} times as wide as high; {reason}"
    return Choice("image_size", size.height if size.height == size.width else str(size), reason)


def feature_scales(facts: Facts, hardware: Hardware, chosen: Chosen) -> Choice:
    """Choose finer levels if objects are still small at the chosen size."""
    share = facts.share_below_patch(grid_of(chosen))
    small, default = f"{percent(share)} of the boxes are below a patch at this size", _default("feature_scales", chosen)
    if share >= SMALL_SHARE:
        return Choice("feature_scales", FINER, f"{small}: finer levels come first (recipe.md)")
    return Choice("feature_scales", default, f"{small}; one level alone has a lower AP (recipe.md)")


def num_queries(facts: Facts, hardware: Hardware, chosen: Chosen) -> Choice:
    """Choose twice the most objects of an image, because copy-paste adds objects of another image."""
    most, default = facts.most_boxes, _default("num_queries", chosen)
    objects = f"an image has up to {counted(most, 'object')}"
    if 2 * most <= default:
        return Choice("num_queries", default, f"{objects}, and the default is at least twice this number")
    wanted = 10 * math.ceil(2 * most / 10)
    if wanted <= CHEAP_QUERIES:
        reason = f"{objects}, and copy-paste adds objects of another; queries cost little (choose_a_model.md)"
        return Choice("num_queries", wanted, reason)
    wanted = max(CHEAP_QUERIES, min(MOST_QUERIES, 50 * math.ceil(1.2 * most / 50)))
    return Choice("num_queries", wanted, f"{objects}; queries cost little up to {CHEAP_QUERIES} (performance.md)")


def batch_size(facts: Facts, hardware: Hardware, chosen: Chosen) -> Choice:
    """Choose the default, or less if a step does not fit the memory."""
    default, memory = DEFAULTS["batch_size"], f"{hardware.memory / GIB:.1f} GiB"
    fitting = [size for size in (1, 2, default) if step_memory(size, chosen) <= SPARE * hardware.memory]
    size = max(fitting, default=1)
    reason = f"a step takes about {step_memory(size, chosen) / GIB:.1f} of {memory}"
    if size == default:
        reason += "; twice the batch has a lower AP on a small set (recipe.md)"
    return Choice("batch_size", size, reason)


def accumulate_batches(facts: Facts, hardware: Hardware, chosen: Chosen) -> Choice | None:
    """Choose as many batches as make the default batch, if the batch is smaller."""
    batches = DEFAULTS["batch_size"] // chosen["batch_size"]
    if batches == DEFAULTS["accumulate_batches"]:
        return None
    reason = f"{batches} batches of {chosen['batch_size']} make the default batch of {DEFAULTS['batch_size']}"
    return Choice("accumulate_batches", batches, reason)


def val_fraction(facts: Facts, hardware: Hardware, chosen: Chosen) -> Choice | None:
    """Hold back training images for the evaluation if there is no validation and no test split; it takes two images."""
    if facts.images < 2 or facts.val_images or facts.names & {"val", "test"}:
        return None
    reason = f"there is no split val: about {round(VAL_FRACTION * facts.images):,} of {facts.images:,} images "
    return Choice("val_fraction", VAL_FRACTION, f"{reason}tell how good the detector is (train_on_my_data.md)")


def epochs(facts: Facts, hardware: Hardware, chosen: Chosen) -> Choice:
    """Choose more than the default for few images, and less for many."""
    default, limits, images = DEFAULTS["epochs"], _limits(hardware), training_images(facts, chosen)
    steps = math.ceil(images / DEFAULTS["batch_size"])
    text = f"{counted(images, 'training image')} in {default} epochs make {default * steps:,} steps"
    if default * steps < LEAST_STEPS:
        value = min(MOST_EPOCHS, 10 * math.ceil(LEAST_STEPS / steps / 10))
        return Choice("epochs", value, f"{text}, and AP still rose at {LEAST_STEPS:,} (recipe.md)")
    if default * images > limits.images:
        value = max(limits.epochs, limits.images // images)
        return Choice("epochs", value, f"{images:,} images: {limits.schedule}")
    return Choice("epochs", default, f"{text}; AP still rose at {LEAST_STEPS:,} (recipe.md)")


def val_frequency(facts: Facts, hardware: Hardware, chosen: Chosen) -> Choice:
    """Choose the default, or less frequent evaluations in a run of many epochs."""
    value = max(DEFAULTS["val_frequency"], math.ceil(chosen["epochs"] / EVALUATIONS))
    count = math.ceil(chosen["epochs"] / value)
    return Choice("val_frequency", value, f"{counted(count, 'evaluation')} in the run, each with a checkpoint on disk")


def scale_range(facts: Facts, hardware: Hardware, chosen: Chosen) -> Choice | None:
    """Turn scale jitter off in a short run."""
    if chosen["epochs"] > SHORT_RUN:
        return None
    return Choice("scale_range", [1.0, 1.0], f"without scale jitter AP is higher in {SHORT_RUN} epochs (recipe.md)")


def repeat_threshold(facts: Facts, hardware: Hardware, chosen: Chosen) -> Choice:
    """Repeat the images of rare classes if the data check calls the classes out of balance."""
    default, rare = DEFAULTS["repeat_threshold"], facts.rare_class
    if rare is None:
        return Choice("repeat_threshold", default, f"fewer than two classes have {FEW_BOXES} boxes")
    threshold = round(min(COMMON_SHARE, 1 / facts.classes), 3)
    times = f"the largest class has {rare.imbalance:,.1f} times the boxes of {quoted(rare.name, 32)}"
    if rare.imbalance <= IMBALANCE:
        return Choice("repeat_threshold", default, f"{times}, at most {IMBALANCE}")
    where = f"which is in {percent(rare.image_share)} of the images"
    value = threshold if rare.image_share < threshold else default
    return Choice("repeat_threshold", value, f"{times}, {where} (augment_a_small_set.md)")


def max_detections(facts: Facts, hardware: Hardware, chosen: Chosen) -> Choice:
    """Count more detections than COCO if an image has more objects of a class."""
    most, default = facts.most_of_a_class, DEFAULTS["max_detections"]
    reason = f"an image has up to {counted(most, 'object')} of one class (evaluate.md)"
    return Choice("max_detections", max(default, 100 * math.ceil(most / 100)), reason)


def num_workers(facts: Facts, hardware: Hardware, chosen: Chosen) -> Choice | None:
    """Load images in the main process where the step itself needs every core."""
    if hardware.device != "cpu" or hardware.cores > FEW_CORES:
        return None
    reason = f"a step computes on {counted(hardware.cores, 'core')}, so workers slow it down (performance.md)"
    return Choice("num_workers", 0, reason)


def cache_trunk(facts: Facts, hardware: Hardware, chosen: Chosen) -> Choice:
    """Cache the trunk on a processor if the disk has room; a gain on a GPU is not measured."""
    if hardware.device != "cpu":
        return Choice("cache_trunk", None, "the gain on a GPU is not measured (cache_the_trunk.md)")
    need, free = cache_bytes(facts, chosen), f"{as_size(hardware.free_disk)} of free disk"
    if need > CACHE_SHARE * hardware.free_disk:
        return Choice("cache_trunk", None, f"the cache would take {as_size(need)} of {free}")
    reason = f"1.9 times as fast from the filled cache (cache_the_trunk.md); it takes {as_size(need)} of {free}"
    return Choice("cache_trunk", "trunk_cache", reason)


RULES: tuple[Rule, ...] = (
    *(lightweight, dino_model, resize_mode, image_size, feature_scales, num_queries),
    *(val_fraction, epochs, val_frequency, scale_range, repeat_threshold, max_detections),
    *(batch_size, accumulate_batches, num_workers, cache_trunk),
)
"""all rules in the order of the file; a rule sees the choices before it"""


def choose(facts: Facts, hardware: Hardware) -> list[Choice]:
    """Return the choices of all rules for a data set and a machine."""
    choices: list[Choice] = []
    for rule in RULES:
        choice = rule(facts, hardware, {earlier.name: earlier.value for earlier in choices})
        choices += [] if choice is None else [choice]
    return choices


def grid_of(chosen: Chosen) -> PatchGrid:
    """Return the patch grid of the chosen input."""
    return PatchGrid(ImageSize.parse(chosen["image_size"]), chosen["resize_mode"])


def training_images(facts: Facts, chosen: Chosen) -> int:
    """Return the number of images to train on, without the validation images that ``val_fraction`` takes from them."""
    return facts.images - round(chosen.get("val_fraction", 0.0) * facts.images)


def step_memory(images: int, chosen: Chosen) -> float:
    """Return the bytes that a training step of a number of images takes, from `MEMORY`; memory grows with patches."""
    memory = MEMORY[chosen["lightweight"]]
    each = memory.finer if chosen.get("feature_scales") == FINER else memory.image
    times = _patches(ImageSize.parse(chosen["image_size"])) / _patches(CONFIG.data.image_size)
    return GIB * (memory.fixed + images * each * times)


def cache_bytes(facts: Facts, chosen: Chosen) -> int:
    """Return the bytes of the trunk cache of the lightweight preset: 2 for each number of each view's tokens."""
    augmented = CONFIG.augmentation.no_augment_from(chosen["epochs"])
    whole = 2 if augmented < chosen["epochs"] else 0  # mirrored or not
    images = training_images(facts, chosen)
    views = images * (CONFIG.cache.views_of(augmented) + whole) + facts.images - images + facts.val_images
    return 2 * SMALL_WIDTH * views * (1 + _patches(ImageSize.parse(chosen["image_size"])))


def input_shape(facts: Facts) -> tuple[float, float | None]:
    """Return the share of pictures that stretching squeezes, and the width of the input divided by its height.

    The shape is 1 for a square, the median of the pictures if they are wide or high, or None if no one shape fits.
    """
    if not len(facts.aspects):
        return 0.0, 1.0
    middle = float(np.median(facts.aspects))
    shares = {shape: _squeezed(facts.aspects, shape) for shape in (1.0, middle)}
    for shape, share in shares.items():
        is_near = shape != 1 or max(middle, 1 / middle) < WIDE
        if is_near and share < STRETCHED_SHARE:
            return share, shape
    return min(shares.values()), None


def _squeezed(aspects: np.ndarray, shape: float) -> float:
    return float((np.maximum(aspects / shape, shape / aspects) >= STRETCHED).mean())


def _of_shape(side: int, shape: float) -> ImageSize:
    """Return the input of about ``side`` x ``side`` pixels in a shape, in whole patches."""
    height, width = (PATCH * max(1, round(side * math.sqrt(part) / PATCH)) for part in (1 / shape, shape))
    return ImageSize(height, width)


def _patches(size: ImageSize) -> int:
    return (size.height // PATCH) * (size.width // PATCH)


def _limits(hardware: Hardware) -> Limits:
    return PROCESSOR if hardware.device == "cpu" else GPU


def _default(name: str, chosen: Chosen) -> Any:
    """Return the value of a setting with the chosen preset and no other setting."""
    return LIGHTWEIGHT[name] if chosen["lightweight"] else DEFAULTS[name]
