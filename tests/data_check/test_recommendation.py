"""The rules of a recommendation at their boundaries, which are worked out by hand, and its text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from small_set import Data, each

from dino_detector.commands.arguments import parse_settings
from dino_detector.config import Config, ImageSize
from dino_detector.data.coco.columns import BoxColumns, CategoryColumns, ImageColumns, Split
from dino_detector.data_check.facts import GIB, Facts, Hardware
from dino_detector.data_check.recommendation import recommend
from dino_detector.data_check.rules import RULES, choose
from dino_detector.errors import InputError

pytestmark = pytest.mark.fast
PROCESSOR = Hardware("cpu", "the processor", 16 * GIB, 8, "32", 1000 * GIB)
GPU = Hardware("cuda", "a GPU", 24 * GIB, 8, "bf16", 1000 * GIB)


def split(
    boxes: Sequence[Sequence[tuple[int, float]]],
    *,
    name: str = "train",
    sizes: Sequence[tuple[int, int]] = ((518, 518),),
) -> Split:
    """Return a split of images, each with boxes of a class and a side in pixels; ``sizes`` repeat over the images."""
    rows = [(image, kind, 0, 0, side, side) for image, some in enumerate(boxes) for kind, side in some]
    columns = np.array(rows, float).reshape(-1, 6)
    all_sizes = np.array([sizes[image % len(sizes)] for image in range(len(boxes))], float)
    images = ImageColumns([*range(len(boxes))], [None] * len(boxes), all_sizes, [None] * len(boxes))
    image, kind = columns[:, :2].astype(np.int64).T
    areas, crowd = columns[:, 4:].prod(axis=1), np.zeros(len(rows), bool)
    entries = BoxColumns([*range(len(rows))], image, kind, columns[:, 2:], crowd, areas)
    classes = ["one", "two", "three"]
    return Split(name, Path("x.json"), images, entries, CategoryColumns([1, 2, 3], classes, [None] * 3))


def chosen(train: Split, hardware: Hardware = GPU, *others: Split) -> dict[str, Any]:
    return {choice.name: choice.value for choice in choose(Facts(train, [train, *others]), hardware)}


def of_side(*sides: float, **options: Any) -> Split:
    """Return a split of one image for each box."""
    return split([[(0, side)] for side in sides], **options)


def test_a_gpu_gets_the_standard_model_and_a_processor_or_a_tiny_gpu_the_preset() -> None:
    names = "lightweight", "dino_model"
    train = of_side(100)
    assert [chosen(train)[name] for name in names] == [False, "facebook/dinov2-base"]
    for hardware in (PROCESSOR, GPU._replace(memory=GIB)):
        assert [chosen(train, hardware)[name] for name in names] == [True, "facebook/dinov2-small"]


def test_one_box_of_twenty_below_a_patch_needs_a_larger_input_and_one_of_21_does_not() -> None:
    # 13 pixels are 0.93 patches of 14, and 1.25 times the side is 46 patches: 644 pixels
    assert chosen(of_side(13, *[100] * 19))["image_size"] == 644
    assert chosen(of_side(13, *[100] * 20))["image_size"] == 518
    assert chosen(of_side(14, *[100] * 19))["image_size"] == 518


def test_boxes_that_no_affordable_input_helps_get_finer_levels_at_the_usual_size() -> None:
    # 6.9 pixels stay below a patch at twice the side, 7 reach it; a processor goes to 1.5 times the side
    values = chosen(of_side(*[6.9] * 20))
    assert (values["image_size"], values["feature_scales"]) == (518, [4.0, 2.0, 1.0])
    values = chosen(of_side(*[7] * 20))
    assert (values["image_size"], values["feature_scales"]) == (1036, [2.0, 1.0, 0.5])
    values = chosen(of_side(*[7] * 20), PROCESSOR)
    assert (values["image_size"], values["feature_scales"]) == (518, [4.0, 2.0, 1.0])


@pytest.mark.parametrize(
    ("side", "size"),
    [
        (28, 518),  # 2 patches
        (56, 266),  # 4 patches: half of 37 patches is 18.5, so 19
        (200, 224),
    ],
)
def test_a_processor_trains_smaller_images_if_the_boxes_keep_two_patches(side: float, size: int) -> None:
    assert chosen(of_side(*[side] * 20), PROCESSOR)["image_size"] == size
    assert chosen(of_side(*[side] * 20))["image_size"] == 518


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(640, 480)], (518, "stretch")),
        ([(1500, 1000)], (518, "stretch")),
        ([(1280, 720)], ("392x686", "stretch")),  # 518 / 1.333 is 27.7 patches of 14, and 518 * 1.333 is 49.3
        ([(720, 1280)], ("686x392", "stretch")),
        ([(1920, 700), (700, 1920)], (518, "letterbox")),
        ([(1280, 720)] * 19 + [(400, 1280)], (518, "letterbox")),  # one of 20
        ([(1280, 720)] * 20 + [(400, 1280)], ("392x686", "stretch")),
    ],
)
def test_the_input_has_the_shape_of_the_pictures(sizes: list[tuple[int, int]], expected: tuple[Any, str]) -> None:
    values = chosen(of_side(*[300] * len(sizes), sizes=sizes))
    assert (values["image_size"], values["resize_mode"]) == expected


@pytest.mark.parametrize(
    ("most", "hardware", "queries"),
    [
        *((12, PROCESSOR, 25), (13, PROCESSOR, 30)),
        *((50, GPU, 100), (51, GPU, 110), (150, GPU, 300), (151, GPU, 300)),
        *((250, GPU, 300), (251, GPU, 350), (400, GPU, 500), (2000, GPU, 900)),
    ],
)
def test_queries_are_twice_the_most_objects_of_an_image(most: int, hardware: Hardware, queries: int) -> None:
    full, sparse = [[(0, 100)] * most], [[(0, 100)]]
    assert chosen(split(full), hardware)["num_queries"] == queries
    assert chosen(split(sparse), hardware, split(full, name="val"))["num_queries"] == queries


@pytest.mark.parametrize(
    ("images", "hardware", "epochs"),
    [
        *((160, GPU, 50), (156, GPU, 60), (4, GPU, 500)),  # 40 and 39 steps an epoch; 2,000 / 39 is 51.3
        *((2_000, PROCESSOR, 50), (2_001, PROCESSOR, 49), (20_000, PROCESSOR, 10)),
        *((30_000, GPU, 50), (30_001, GPU, 49), (118_287, GPU, 12)),
    ],
)
def test_a_run_has_2000_steps_and_no_more_images_than_the_device_can_take(
    images: int, hardware: Hardware, epochs: int
) -> None:
    values = chosen(of_side(*[100] * images), hardware, of_side(100, name="val"))
    assert values["epochs"] == epochs
    assert values.get("scale_range") == ([1.0, 1.0] if epochs == 10 else None)
    assert values["val_frequency"] == {60: 5, 500: 25}.get(epochs, 5)


def test_only_more_than_100_objects_of_one_class_raise_max_detections() -> None:
    assert chosen(split([[(0, 50)] * 100]))["max_detections"] == 100
    assert chosen(split([[(0, 50)] * 101]))["max_detections"] == 200
    assert chosen(split([[(0, 50)] * 60 + [(1, 50)] * 60]))["max_detections"] == 100


def test_images_of_a_rare_class_come_more_often() -> None:
    def threshold(common: int, rare: int, images: int) -> float:
        boxes = [[(0, 100)] * common for _ in range(images - 1)]
        return chosen(split([[(1, 100)] * rare, *boxes]))["repeat_threshold"]

    assert threshold(3, 10, 100) == 0.1  # 297 and 10 boxes, in 1 of 100 images
    assert threshold(2, 10, 100) == 0  # 198 and 10: at most 20 times
    assert threshold(3, 9, 100) == 0  # nine boxes are too few to learn from
    assert threshold(30, 10, 8) == 0  # 210 and 10, in 1 of 8 images


def test_a_batch_that_does_not_fit_is_accumulated() -> None:
    values = chosen(of_side(100), GPU._replace(memory=4 * GIB))  # a step of 4 images takes 4.1 GiB, of 2 images 2.3
    assert (values["batch_size"], values["accumulate_batches"]) == (2, 2)
    values = chosen(of_side(100))
    assert values["batch_size"] == 4
    assert "accumulate_batches" not in values


def test_the_trunk_is_cached_on_a_processor_whose_disk_has_room() -> None:
    # 80 images in 100 epochs: 75 augmented ones with 8 views, and 2 whole views; 20 validation images with one view;
    # 1,370 tokens of 384 numbers of 2 bytes
    need = (80 * 10 + 20) * 1_370 * 384 * 2
    train = of_side(*[28] * 100)
    for free, cache in ((2 * need - 2, None), (2 * need, "trunk_cache")):
        assert chosen(train, PROCESSOR._replace(free_disk=free))["cache_trunk"] == cache
    assert chosen(train)["cache_trunk"] is None


def test_two_cores_load_images_in_the_main_process() -> None:
    assert chosen(of_side(100), PROCESSOR._replace(cores=2))["num_workers"] == 0
    assert "num_workers" not in chosen(of_side(100), PROCESSOR._replace(cores=3))
    assert "num_workers" not in chosen(of_side(100), GPU._replace(cores=2))


@pytest.mark.parametrize("hardware", [PROCESSOR._replace(cores=1), GPU, GPU._replace(memory=3 * GIB)])
def test_train_accepts_the_file_and_gets_each_choice(data: Data, tmp_path: Path, hardware: Hardware) -> None:
    data.write()
    found = recommend(data.folder, hardware=hardware)
    file = tmp_path / "config.yaml"
    file.write_text(found.yaml)
    config, given = parse_settings([Config], ["--config", str(file)], prog="train")
    assert given == found.settings.keys()
    assert config.data.data == data.folder
    values = config.flat()
    for name, value in found.settings.items():
        read = ImageSize.parse(values[name]) if name == "image_size" else values[name]
        assert read == (ImageSize.parse(value) if name == "image_size" else value)


def test_each_choice_stands_below_its_reason_and_in_the_table(data: Data) -> None:
    data.write()
    found = recommend(str(data.folder), hardware=PROCESSOR)
    lines, shown = found.yaml.splitlines(), str(found)
    assert len(found.choices) >= len(RULES) - 4
    for name, value in list(found.settings.items())[1:]:
        (place,) = [number for number, line in enumerate(lines) if line.startswith(f"{name}:")]
        assert lines[place - 1] == f"# {found.reasons[name]}"
        assert yaml.safe_load(lines[place]) == {name: value}
        assert name in shown
        assert " ".join(found.reasons[name].split()[:3]) in shown
    assert max(map(len, shown.splitlines())) <= 96
    assert repr(found) == shown


def test_a_hostile_folder_name_stays_one_value(data: Data, tmp_path: Path) -> None:
    data.write()
    folder = data.folder.rename(tmp_path / "a: #'c'\nepochs: 7")
    found = recommend(folder, hardware=PROCESSOR)
    read = yaml.safe_load(found.yaml)
    assert read["data"] == str(folder)
    assert read["epochs"] == found.settings["epochs"] != 7


def test_mistakes_that_stop_training_are_hints(data: Data) -> None:
    data.write()
    assert recommend(data.folder, hardware=PROCESSOR).hints == ()
    each(data.train["annotations"], 1, image_id=999)
    data.write()
    (hint,) = recommend(data.folder, hardware=PROCESSOR).hints
    assert "annotations of an image that is not in the file" in hint


def test_a_fifth_of_the_images_is_for_validation_if_the_data_has_no_other_split(data: Data) -> None:
    data.write()
    assert "val_fraction" not in recommend(data.folder, hardware=PROCESSOR).settings
    data.val = "{"  # the split is there, so train refuses a fraction
    data.write()
    assert "val_fraction" not in recommend(data.folder, hardware=PROCESSOR).settings
    val = data.folder / "annotations" / "instances_val.json"
    val.unlink()
    found = recommend(data.folder, hardware=PROCESSOR)
    assert found.settings["val_fraction"] == 0.2
    assert found.settings["epochs"] == 400  # 5 of 24 images are held back; 19 make 5 steps, and 2,000 / 5 is 400
    assert "5 of 24 images" in found.reasons["val_fraction"]
    assert found.hints == ()
    data.train["images"], data.train["annotations"] = data.train["images"][:1], data.train["annotations"][:2]
    val.with_name("instances_train.json").write_text(json.dumps(data.train))
    assert "val_fraction" not in recommend(data.folder, hardware=PROCESSOR).settings  # the division needs two images


def test_a_test_split_alone_is_for_evaluation_after_the_training(data: Data) -> None:
    data.write()
    annotations = data.folder / "annotations"
    (annotations / "instances_val.json").rename(annotations / "instances_test.json")
    found = recommend(data.folder, hardware=PROCESSOR)
    assert "val_fraction" not in found.settings
    assert any("no split val" in hint for hint in found.hints)


def test_tiny_boxes_in_large_pictures_are_cut_into_tiles_that_show_them_as_a_patch(data: Data) -> None:
    each(data.train["images"], 24, width=4000, height=4000)
    each(data.train["annotations"], 48, bbox=[10, 10, 20, 20])
    data.write()
    (hint,) = [one for one in recommend(data.folder, hardware=GPU).hints if "tile" in one]
    assert "--tile_size 740 " in hint  # 20 pixels are one patch of 14 if 740 pixels become 518


def test_data_without_training_boxes_is_one_line(data: Data, tmp_path: Path) -> None:
    data.train["annotations"] = []
    data.write()
    with pytest.raises(InputError, match=r"instances_train\.json: has no box to train on"):
        recommend(data.folder, hardware=PROCESSOR)
    (data.folder / "annotations" / "instances_train.json").unlink()
    with pytest.raises(InputError, match="has val, but no split train"):
        recommend(data.folder, hardware=PROCESSOR)
    with pytest.raises(InputError, match="nowhere: no such folder"):
        recommend(tmp_path / "nowhere")
