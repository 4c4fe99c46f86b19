"""Data of a run: named, downloaded or found; whole or a subset."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_tree import CocoTree
from PIL import Image

from dino_detector.config import Config, DownloadConfig
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.subsets import Subset, select
from dino_detector.errors import InputError
from dino_detector.training import run_data as run_data_module
from dino_detector.training.run_data import RunData, find_paths, read_run_data


def named(coco2017: CocoTree, *splits: str) -> dict[str, Any]:
    """Return settings that name these splits."""
    tree = coco2017._asdict()
    return {f"{split}_{what}": tree[f"{split}_{what}"] for split in splits for what in ("images", "annotations")}


def run(training: bool = True, **settings: Any) -> RunData:
    return read_run_data(Config.from_flat(settings), training=training)


def ids(annotations: CocoAnnotations) -> list[int]:
    return [record.image_id for record in annotations.images]


@pytest.fixture
def in_data_dir(coco2017: CocoTree, tmp_path: Path) -> Callable[..., Path]:
    """Link some parts of the tree into a download folder."""

    def link(*parts: str) -> Path:
        (tmp_path / "annotations").mkdir(exist_ok=True)
        for part in parts:
            (tmp_path / part).symlink_to(coco2017.root / part)
        return tmp_path

    return link


def test_named_images_are_used_whole(coco2017: CocoTree) -> None:
    found = run(**named(coco2017, "train", "val"))
    assert (len(found.train.annotations.images), len(found.val.annotations.images)) == (10_000, 40)
    assert found.test is None
    assert found.subsets == ()


def test_validation_images_may_be_left_out(coco2017: CocoTree) -> None:
    assert run(**named(coco2017, "train")).val is None


def test_coco_in_the_folder_of_downloads_is_used_where_nothing_is_named(
    in_data_dir: Callable[..., Path], coco2017: CocoTree
) -> None:
    folder = in_data_dir("train2017", "val2017", "annotations/instances_train2017.json")
    assert run(data_dir=folder).val is None
    in_data_dir("annotations/instances_val2017.json")
    both = run(data_dir=folder)
    assert (len(both.train.annotations.images), len(both.val.annotations.images)) == (10_000, 40)
    own = run(data_dir=folder, **named(coco2017, "train"))  # COCO's validation images do not belong to other data
    assert own.val is None
    assert len(run(training=False, data_dir=folder).val.annotations.images) == 40


def test_a_missing_image_of_a_found_split_is_named_with_the_flag_that_fetches_it(
    in_data_dir: Callable[..., Path],
) -> None:
    folder = in_data_dir("annotations/instances_train2017.json")
    (folder / "train2017").mkdir()
    with pytest.raises(InputError, match=r"10,000 of 10,000 images.*fetch what is missing with --download_train"):
        run(data_dir=folder)


def test_a_debug_run_is_evaluated_on_what_it_trains_on(coco2017: CocoTree) -> None:
    found = run(debug=True, debug_samples=20, **named(coco2017, "train", "val"))
    assert found.val is found.train
    assert len(found.train.annotations.images) == 20
    (subset,) = found.subsets
    assert (subset.name, subset.split) == ("debug_20_seed42", "train")
    assert list(subset.image_ids) == sorted(ids(found.train.annotations))
    larger = run(debug=True, debug_samples=30, **named(coco2017, "train"))
    assert set(subset.image_ids) < set(larger.subsets[0].image_ids)


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"debug": True, "debug_samples": 10_001}, ["10,000", "10,001", "--debug_samples 10000 or less"]),
        ({"test_mini": True, "test_mini_size": 31}, ["30", "31", "--test_mini_size 30 or less"]),
    ],
)
def test_a_subset_larger_than_the_data_names_both_numbers(
    settings: dict[str, Any], parts: list[str], coco2017: CocoTree
) -> None:
    with pytest.raises(InputError) as caught:
        run(testdev_images=coco2017.test_images, **settings, **named(coco2017, "train"))
    for part in parts:
        assert part in str(caught.value)


def test_a_mini_larger_than_the_data_names_both_numbers(coco2017: CocoTree) -> None:
    small = {"train_images": coco2017.val_images, "train_annotations": coco2017.val_annotations}
    with pytest.raises(InputError, match="has 40 images, fewer than the 5,000 of --coco_mini_size"):
        run(use_coco_mini=True, coco_mini_size="5k", **small)


@pytest.mark.parametrize(("size", "count"), [("1k", 1_000), ("5k", 5_000), ("10k", 10_000)])
def test_a_mini_trains_on_its_size_and_is_evaluated_to_match(size: str, count: int, coco2017: CocoTree) -> None:
    big_val = {"val_images": coco2017.train_images, "val_annotations": coco2017.train_annotations}
    found = run(use_coco_mini=True, coco_mini_size=size, **named(coco2017, "train"), **big_val)
    assert len(found.train.annotations.images) == count
    assert len(found.val.annotations.images) == {"1k": 1_000, "5k": 5_000, "10k": 10_000}[size]
    assert [subset.file_name for subset in found.subsets] == [
        f"coco_mini_{size}_seed42_indices.json",
        f"coco_mini_{size}_seed42_val_indices.json",
    ]


def test_minis_of_one_seed_lie_within_each_other_and_of_another_do_not(coco2017: CocoTree) -> None:
    def chosen(size: str, seed: int) -> set[int]:
        return set(
            ids(run(use_coco_mini=True, coco_mini_size=size, coco_mini_seed=seed, **named(coco2017, "train")).train[1])
        )

    one, five, ten = (chosen(size, 42) for size in ("1k", "5k", "10k"))
    assert one < five < ten
    assert not chosen("1k", 123) <= five


def test_all_validation_images_serve_where_there_are_fewer_than_the_mini_asks_for(coco2017: CocoTree) -> None:
    assert len(run(use_coco_mini=True, **named(coco2017, "train", "val")).val.annotations.images) == 40


def test_an_indices_file_reproduces_its_subset(coco2017: CocoTree, tmp_path: Path) -> None:
    first = run(use_coco_mini=True, coco_mini_seed=7, **named(coco2017, "train", "val"))
    first.write_subsets(tmp_path)
    file = tmp_path / "coco_mini_1k_seed7_indices.json"
    again = run(use_coco_mini=True, coco_mini_seed=7, coco_mini_indices_file=file, **named(coco2017, "train", "val"))
    assert ids(again.train.annotations) == ids(first.train.annotations)
    assert ids(again.val.annotations) == ids(first.val.annotations)
    content = json.loads(file.read_text())
    content["image_ids"] = content["image_ids"][:5]  # the file decides, not the seed
    file.write_text(json.dumps(content))
    fewer = run(use_coco_mini=True, coco_mini_seed=7, coco_mini_indices_file=file, **named(coco2017, "train"))
    assert sorted(ids(fewer.train.annotations)) == content["image_ids"]


def test_an_indices_file_of_another_size_split_or_source_is_refused(coco2017: CocoTree, tmp_path: Path) -> None:
    run(use_coco_mini=True, **named(coco2017, "train", "val")).write_subsets(tmp_path)
    file, of_val = (tmp_path / f"coco_mini_1k_seed42{part}_indices.json" for part in ("", "_val"))
    settings = {"use_coco_mini": True, **named(coco2017, "train")}
    with pytest.raises(InputError, match="holds a subset of coco_mini_size 1k, but --coco_mini_size is 5k"):
        run(coco_mini_indices_file=file, coco_mini_size="5k", **settings)
    with pytest.raises(InputError, match="of the val split, but this is the train split"):
        run(coco_mini_indices_file=of_val, **settings)
    with pytest.raises(InputError, match="of the train split, but this is the val split"):
        run(training=False, use_coco_mini=True, coco_mini_indices_file=file, **named(coco2017, "val"))
    other = {"train_images": coco2017.val_images, "train_annotations": coco2017.val_annotations}
    with pytest.raises(InputError, match="of 10,000 images, but here are 40"):
        run(use_coco_mini=True, coco_mini_indices_file=file, **other)
    assert len(
        run(training=False, use_coco_mini=True, coco_mini_indices_file=of_val, **named(coco2017, "val")).val[1].images
    )


def test_test_images_are_those_of_test_dev_or_of_the_folder(coco2017: CocoTree, tmp_path: Path) -> None:
    listed = run(testdev_images=coco2017.test_images, **named(coco2017, "train")).test
    assert len(listed.annotations.images) == 30
    shutil.copytree(coco2017.test_images, tmp_path / "pictures")
    every = run(testdev_images=tmp_path / "pictures", **named(coco2017, "train")).test
    assert len(every.annotations.images) == 60
    assert every.annotations.categories.ids[-1] == 90


def test_a_few_test_images_are_chosen_and_listed(coco2017: CocoTree, tmp_path: Path) -> None:
    found = run(testdev_images=coco2017.test_images, test_mini=True, test_mini_size=5, **named(coco2017, "train"))
    assert len(found.test.annotations.images) == 5
    found.write_subsets(tmp_path)
    content = json.loads((tmp_path / "test_mini_5_seed42_indices.json").read_text())
    assert content["image_ids"] == sorted(ids(found.test.annotations))
    assert content["split"] == "test"


class Fetched:
    """Stand in for COCO's server: copy from the tree, and record the requests."""

    def __init__(self, coco2017: CocoTree, data_dir: Path) -> None:
        self.coco2017, self.data_dir = coco2017, data_dir
        self.asked: list[tuple[str, str, int]] = []

    def annotations(self, split: str, config: DownloadConfig) -> Path:
        self.asked.append(("annotations", split, 0))
        shutil.copytree(self.coco2017.root / "annotations", self.data_dir / "annotations", dirs_exist_ok=True)
        return self.data_dir / "annotations" / f"instances_{split}2017.json"

    def images(self, split: str, names: list[str], config: DownloadConfig) -> None:
        self.asked.append(("these", split, len(names)))
        (self.data_dir / f"{split}2017").mkdir(exist_ok=True)
        for name in names:
            shutil.copy(self.coco2017.root / f"{split}2017" / name, self.data_dir / f"{split}2017")

    def split(self, split: str, config: DownloadConfig) -> None:
        self.asked.append(("all", split, 0))
        shutil.copytree(self.coco2017.root / f"{split}2017", self.data_dir / f"{split}2017", dirs_exist_ok=True)


@pytest.fixture
def fetched(coco2017: CocoTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetched:
    server = Fetched(coco2017, tmp_path / "coco_data")
    server.data_dir.mkdir()
    monkeypatch.setattr(run_data_module, "download_annotations", server.annotations)
    monkeypatch.setattr(run_data_module, "download_images", server.images)
    monkeypatch.setattr(run_data_module, "download_split", server.split)
    return server


def test_of_a_subset_only_its_own_images_are_fetched(fetched: Fetched) -> None:
    settings = {"data_dir": fetched.data_dir, "download_train_data": True, "debug": True, "debug_samples": 8}
    found = run(**settings)
    assert fetched.asked == [("annotations", "train", 0)]
    found.fetch(Config.from_flat(settings).download)
    assert fetched.asked[1:] == [("these", "train", 8)]
    assert len(list((fetched.data_dir / "train2017").iterdir())) == 8
    again = run(data_dir=fetched.data_dir, debug=True, debug_samples=8)  # existing files are used without the flag
    assert ids(again.train.annotations) == ids(found.train.annotations)


def test_a_whole_split_is_fetched_as_such_and_test_images_after_their_list(fetched: Fetched) -> None:
    flags = {f"download_{split}_data": True for split in ("train", "val", "test")}
    settings = {"data_dir": fetched.data_dir, "test_mini": True, "test_mini_size": 4, **flags}
    run(**settings).fetch(Config.from_flat(settings).download)
    assert [(what, split) for what, split, _ in fetched.asked if what != "annotations"] == [
        ("all", "train"),
        ("all", "val"),
        ("these", "test"),
    ]


def test_nothing_is_fetched_before_what_is_here_has_been_checked(fetched: Fetched, coco2017: CocoTree) -> None:
    with pytest.raises(InputError, match="no such folder of images"):
        run(
            download_train_data=True,
            data_dir=fetched.data_dir,
            val_images="none",
            val_annotations=coco2017.val_annotations,
        )
    assert {what for what, _, _ in fetched.asked} == {"annotations"}


def test_paths_are_found_without_opening_a_file() -> None:
    settings = {"train_images": "a", "train_annotations": "b", "val_images": "c", "val_annotations": "d"}
    paths = find_paths(Config.from_flat(settings | {"testdev_images": "e"}), training=True)
    assert [split.images for split in paths] == [Path("a"), Path("c"), Path("e")]
    assert not any(split.download for split in paths)


def test_a_subset_can_be_read_back_with_all_its_names(coco2017: CocoTree, tmp_path: Path) -> None:
    run(use_coco_mini=True, **named(coco2017, "train", "val")).write_subsets(tmp_path)
    subset = Subset.read(tmp_path / "coco_mini_1k_seed42_val_indices.json")
    assert (subset.split, subset.size, subset.seed, len(subset.image_ids)) == ("val", "1k", 42, 40)


def test_a_subset_without_boxes_is_not_taken_for_a_file_without_boxes(tmp_path: Path) -> None:
    """One of twenty images has a box, and debug runs of one image choose another image."""
    (tmp_path / "images").mkdir()
    images = [{"id": number, "file_name": f"{number}.png", "width": 20, "height": 20} for number in range(20)]
    for record in images:
        Image.new("RGB", (20, 20)).save(tmp_path / "images" / record["file_name"])
    box = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [2, 2, 9, 9], "area": 81, "iscrowd": 0}
    content = {"images": images, "annotations": [box], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "train.json").write_text(json.dumps(content))
    where = {"train_images": tmp_path / "images", "train_annotations": tmp_path / "train.json"}
    seed = next(seed for seed in range(9) if list(select(list(range(20)), size=1, seed=seed)) != [0])
    wanted = "none of the 1 selected images has a box to train on; give a larger --debug_samples, or another --seed"
    with pytest.raises(InputError, match=wanted):
        run(debug=True, debug_samples=1, seed=seed, **where)


# --- One folder in ------------------------------------------------------------------------------------------------


def coco_file(path: Path, categories: dict[int, str], used: list[int], images: list[str]) -> Path:
    """Write a COCO file with an image for each name, and a box of each used class in every image."""
    entries = [{"id": number, "file_name": name, "width": 64, "height": 48} for number, name in enumerate(images, 1)]
    boxes = [
        {"id": 100 * image["id"] + one, "image_id": image["id"], "category_id": one, "bbox": [1, 1, 20, 20]}
        for image in entries
        for one in used
    ]
    listed = [{"id": number, "name": name} for number, name in categories.items()]
    path.write_text(json.dumps({"images": entries, "annotations": boxes, "categories": listed}))
    for image in entries:
        patches = np.random.default_rng(sum(image["file_name"].encode())).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(patches).resize((64, 48), Image.Resampling.BICUBIC).save(path.parent / image["file_name"])
    return path


def named_files(train: Path, val: Path | None = None) -> dict[str, Path]:
    settings = {"train_images": train.parent, "train_annotations": train}
    return settings if val is None else settings | {"val_images": val.parent, "val_annotations": val}


LETTERS = [f"{letter}{letter}x.png" for letter in "abcdefghijklmnopqrst"]


@pytest.mark.parametrize("by", ["data", "flags"])
def test_a_fraction_of_one_folder_is_for_validation_in_training_and_in_evaluation(
    by: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file = coco_file(tmp_path / "all.json", {1: "red"}, [1], LETTERS)
    settings = ({"data": tmp_path} if by == "data" else named_files(file)) | {"val_fraction": 0.3}
    trained, evaluated = run(**settings), run(training=False, **settings)
    train, val = set(ids(trained.train.annotations)), set(ids(trained.val.annotations))
    assert train | val == set(range(1, 21))
    assert not train & val
    assert evaluated.train is None
    assert set(ids(evaluated.val.annotations)) == val
    assert f"{len(train)} training and {len(val)} validation images (--val_fraction 0.3)" in caplog.text


def test_a_fraction_is_refused_where_there_are_validation_images(tmp_path: Path) -> None:
    train = coco_file(tmp_path / "train.json", {1: "red"}, [1], LETTERS[:10])
    val = coco_file(tmp_path / "val.json", {1: "red"}, [1], LETTERS[10:])
    for settings in ({"data": tmp_path}, named_files(train, val)):
        for training in (True, False):
            with pytest.raises(InputError, match=r"has validation images \(.*val\.json\), so leave out --val_fraction"):
                run(training=training, val_fraction=0.2, **settings)


def test_images_that_train_and_validate_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = coco_file(tmp_path / "all.json", {1: "red"}, [1], LETTERS[:4])
    run(**named_files(file, file))
    assert "4 of 4 validation images are training images too" in caplog.text


def test_a_class_without_a_box_in_both_files_is_no_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Roboflow's class 0 is the project; green has its boxes in the validation file alone."""
    caplog.set_level("INFO")
    classes = {0: "project", 1: "red", 2: "green"}
    train = coco_file(tmp_path / "train.json", classes, [1], LETTERS[:4])
    val = coco_file(tmp_path / "val.json", classes, [1, 2], LETTERS[4:8])
    found = run(**named_files(train, val))
    assert found.train.annotations.categories.names == ("red", "green")
    assert found.train.annotations.categories.ids == (1, 2)
    assert [row["category_id"] for row in found.val.annotations.annotations_of(1)] == [1, 2]
    assert "train.json: 1 class without a box: project; left out" in caplog.text
    found.check_classes(found.train.annotations.categories, source=train, num_classes=2)
    with pytest.raises(InputError, match=r"has 2 categories with boxes, and 1 without \(--keep_empty_classes"):
        found.check_classes(found.train.annotations.categories, source=train, num_classes=3)
    assert run(keep_empty_classes=True, **named_files(train, val)).train.annotations.categories.ids == (0, 1, 2)
    # a later evaluation of the whole file, and of a file that uses the class
    known = found.train.annotations.categories
    evaluated = read_run_data(Config.from_flat({"data": val}), training=False, categories=known)
    evaluated.check_classes(known, source=tmp_path / "best.pth", num_classes=None)
    coco_file(tmp_path / "val.json", classes, [0, 1], LETTERS[4:8])
    evaluated = read_run_data(Config.from_flat({"data": val}), training=False, categories=known)
    with pytest.raises(InputError, match=r"has boxes of 'project', but the classes of .*best\.pth are 1 "):
        evaluated.check_classes(known, source=tmp_path / "best.pth", num_classes=None)


def test_a_subset_keeps_the_classes_of_the_whole_file(tmp_path: Path) -> None:
    file = coco_file(tmp_path / "all.json", {1: "red", 2: "green"}, [1], LETTERS[:4])
    content = json.loads(file.read_text())
    content["annotations"][0]["category_id"] = 2  # one box in one image
    file.write_text(json.dumps(content))
    for seed in range(4):
        found = run(debug=True, debug_samples=1, seed=seed, **named_files(file))
        assert found.train.annotations.categories.names == ("red", "green")


def test_classes_with_other_ids_are_shown_side_by_side_and_compared_by_name_on_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Label Studio counts from 0, Roboflow from 1."""
    caplog.set_level("INFO")
    train = coco_file(tmp_path / "train.json", {0: "red", 1: "green"}, [0, 1], LETTERS[:4])
    val = coco_file(tmp_path / "val.json", {0: "project", 1: "red", 2: "green"}, [2], LETTERS[4:8])
    found = run(**named_files(train, val))
    known = found.train.annotations.categories
    with pytest.raises(InputError, match=r"the names agree, so --by_name compares the classes by name"):
        found.check_classes(known, source=train, num_classes=None)
    assert "0   red         -" in caplog.messages
    assert "2   -           green" in caplog.messages
    for settings, classes in ((named_files(train, val), None), ({"data": val}, known)):
        one = read_run_data(
            Config.from_flat(settings | {"by_name": True}), training=classes is None, categories=classes
        )
        one.check_classes(known, source=train, num_classes=None)
        assert [row["category_id"] for row in one.val.annotations.annotations_of(1)] == [1]


def test_test_mini_works_beside_data(tmp_path: Path) -> None:
    coco_file(tmp_path / "all.json", {1: "red"}, [1], LETTERS[:4])
    found = run(data=tmp_path / "all.json", testdev_images=tmp_path, test_mini=True, test_mini_size=2)
    assert len(found.test.annotations.images) == 2
