"""With a trunk cache, a run learns the same, reads each view once, and never uses a stale entry."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dino_detector.config import AugmentationConfig, Config
from dino_detector.data.augmentation.pipeline import Augmentation
from dino_detector.data.coco import images as coco_images
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.images import CocoImages
from dino_detector.data.dataset import CachedSample, Sample, SampleKey, WholeImages
from dino_detector.data.trunk_cache import CachedView, TrunkCache, halved
from dino_detector.errors import InputError
from dino_detector.inference.detector import build_detector
from dino_detector.training.caching import TrunkCaching
from dino_detector.training.fit import fit

FROZEN: dict[str, Any] = {
    "backbone_weights": "pretrained",
    "backbone_architecture": {},
    "train_backbone": "lora",
    "lora_layers": 2,
    "augmentation": True,
    "copy_paste_probability": 0.0,
    "no_augment_fraction": 0.0,
    "epochs": 4,
    "denoising_queries": 10,
}


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def frozen(settings: Callable[..., Config], dinov2_folder: Path) -> Callable[..., Config]:
    """Return settings of a run with a pretrained backbone whose first two of four layers are frozen."""
    return lambda out, **changes: settings(out, **FROZEN | {"dino_model": str(dinov2_folder)} | changes)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of all images that are read from now on, once for each read."""
    names: list[str] = []
    for reader in ("read_image", "read_part", "check_image"):
        original = getattr(coco_images, reader)

        def counted(path: Path, *args: Any, original: Callable[..., Any] = original, **how: Any) -> Any:
            names.append(Path(path).name)
            return original(path, *args, **how)

        monkeypatch.setattr(coco_images, reader, counted)
    return names


def weights(folder: Path, kind: str = "final") -> dict[str, torch.Tensor]:
    return torch.load(folder / f"dino_detector_{kind}.pth", weights_only=True)["state_dict"]


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Return the norm of the difference of all weights; Adam amplifies rounding in weights with tiny gradients."""
    assert one.keys() == other.keys()
    return float(torch.cat([(one[name] - other[name]).flatten() for name in one]).norm())


def records(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.records"))


# --- a run with a cache -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"feature_layers": [0, 1, 3], "train_backbone": "none"}], ids=["lora", "none"])
def test_a_run_learns_what_it_learns_without_a_cache(
    frozen: Callable[..., Config], tmp_path: Path, changes: dict[str, Any]
):
    """Only rounding to half precision differs, and filling and reading the cache round alike."""
    plain = fit(frozen(tmp_path / "plain", **changes))
    cache = {"cache_trunk": tmp_path / "cache", "cache_views": 4}
    filling = fit(frozen(tmp_path / "filling", **cache, **changes))
    reading = fit(frozen(tmp_path / "reading", **cache, **changes))
    start, end = weights(tmp_path / "plain", "epoch_1"), weights(tmp_path / "plain")
    moved = distance(start, end)
    assert moved > 0.1
    for run in ("filling", "reading"):
        assert distance(weights(tmp_path / run), end) < 0.1 * moved, run
    assert distance(weights(tmp_path / "filling"), weights(tmp_path / "reading")) == 0
    assert plain.AP == pytest.approx(reading.AP, abs=0.05)
    assert plain.AP == pytest.approx(filling.AP, abs=0.05)


def test_from_when_all_views_are_there_no_image_is_read(
    frozen: Callable[..., Config], tmp_path: Path, reads: list[str]
):
    settings = {"cache_trunk": tmp_path / "cache", "cache_views": 2}
    fit(frozen(tmp_path / "first", **settings))
    looked_at = 5  # validation images, which are checked before a run
    assert len(reads) == looked_at + 2 * 7 + 5, "two views of 7 training images, and the validation images"
    reads.clear()
    fit(frozen(tmp_path / "second", **settings))
    assert len(reads) == looked_at


def test_workers_find_what_the_main_process_keeps(frozen: Callable[..., Config], tmp_path: Path):
    """If a worker found no entry, the main process would store it again."""
    settings = {"cache_trunk": tmp_path / "cache", "cache_views": 2, "num_workers": 1}
    for run in range(2):
        fit(frozen(tmp_path / str(run), **settings))
        assert len(TrunkCache(tmp_path / "cache", made_by={}).store._places) == 2 * 7 + 5
    assert len(records(tmp_path / "cache")) == 1


def test_the_plan_says_what_the_cache_takes_and_when_it_pays(
    frozen: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """7 training images in 2 views and 5 validation images; 1 + 4 x 4 tokens of width 32, in half precision and of one
    layer, are 1,088 bytes."""
    caplog.set_level("INFO")
    fit(frozen(tmp_path / "out", cache_trunk=tmp_path / "cache", cache_views=2))
    (line,) = re.findall(r"trunk cache .*", caplog.text)
    assert line == (
        f"trunk cache {tmp_path / 'cache'}: 7 training images in 2 views and 5 validation images, 1.1 kB each, "
        "take 20.7 kB, none of it is there yet; training fills it, and it saves time from epoch 3 on"
    )
    taken = sum(path.stat().st_size for path in records(tmp_path / "cache"))
    assert 19 * 1088 < taken < 19 * (1088 + 700)
    caplog.clear()
    fit(
        frozen(tmp_path / "again", cache_trunk=tmp_path / "cache", cache_views=3, val_images=None, val_annotations=None)
    )
    (line,) = re.findall(r"trunk cache .*", caplog.text)
    assert "7 training images in 3 views, 1.1 kB each, take 22.8 kB, 15.2 kB of it is there; " in line
    assert line.endswith("training fills it, and it saves time from epoch 4 on")


def test_a_run_that_shows_no_view_twice_is_told(
    frozen: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    fit(frozen(tmp_path / "out", cache_trunk=tmp_path / "cache", cache_views=4, epochs=2))
    assert (
        "this run shows no view twice, so the cache saves time in later runs only, or with less than 2 --cache_views\n"
        in caplog.text
    )
    caplog.clear()
    fit(frozen(tmp_path / "once", cache_trunk=tmp_path / "other", cache_views=4, epochs=1))
    assert "this run shows no view twice, so the cache saves time in later runs only\n" in caplog.text
    caplog.clear()
    fit(frozen(tmp_path / "longer", cache_trunk=tmp_path / "cache", cache_views=4, epochs=3))
    assert "this run shows no missing view twice, so the cache saves time in later runs only" in caplog.text


@pytest.mark.parametrize("place", ["", "below"])
def test_a_cache_where_a_file_is_is_refused(frozen: Callable[..., Config], tmp_path: Path, place: str):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(InputError, match=r"can't be written to .*; give another --cache_trunk"):
        fit(frozen(tmp_path / "out", cache_trunk=file / place))


def test_what_is_computed_is_used_as_it_will_be_read(frozen: Callable[..., Config], tmp_path: Path):
    """A run that fills the cache and a run that finds a full cache compute with the same numbers."""
    for name in ("filling", "finding"):
        fit(frozen(tmp_path / name, cache_trunk=tmp_path / "cache", cache_views=4, epochs=1))
    assert distance(weights(tmp_path / "filling"), weights(tmp_path / "finding")) == 0


def test_a_torn_cache_is_mended_by_the_next_run(frozen: Callable[..., Config], tmp_path: Path, reads: list[str]):
    settings = {"cache_trunk": tmp_path / "cache", "cache_views": 2}
    fit(frozen(tmp_path / "whole", **settings))
    expected = fit(frozen(tmp_path / "expected", **settings))
    (path,) = records(tmp_path / "cache")
    os.truncate(path, path.stat().st_size // 2)
    reads.clear()
    found = fit(frozen(tmp_path / "mended", **settings))
    assert 5 < len(reads) < 5 + 19
    assert found.AP == pytest.approx(expected.AP, abs=0.05)
    reads.clear()
    fit(frozen(tmp_path / "after", **settings))
    assert len(reads) == 5


def test_a_disk_that_is_full_ends_the_filling_and_not_the_run(
    frozen: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TrunkCache, "write", full)
    assert fit(frozen(tmp_path / "out", cache_trunk=tmp_path / "cache", cache_views=2)) is not None
    assert caplog.text.count("can't be written (No space left on device)") == 1


def test_more_than_the_disk_has_is_refused_before_the_first_step(
    frozen: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(
        InputError, match=r"cache.* 2 views .*needs 20\.7 kB.*1\.0 kB.*--cache_trunk, or lower --cache_v"
    ):
        fit(frozen(tmp_path / "out", cache_trunk=tmp_path / "cache", cache_views=2))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"train_backbone": "full"}, "caches the output of frozen layers"),
        (
            {"lora_layers": None},
            r"all \d layers of .* have adapters; leave it out, or give fewer than \d --lora_layers",
        ),
        ({"multi_scale": 0.5}, "multi_scale shows no image twice"),
    ],
)
def test_runs_that_have_nothing_to_keep_are_refused(
    frozen: Callable[..., Config], tmp_path: Path, changes: dict[str, Any], reason: str
):
    with pytest.raises(InputError, match=reason):
        fit(frozen(tmp_path / "out", cache_trunk=tmp_path / "cache", **changes))
    assert not (tmp_path / "cache").exists()


# --- keys of entries ----------------------------------------------------------------------------------------------


@pytest.fixture
def images(train_split: Any, tmp_path: Path) -> CocoImages:
    """Return a copy of the images that a test may change."""
    shutil.copytree(train_split.images, tmp_path / "train")
    shutil.copy(train_split.annotations, tmp_path / "train.json")
    return CocoImages(tmp_path / "train", CocoAnnotations.read(tmp_path / "train.json"))


def keys(config: Config, images: CocoImages) -> list[str]:
    """Return the keys of all views of all images of a run."""
    detector = build_detector(config, categories=CocoAnnotations.read(images.annotations_path).categories)
    caching = TrunkCaching(config, detector, precision=config.training.precision)
    settings, epochs = config.augmentation, config.training.epochs
    view = WholeImages(image_size=config.data.image_size, resize_mode=config.data.resize_mode)
    if settings.augmentation:
        no_augment_from, seed = settings.no_augment_from(epochs), config.training.seed
        view = Augmentation(settings, resize_mode=config.data.resize_mode, seed=seed, no_augment_from=no_augment_from)
    view = caching.training_view(view, images)
    return [
        view.entry_key(images, view.fixed(SampleKey(epoch, index)))
        for epoch in range(config.training.epochs)
        for index in range(len(images))
    ]


def test_every_view_of_every_image_has_an_entry_of_its_own(frozen: Callable[..., Config], images: CocoImages):
    config = frozen("out", cache_trunk=Path("cache"), cache_views=3, epochs=8, no_augment_fraction=0.25)
    found = keys(config, images)
    plain = [set(found[first::7][6:]) for first in range(7)]
    assert len(set(found)) == 7 * 3 + sum(map(len, plain)), "the last two epochs are plain"
    assert {len(one) for one in plain} == {1, 2}, "mirrored in both or none, or in one of them"
    assert found[:7] == found[21:28], "the first epoch comes again in the fourth"


@pytest.mark.parametrize(
    ("epochs", "no_augment_fraction", "views"),
    [(1, 0.0, 1), (4, 0.0, 1), (5, 0.0, 2), (20, 0.25, 4), (40, 0.25, 8), (100, 0.25, 8), (12, 1.0, 3)],
)
def test_unless_told_otherwise_an_image_has_a_view_for_four_epochs_and_at_most_8(
    frozen: Callable[..., Config], images: CocoImages, epochs: int, no_augment_fraction: float, views: int
):
    config = frozen(
        "out",
        cache_trunk=Path("cache"),
        epochs=epochs,
        no_augment_fraction=no_augment_fraction,
        photometric_probability=1.0,
    )
    augmented = round(epochs * (1 - no_augment_fraction)) or epochs
    found = keys(config, images)[: 7 * augmented]
    assert len(set(found)) == 7 * views
    assert all(found.count(key) in (augmented // views, -(-augmented // views)) for key in found)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"learning_rate": 5e-4, "batch_size": 4, "num_queries": 9, "ema_decay": 0.0, "repeat_threshold": 0.5}, True),
        ({"feature_layers": [1, 3]}, True),  # the last frozen layer is always kept
        ({"feature_layers": [0, 3]}, False),
        ({"lora_layers": 1}, False),
        ({"image_size": 84}, False),
        ({"resize_mode": "letterbox"}, False),
        ({"seed": 1}, False),
        ({"scale_range": [0.5, 1.5]}, False),
        ({"mosaic_probability": 0.5}, False),
        ({"augmentation": False}, False),
        ({"precision": "bf16"}, False),
    ],
)
def test_an_entry_is_found_where_all_that_it_depends_on_is_the_same(
    frozen: Callable[..., Config], images: CocoImages, changes: dict[str, Any], same: bool
):
    before = keys(frozen("out", cache_trunk=Path("cache"), cache_views=2), images)
    after = keys(frozen("out", cache_trunk=Path("cache"), cache_views=2, **changes), images)
    assert (before == after) if same else not set(before) & set(after)


def test_another_base_has_other_entries(
    frozen: Callable[..., Config], images: CocoImages, write_dinov2: Callable[..., Path], tmp_path: Path
):
    other = write_dinov2(tmp_path / "other", seed=3)
    one, two = (keys(frozen("out", cache_trunk=Path("c"), **base), images) for base in ({}, {"dino_model": str(other)}))
    assert not set(one) & set(two)


@pytest.mark.parametrize("others", [{}, {"mosaic_probability": 0.5}], ids=["alone", "mosaic"])
@pytest.mark.parametrize("changed", ["picture", "boxes"])
def test_an_image_that_has_changed_is_computed_anew(
    frozen: Callable[..., Config], images: CocoImages, changed: str, others: dict[str, Any]
):
    """If views show parts of several images, all entries are computed again."""
    config = frozen("out", cache_trunk=Path("cache"), cache_views=1, epochs=1, **others)
    before = keys(config, images)
    if changed == "picture":
        path = images.folder / images.records[2].file_name
        Image.fromarray(np.zeros((60, 80, 3), dtype=np.uint8)).save(path)
    else:
        contents = json.loads(images.annotations_path.read_text())
        next(row for row in contents["annotations"] if row["image_id"] == images.records[2].image_id)["bbox"][2] -= 1
        images.annotations_path.write_text(json.dumps(contents))
        images = CocoImages(images.folder, CocoAnnotations.read(images.annotations_path))
    same = [one == other for one, other in zip(before, keys(config, images), strict=True)]
    assert same == ([False] * 7 if others else [index != 2 for index in range(7)])


# --- samples ------------------------------------------------------------------------------------------------------


def test_a_view_is_the_augmentation_of_its_epoch(images: CocoImages, tmp_path: Path):
    view = Augmentation(AugmentationConfig(), resize_mode="stretch", seed=0, no_augment_from=6)
    cache = TrunkCache(tmp_path / "cache", made_by={})
    cached = CachedView(view, cache=cache, shown={}, view_id=view.view_id, views=3, no_augment_from=6)
    size = Config.from_flat({"image_size": 56}).data.image_size
    for epoch, repeat, shown in ((0, 0, 0), (2, 0, 2), (4, 0, 1), (5, 1, 0), (6, 0, 6), (8, 0, 8), (10, 0, 7)):
        found, expected = cached(images, SampleKey(epoch, 3, repeat, size)), view(images, SampleKey(shown, 3, 0, size))
        assert torch.equal(found.image, expected.image)
        assert torch.equal(found.boxes_xyxy, expected.boxes_xyxy)
        assert found.entry_key


def test_plain_epochs_share_what_shows_the_same(images: CocoImages):
    """A plain view is mirrored or not; with colour augmentation every view differs."""
    size = Config.from_flat({"image_size": 56}).data.image_size
    view = Augmentation(AugmentationConfig(), resize_mode="stretch", seed=0, no_augment_from=4)
    shown: dict[str, list[torch.Tensor]] = {}
    for epoch in range(4, 16):
        key = SampleKey(epoch, 3, 0, size)
        shown.setdefault(view.view_id(images, key), []).append(view(images, key).image)
    assert len(shown) == 2
    for alike in shown.values():
        assert len(alike) > 1
        assert all(torch.equal(one, alike[0]) for one in alike)
    one, other = (alike[0] for alike in shown.values())
    assert torch.equal(one, other.flip(-1))
    colours = AugmentationConfig(photometric_probability=0.5)
    coloured = Augmentation(colours, resize_mode="stretch", seed=0, no_augment_from=4)
    assert len({coloured.view_id(images, SampleKey(epoch, 3, 0, size)) for epoch in range(16)}) == 16


def test_images_that_come_again_show_no_view_of_the_plain_epochs(images: CocoImages, tmp_path: Path):
    """Before the plain epochs there are at most as many views as epochs, whatever `cache_views` says."""
    cache = TrunkCache(tmp_path / "cache", made_by={})
    view = Augmentation(AugmentationConfig(), resize_mode="stretch", seed=0, no_augment_from=2)
    cached = CachedView(view, cache=cache, shown={}, view_id=view.view_id, views=4, no_augment_from=2)
    shown = [[cached.fixed(SampleKey(epoch, 0, repeat)).epoch for repeat in range(3)] for epoch in range(4)]
    assert shown == [[0, 1, 0], [1, 0, 1], [2, 3, 4], [3, 4, 5]]


def test_the_entries_of_a_run_are_those_of_all_images_as_often_as_they_come(images: CocoImages, tmp_path: Path):
    view = Augmentation(AugmentationConfig(), resize_mode="stretch", seed=0, no_augment_from=9)
    cache = TrunkCache(tmp_path / "cache", made_by={})
    cached = CachedView(view, cache=cache, shown={}, view_id=view.view_id, views=4, no_augment_from=9)
    times = np.array([1, 2, 1, 3, 1, 1, 1])
    entries = cached.entries(images, epochs=2, times=times)
    assert len(entries) == len(set(entries)) == 5 * 2 + 3 + 4
    seen = {
        cached.entry_key(images, cached.fixed(SampleKey(epoch, index, repeat)))
        for epoch in range(2)
        for index, most in enumerate(times)
        for repeat in range(most)
    }
    assert set(entries) == seen


def test_an_entry_brings_back_what_was_kept(images: CocoImages, tmp_path: Path):
    view = WholeImages(image_size=Config.from_flat({"image_size": 56}).data.image_size, resize_mode="stretch")
    cache = TrunkCache(tmp_path / "cache", made_by={"base": "x"})
    shown = {"shown": {}, "view_id": lambda images, key: "whole", "views": 1, "no_augment_from": 0}
    cached = CachedView(view, cache=cache, **shown)
    sample = cached(images, SampleKey(0, 1))
    assert isinstance(sample, Sample)
    hidden = torch.randn(2, 17, 32)
    cache.write(sample.entry_key, hidden=hidden, boxes_cxcywh=sample.boxes_cxcywh, labels=sample.labels)
    again = CachedView(view, cache=TrunkCache(tmp_path / "cache", made_by={"base": "x"}), **shown)
    for one in (cached, again):
        found = one(images, SampleKey(5, 1))
        assert isinstance(found, CachedSample)
        assert torch.equal(found.hidden, hidden.half())
        assert torch.equal(found.boxes_cxcywh, sample.boxes_cxcywh)
        assert torch.equal(found.labels, sample.labels)
        assert (found.image_id, found.original_size) == (sample.image_id, sample.original_size)
        assert isinstance(one(images, SampleKey(0, 2)), Sample)


def test_values_beyond_half_precision_stay_finite():
    small, large = torch.tensor([1.0, 1e-3, 60000.0]), torch.tensor([1.0, 1e-3, 1e6])
    assert halved(small).dtype == torch.float16
    assert halved(large).dtype == torch.bfloat16
    torch.testing.assert_close(halved(large).float(), large, rtol=2**-8, atol=0)


def test_plain_epochs_that_show_what_earlier_ones_showed_pay(
    frozen: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Five augmented epochs are followed by three plain epochs, which are equal without flips."""
    caplog.set_level("INFO")
    settings = {
        "augmentation": True,
        "no_augment_fraction": 0.4,
        "flip_probability": 0.0,
        "epochs": 8,
        "cache_views": 8,
    }
    fit(frozen(tmp_path / "out", cache_trunk=tmp_path / "cache", **settings))
    assert "training fills it, and it saves time from epoch 7 on\n" in caplog.text
