"""The formats of labelling tools: the right boxes, names and empty images, and errors that name the file and entry."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from formats_of_tools import (
    NAMES,
    ONE_SPLIT,
    TRAIN,
    TWO_SPLITS,
    VAL,
    Labelled,
    draw,
    voc_text,
    write_cvat_yolo,
    write_labelme,
    write_yolo,
    yolo_lines,
)

from dino_detector.config import Config
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.layouts import find_sources
from dino_detector.data_check.check import load
from dino_detector.errors import InputError
from dino_detector.training.run_data import read_run_data


def boxes_of(annotations: CocoAnnotations) -> dict[str, list[tuple[str, list[float]]]]:
    """Return the class names and boxes of each image by its plain file name."""
    found = {}
    for image in annotations.images:
        rows = annotations.annotations_of(image.image_id)
        names = dict(zip(annotations.categories.ids, annotations.categories.names, strict=True))
        found[Path(image.file_name).name] = sorted((names[row["category_id"]], row["bbox"]) for row in rows)
    return found


def expected(pictures: Sequence[Labelled]) -> dict[str, list[tuple[str, list[float]]]]:
    return {
        one.name: sorted((NAMES[kind], pytest.approx(list(map(float, box)), abs=1e-3)) for kind, *box in one.boxes)
        for one in pictures
    }


@pytest.mark.parametrize("tool", [*TWO_SPLITS, *ONE_SPLIT])
def test_a_folder_of_each_tool_trains_with_one_argument(tool: str, tmp_path: Path):
    """The images, the boxes and the names are right, also where the validation images lack a class."""
    (TWO_SPLITS | ONE_SPLIT)[tool](tmp_path)
    run = read_run_data(Config.from_flat({"data": tmp_path}), training=True)
    assert boxes_of(run.train.annotations) == expected(TRAIN)
    assert all((run.train.folder / name).is_file() for name in run.train.annotations.images.file_names)
    sizes = {image.file_name.rsplit("/")[-1]: (image.width, image.height) for image in run.train.annotations.images}
    assert sizes == {one.name: (one.width, one.height) for one in TRAIN}
    if tool in ONE_SPLIT:
        assert run.val is None
    else:
        assert boxes_of(run.val.annotations) == expected(VAL)
        run.check_classes(run.train.annotations.categories, source=tmp_path, num_classes=2)


@pytest.mark.parametrize("tool", [*TWO_SPLITS, *ONE_SPLIT])
def test_an_evaluation_takes_the_validation_images_or_the_only_ones(tool: str, tmp_path: Path):
    (TWO_SPLITS | ONE_SPLIT)[tool](tmp_path)
    run = read_run_data(Config.from_flat({"data": tmp_path}), training=False)
    assert run.train is None
    assert boxes_of(run.val.annotations) == expected(VAL if tool in TWO_SPLITS else TRAIN)


def test_data_excludes_the_flags_of_images(tmp_path: Path):
    write_yolo(tmp_path)
    with pytest.raises(InputError, match="--val_images"):
        read_run_data(Config.from_flat({"data": tmp_path, "val_images": tmp_path}), training=True)


def test_a_folder_without_annotations_names_the_formats(tmp_path: Path):
    draw(tmp_path, TRAIN)
    with pytest.raises(InputError, match=rf"{tmp_path}: holds pictures but no annotation.*YOLO.*VOC.*labelme.*CVAT"):
        find_sources(tmp_path)


# --- YOLO ---------------------------------------------------------------------------------------------------------


def yolo(root: Path, text: str) -> dict[str, CocoAnnotations]:
    (root / "data.yaml").write_text(text)
    return {name: CocoAnnotations.read(path) for name, path, *_ in find_sources(root / "data.yaml")}


def lay_out(root: Path, images: str = "images/train", labels: str = "labels/train") -> None:
    draw(root / images, TRAIN)
    (root / labels).mkdir(parents=True, exist_ok=True)
    for picture in TRAIN:
        (root / labels / picture.name).with_suffix(".txt").write_text(yolo_lines(picture))


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        ("images/train", "labels/train", "path: .\ntrain: images/train\n"),
        ("images/train", "labels/train", "path: somewhere/else\ntrain: images/train\n"),
        ("set/images/train", "set/labels/train", "path: set\ntrain: images/train\n"),
        ("images/train/deep", "labels/train/deep", "train: images\n"),
        ("plain", "plain", "train: plain\n"),
        ("images", "labels", "train: list.txt\n"),
        ("images", "labels", "train: [images]\n"),
    ],
    ids=["path", "a path of another machine", "a path below", "nested", "labels beside", "list", "several folders"],
)
def test_yolo_paths_are_those_of_ultralytics(images: str, labels: str, text: str, tmp_path: Path):
    lay_out(tmp_path, images, labels)
    (tmp_path / "list.txt").write_text("".join(f"./images/{one.name}\n" for one in TRAIN))
    found = yolo(tmp_path, f"{text}names: {{0: {NAMES[0]!r}, 1: {NAMES[1]!r}}}\n")
    assert boxes_of(found["train"]) == expected(TRAIN)


def test_classes_without_names_have_the_names_of_ultralytics(tmp_path: Path):
    lay_out(tmp_path)
    assert yolo(tmp_path, "train: images/train\nnc: 2\n")["train"].categories.names == ("class_0", "class_1")


@pytest.mark.parametrize(
    "place", ["/home/me/set/images/train", "C:\\\\sets\\\\mine\\\\images\\\\train", "/home/me/list.txt"]
)
def test_absolute_paths_of_another_machine_are_found_by_their_ends(place: str, tmp_path: Path):
    lay_out(tmp_path)
    (tmp_path / "list.txt").write_text("".join(f"/home/me/set/images/train/{one.name}\n" for one in TRAIN))
    found = yolo(tmp_path, f'train: "{place}"\nnames: [{NAMES[0]!r}, {NAMES[1]!r}]\n')
    assert boxes_of(found["train"]) == expected(TRAIN)


def test_a_list_may_begin_with_a_folder_that_the_export_lacks(tmp_path: Path):
    """CVAT's Ultralytics YOLO Detection 1.0 lists ``data/images/train``, and has ``images/train``."""
    lay_out(tmp_path)
    (tmp_path / "train.txt").write_text("".join(f"data/images/train/{one.name}\n" for one in TRAIN))
    found = yolo(tmp_path, f"path: .\ntrain: train.txt\nnames: {{0: {NAMES[0]!r}, 1: {NAMES[1]!r}}}\n")
    assert boxes_of(found["train"]) == expected(TRAIN)


def test_a_listed_picture_has_the_longest_end_that_exists(tmp_path: Path):
    """The picture of the same name beside ``data.yaml`` has no label."""
    lay_out(tmp_path)
    draw(tmp_path, TRAIN)
    (tmp_path / "train.txt").write_text(f"data/images/train/{TRAIN[0].name}\n")
    assert boxes_of(yolo(tmp_path, "train: train.txt\nnames: [red & dark, blau ü]\n")["train"]) == expected(TRAIN[:1])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("train = data/absent.txt\nnames = data/obj.names\n", r"obj\.data: names 'data/absent\.txt', and there is no"),
        ("train = data/train.txt\nnames = some.names\n", r"obj\.data: names the file of classes 'some\.names'"),
    ],
)
def test_a_wrong_obj_data_is_named(text: str, reason: str, tmp_path: Path):
    write_cvat_yolo(tmp_path)
    (tmp_path / "obj.data").write_text(text)
    with pytest.raises(InputError, match=reason):
        CocoAnnotations.read(find_sources(tmp_path)[0].path)


def test_a_named_split_needs_no_other_split(tmp_path: Path):
    lay_out(tmp_path)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/absent\nnames: [a, b]\n")
    assert len(CocoAnnotations.read(tmp_path / "data.yaml:train").images) == 3
    with pytest.raises(InputError, match=r"data\.yaml: names 'images/absent'"):
        find_sources(tmp_path)


def test_a_data_yaml_with_two_splits_is_no_split(tmp_path: Path):
    write_yolo(tmp_path)
    with pytest.raises(InputError, match=r"data\.yaml: has the splits train, val; give one, such as .*data\.yaml:val"):
        CocoAnnotations.read(tmp_path / "data.yaml")


def test_a_test_split_without_pictures_is_left_out(tmp_path: Path):
    lay_out(tmp_path)
    found = yolo(tmp_path, "train: images/train\nval: images/train\ntest: ../test/images\nnames: [a, b]\n")
    assert list(found) == ["train", "val"]


def test_labels_without_a_picture_and_pictures_without_labels_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    lay_out(tmp_path)
    (tmp_path / "images" / "train" / "a.jpg").unlink()
    yolo(tmp_path, "train: images/train\nnames: [yes, no]\n")
    assert "1 label file without a picture: a.txt" in caplog.text
    shutil.move(tmp_path / "labels", tmp_path / "elsewhere")
    yolo(tmp_path, "train: images/train\nnames: [yes, no]\n")
    assert f"none of 2 pictures has a label file, such as {tmp_path / 'labels' / 'train' / 'b.txt'}" in caplog.text


def test_classes_may_be_called_yes_and_no_and_an_unreadable_picture_keeps_its_boxes(tmp_path: Path):
    lay_out(tmp_path)
    (tmp_path / "images" / "train" / "a.jpg").write_bytes(b"broken")
    found = yolo(tmp_path, "train: images/train\nval: null\nnames: [yes, no]\n")
    assert found.keys() == {"train"}
    assert found["train"].categories.names == ("yes", "no")
    assert len(boxes_of(found["train"])["a.jpg"]) == 2


def test_polygons_and_gaps_in_the_class_numbers_are_read(tmp_path: Path):
    lay_out(tmp_path)
    (tmp_path / "labels" / "train" / "a.txt").write_text("7 0.25 0.5 0.5 0.25 0.75 0.75\n")
    (tmp_path / "labels" / "train" / "b.txt").unlink()
    found = yolo(tmp_path, "train: images/train\nnames: {0: cat, 7: dog}\n")["train"]
    assert found.categories.ids == (0, 7)
    assert boxes_of(found) == {"a.jpg": [("dog", [30.0, 20.0, 60.0, 40.0])], "b.jpg": [], "c.jpg": []}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.2", "has 4 numbers"),
        ("0 0.5 0.5 0.2 0.2 0.9", "has 6 numbers"),
        ("cat 0.5 0.5 0.2 0.2", "not a list of numbers"),
        ("2 0.5 0.5 0.2 0.2", "class 2 is not among the 2 classes"),
        ("0 nan 0.5 0.2 0.2", "not finite"),
        ("0 0.5 0.5 0.2 0.2 0.9", "the score of a detection"),
        ("0 310 200 64 48", "write fractions of the width and height"),
        ("0 0.5 -500 0.2 0.2", "has the coordinate -500; write fractions"),
        ("0 0.5 0.5 0.2 0.2 0.1 0.1 2", r"needs kpt_shape: \[1, 3\]"),
    ],
)
def test_a_wrong_line_is_named_and_others_are_counted(line: str, reason: str, tmp_path: Path):
    lay_out(tmp_path)
    file = tmp_path / "labels" / "train" / "b.txt"
    file.write_text(f"0 0.5 0.5 0.2 0.2\n{line}\n\n{line}\n")
    with pytest.raises(InputError, match=rf"{re.escape(str(file))}, line 2: .*{reason}.*; 1 more line"):
        yolo(tmp_path, "train: images/train\nnames: [red, blue]\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("train: images/train\n", "no list names"),
        ("names: [a]\ntrain: images/absent\n", "names 'images/absent'"),
        ("names: 3\ntrain: images/train\n", "names: must list the classes"),
        ("names: [a, b]\nnc: 3\ntrain: images/train\n", "nc: is 3, but names: lists 2 classes"),
        ("names: [a, b]\nnc: many\ntrain: images/train\n", "nc: must be the number of classes"),
        ("names: [a, b]\ntrain: images/train\nval: images/val\n", "remove the line val: and give --val_fraction"),
        ("names: [a, b]\n", "names no pictures"),
        ("names: [a\ntrain: images/train\n", "cannot be read as YAML"),
    ],
)
def test_a_wrong_data_yaml_is_named(text: str, reason: str, tmp_path: Path):
    lay_out(tmp_path)
    with pytest.raises(InputError, match=rf"data\.yaml: .*{reason}"):
        yolo(tmp_path, text)


def test_keypoints_behind_a_box_are_left_out(tmp_path: Path):
    lay_out(tmp_path)
    (tmp_path / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 0.5 0.25 0.1 0.1 2 0.2 0.2 2\n")
    found = yolo(tmp_path, "kpt_shape: [2, 3]\ntrain: images/train\nnames: [cat, dog]\n")["train"]
    assert boxes_of(found)["a.jpg"] == [("cat", [30.0, 30.0, 60.0, 20.0])]


def test_a_list_of_classes_beside_other_annotations_does_not_make_them_yolo(tmp_path: Path):
    for tool in ("labelme", "voc"):
        (tmp_path / tool).mkdir()
        TWO_SPLITS[tool](tmp_path / tool)
        (tmp_path / tool / "labels.txt").write_text("a\nb\n")
        run = read_run_data(Config.from_flat({"data": tmp_path / tool}), training=True)
        assert boxes_of(run.train.annotations) == expected(TRAIN)


def test_splits_below_a_list_of_classes_need_a_data_yaml(tmp_path: Path):
    lay_out(tmp_path)
    lay_out(tmp_path, "images/val", "labels/val")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match=r"write a data\.yaml"):
        find_sources(tmp_path)


# --- Label Studio's own JSON --------------------------------------------------------------------------------------

BOX = {"x": 10, "y": 25, "width": 30, "height": 20, "rotation": 0, "rectanglelabels": ["red"]}
RESULT = {"id": "a", "type": "rectanglelabels", "from_name": "label", "to_name": "image", "value": BOX}
IMAGE = {"image": "/data/upload/1/a.jpg"}


@pytest.mark.parametrize("pictures", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        [{"id": 1, "annotations": [{"id": 1, "completed_by": 1, "result": [RESULT]}], "data": IMAGE}],
        [{"id": 1, "annotations": [{"id": 1, "completed_by": 1, "result": []}], "data": IMAGE}],
        [IMAGE | {"id": 1, "label": [BOX | {"original_width": 120, "original_height": 80}], "annotator": 1}],
    ],
    ids=["JSON", "JSON without a box", "JSON-MIN"],
)
def test_label_studios_own_json_names_the_exports_to_choose(content: list[object], pictures: bool, tmp_path: Path):
    if pictures:
        draw(tmp_path / "images", TRAIN)
    (tmp_path / "project-1.json").write_text(json.dumps(content))
    for data in (tmp_path, tmp_path / "project-1.json"):
        with pytest.raises(InputError, match=r"project-1\.json: is Label Studio's own JSON.*COCO or YOLO, with images"):
            find_sources(data)


# --- XML and JSON -------------------------------------------------------------------------------------------------


def test_difficult_objects_of_voc_are_crowds(tmp_path: Path):
    draw(tmp_path, TRAIN[:1])
    text = voc_text(TRAIN[0]).replace("<difficult>0</difficult>", "<difficult>1</difficult>", 1)
    text = text.replace("<annotation>", '<annotation verified="yes">')  # as labelImg writes it
    (tmp_path / "a.xml").write_text(text)
    (source,) = find_sources(tmp_path)
    assert CocoAnnotations.read(source.path).entries.is_crowd.tolist() == [True, False]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[:-20], "cannot be read as XML"),
        (lambda text: text.replace("<ymax>60</ymax>", ""), "object 1 has no box"),
        (lambda text: text.replace("<xmin>61", "<xmin>left"), "object 2 has no box"),
        (lambda text: re.sub("<name>.*?</name>", "<name/>", text), "object 1 has no name"),
    ],
)
def test_a_damaged_voc_file_is_named(change, reason: str, tmp_path: Path):
    draw(tmp_path, TRAIN[:1])
    (tmp_path / "a.xml").write_text(change(voc_text(TRAIN[0])))
    with pytest.raises(InputError, match=rf"a\.xml: {reason}"):
        CocoAnnotations.read(find_sources(tmp_path)[0].path)


def test_a_corner_at_zero_proves_that_corners_count_from_zero(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """labelImg writes corners that count from 0; the boxes of the other pictures are then from 0, too."""
    draw(tmp_path, TRAIN[:2])
    (tmp_path / "a.xml").write_text(voc_text(TRAIN[0]))
    (tmp_path / "b.xml").write_text(voc_text(TRAIN[1]).replace("<xmin>1<", "<xmin>0<"))
    found = boxes_of(CocoAnnotations.read(tmp_path))
    assert found["a.jpg"] == [(NAMES[1], [61, 6, 49, 69]), (NAMES[0], [11, 21, 29, 39])]
    assert found["b.jpg"] == [(NAMES[1], [0, 1, 64, 95])]
    assert re.search(r"corners count from 0 \(.*b\.xml, object 1\)", caplog.text)


def test_equal_names_in_subfolders_of_voc_are_different_pictures(tmp_path: Path):
    for number, name in enumerate(("one", "two")):
        draw(tmp_path / "JPEGImages" / name, [TRAIN[number]._replace(name="a.jpg")])
        (tmp_path / "Annotations" / name).mkdir(parents=True)
        text = voc_text(TRAIN[number]._replace(name="a.jpg"))
        (tmp_path / "Annotations" / name / "a.xml").write_text(text, "utf-8")
    run = read_run_data(Config.from_flat({"data": tmp_path}), training=True)
    sizes = {image.file_name: (image.width, image.height) for image in run.train.annotations.images}
    assert sizes == {"one/a.jpg": (120, 80), "two/a.jpg": (64, 96)}


def test_one_xml_of_voc_and_a_list_of_another_tool_are_named(tmp_path: Path):
    (tmp_path / "a.xml").write_text(voc_text(TRAIN[0]))
    (tmp_path / "list.txt").write_text("a\n")
    with pytest.raises(InputError, match=r"a\.xml: has the boxes of one picture; give the folder"):
        CocoAnnotations.read(tmp_path / "a.xml")
    with pytest.raises(InputError, match=r"list\.txt: is no list of Pascal VOC"):
        CocoAnnotations.read(tmp_path / "list.txt")


def test_trainval_of_voc_is_the_training_split(tmp_path: Path):
    TWO_SPLITS["voc"](tmp_path)
    lists = tmp_path / "ImageSets" / "Main"
    (lists / "train.txt").rename(lists / "trainval.txt")
    assert [source.name for source in find_sources(tmp_path)] == ["train", "val"]


def test_each_split_of_voc_may_have_its_own_folder(tmp_path: Path):
    for split, pictures in (("train", TRAIN), ("val", VAL)):
        draw(tmp_path / split / "JPEGImages", pictures)
        (tmp_path / split / "Annotations").mkdir()
        for picture in pictures:
            (tmp_path / split / "Annotations" / f"{picture.name[:-4]}.xml").write_text(voc_text(picture), "utf-8")
        (tmp_path / split / "Annotations" / "._a.xml").write_bytes(b"of macOS")
    run = read_run_data(Config.from_flat({"data": tmp_path}), training=True)
    assert boxes_of(run.train.annotations) == expected(TRAIN)
    assert boxes_of(run.val.annotations) == expected(VAL)


def test_pictures_of_another_split_are_no_negatives_of_open_images(tmp_path: Path):
    TWO_SPLITS["open_images"](tmp_path)
    (tmp_path / "csv").mkdir()
    for file in list(tmp_path.glob("*.csv")):
        file.rename(tmp_path / "csv" / file.name)
    run = read_run_data(Config.from_flat({"data": tmp_path}), training=True)
    assert boxes_of(run.train.annotations) == expected(TRAIN)


def test_a_long_list_of_createml_is_no_coco_file(tmp_path: Path):
    TWO_SPLITS["createml"](tmp_path)
    file = tmp_path / "train" / "_annotations.createml.json"
    content = json.loads(file.read_text())
    content += [{"image": f"gone_{number}.jpg", "annotations": []} for number in range(3000)]
    file.write_text(json.dumps(content))
    assert [source.name for source in find_sources(tmp_path)] == ["train", "val"]


def cvat(root: Path, shapes: str) -> CocoAnnotations:
    draw(root / "images", TRAIN[:1])
    image = f'<image id="0" name="a.jpg" width="120" height="80">{shapes}</image>'
    (root / "annotations.xml").write_text(f"<annotations><version>1.1</version>{image}</annotations>")
    return CocoAnnotations.read(find_sources(root)[0].path)


def test_shapes_of_cvat_become_the_box_around_them(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A box of 40 x 20 pixels, turned by 90 degrees about its centre, is 20 wide and 40 high."""
    found = cvat(
        tmp_path,
        '<box label="b" xtl="20" ytl="30" xbr="60" ybr="50" rotation="90"/>'
        '<polygon label="p" points="1,2;30,5;12,40.5"/>'
        '<ellipse label="e" cx="50" cy="40" rx="10" ry="5"/>'
        '<mask label="m" rle="1,2" left="3" top="4" width="7" height="8"/>'
        '<points label="b" points="1,2"/><tag label="t"/>',
    )
    boxes = dict(boxes_of(found)["a.jpg"])
    assert boxes["b"] == pytest.approx([30, 20, 20, 40])
    assert boxes["p"] == [1, 2, 29, 38.5]
    assert boxes["e"] == pytest.approx([40, 35, 20, 10])
    assert boxes["m"] == [3, 4, 7, 8]
    assert "annotations.xml: 1 shape (1 <points>) has no box and is left out" in caplog.text


def test_labels_of_tags_and_points_are_no_classes_of_cvat(tmp_path: Path):
    labels = "".join(f"<label><name>{kind}</name><type>{kind}</type></label>" for kind in ("points", "tag", "any"))
    draw(tmp_path, TRAIN[:1])
    shapes = '<tag label="night"/><points label="p" points="1,2"/>'
    image = f'<image id="0" name="a.jpg" width="120" height="80">{shapes}</image>'
    meta = f"<meta><project><labels>{labels}</labels></project></meta>"
    (tmp_path / "annotations.xml").write_text(f"<annotations>{meta}{image}</annotations>")
    assert CocoAnnotations.read(tmp_path / "annotations.xml").categories.names == ("any",)


@pytest.mark.parametrize("training", ["Train", "default"], ids=["named train", "the only other subset"])
def test_subsets_of_a_project_of_cvat_are_splits(training: str, tmp_path: Path):
    draw(tmp_path / "images", TRAIN + VAL)
    images = ""
    for subset, pictures in ((training, TRAIN), ("Validation", VAL)):
        for one in pictures:
            boxes = "".join(
                f'<box label="{"ab"[kind]}" xtl="{left}" ytl="{top}" xbr="{left + across}" ybr="{top + down}"/>'
                for kind, left, top, across, down in one.boxes
            )
            size = f'width="{one.width}" height="{one.height}"'
            images += f'<image id="0" name="{one.name}" subset="{subset}" {size}>{boxes}</image>'
    (tmp_path / "annotations.xml").write_text(f"<annotations>{images}</annotations>")
    run = read_run_data(Config.from_flat({"data": tmp_path}), training=True)
    assert [image.file_name for image in run.train.annotations.images] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [image.file_name for image in run.val.annotations.images] == ["d.jpg", "e.jpg"]
    assert run.val.annotations.path == tmp_path / "annotations.xml:val"
    assert len(CocoAnnotations.read(tmp_path / "annotations.xml:val").entries) == 1


def test_validation_folders_are_never_trained_on(tmp_path: Path):
    write_labelme(tmp_path)
    (tmp_path / "train").rename(tmp_path / "part1")
    run = read_run_data(Config.from_flat({"data": tmp_path}), training=True)
    assert [image.file_name for image in run.train.annotations.images] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [image.file_name for image in run.val.annotations.images] == ["d.jpg", "e.jpg"]
    shutil.copytree(tmp_path / "part1", tmp_path / "part2")
    with pytest.raises(InputError, match="part1, part2, val, and none is called train"):
        find_sources(tmp_path)


def test_tracks_of_a_video_are_refused(tmp_path: Path):
    draw(tmp_path / "images", TRAIN[:1])
    (tmp_path / "annotations.xml").write_text('<annotations><track id="0" label="a"></track></annotations>')
    with pytest.raises(InputError, match=r"annotations\.xml: has the tracks of a video"):
        CocoAnnotations.read(find_sources(tmp_path)[0].path)


def test_shapes_of_labelme_become_the_box_around_them(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    draw(tmp_path, TRAIN[:1])
    shapes = [
        {"label": "c", "shape_type": "circle", "points": [[50, 40], [53, 44]]},
        {"label": "p", "shape_type": "polygon", "points": [[1, 2], [30, 5], [12, 40.5]]},
        {"label": "d", "shape_type": "point", "points": [[1, 2]]},
    ]
    file = tmp_path / "a.json"
    file.write_text(
        json.dumps({"shapes": shapes, "imagePath": "C:\\mine\\a.jpg", "imageWidth": 120, "imageHeight": 80})
    )
    (source,) = find_sources(tmp_path)
    found = CocoAnnotations.read(source.path, images=source.images)
    assert boxes_of(found) == {"a.jpg": [("c", [45, 35, 10, 10]), ("p", [1, 2, 29, 38.5])]}
    assert "1 point or line without a box is left out" in caplog.text
    file.write_text(json.dumps({"shapes": [{"points": [[1, 2], [3, 4]]}], "imagePath": "a.jpg"}))
    with pytest.raises(InputError, match=r"a\.json: shape 1 has no label"):
        CocoAnnotations.read(source.path)
    file.write_text(json.dumps({"shapes": [{"label": None, "points": [[1, 2], [3, 4]]}], "imagePath": "a.jpg"}))
    with pytest.raises(InputError, match=r"a\.json: shape 1 has no label.*null"):
        CocoAnnotations.read(source.path)


# --- All formats --------------------------------------------------------------------------------------------------

PLACES = {
    "yolo": "train/labels/a.txt, line 1",
    "voc": "Annotations/a.xml, object 1",
    "roboflow_voc": "train/a.xml, object 1",
    "labelme": "train/a.json, shape 1",
    "cvat": "annotations.xml, image a.jpg, shape 1",
    "createml": "_annotations.createml.json, image a.jpg, annotation 1",
    "open_images": "train-annotations-bbox.csv, line 2",
    "label_studio_yolo": "labels/a.txt, line 1",
}


@pytest.mark.parametrize("tool", PLACES)
def test_a_finding_names_the_place_of_a_box_in_the_files_of_the_tool(tool: str, tmp_path: Path):
    (TWO_SPLITS | ONE_SPLIT)[tool](tmp_path)
    split = load(find_sources(tmp_path)[:1], tmp_path, [None]).splits[0]
    (place,) = split.find_boxes("box_tiny", [0]).ids
    assert place == f"{tmp_path}/{PLACES[tool]}" or place.endswith(f"/{PLACES[tool]}")


@pytest.mark.parametrize("tool", [*TWO_SPLITS, *ONE_SPLIT])
def test_the_path_of_a_split_reads_the_same_as_the_split_that_was_found(tool: str, tmp_path: Path):
    """Metrics files hold these paths, and the analysis reads them again."""
    (TWO_SPLITS | ONE_SPLIT)[tool](tmp_path)
    for source in find_sources(tmp_path):
        found = CocoAnnotations.read(source, images=source.images)
        assert boxes_of(CocoAnnotations.read(source.path, images=source.images)) == boxes_of(found)


def test_text_in_another_encoding_is_named(tmp_path: Path):
    TWO_SPLITS["open_images"](tmp_path)
    file = tmp_path / "train-annotations-bbox.csv"
    file.write_bytes(file.read_bytes().replace(b"xclick", b"\xff\xfe"))
    with pytest.raises(InputError, match=r"train-annotations-bbox\.csv: cannot be read as CSV .*; save it as UTF-8"):
        CocoAnnotations.read(file)


def test_a_folder_of_labelme_is_recognised_by_the_first_bytes_of_its_files(tmp_path: Path, monkeypatch):
    """Files of labelme can hold the picture itself, so whole files would be megabytes."""
    draw(tmp_path, TRAIN[:1])
    content = {"version": "5", "shapes": [], "imagePath": "a.jpg", "imageData": "A" * 10**6}
    (tmp_path / "a.json").write_text(json.dumps(content))
    monkeypatch.setattr("dino_detector.data.formats.recognition.START", 0)  # nothing is read behind the first 4 KiB
    (source,) = find_sources(tmp_path)
    assert source.format == "labelme"


def test_labels_of_pictures_that_another_split_lists_are_not_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    lay_out(tmp_path)
    (tmp_path / "train.txt").write_text("images/train/a.jpg\n")
    (tmp_path / "val.txt").write_text("images/train/b.jpg\n")
    yolo(tmp_path, "train: train.txt\nval: val.txt\nnames: [red, blue]\n")
    assert "without a picture" not in caplog.text


def test_two_data_files_of_darknet_are_named(tmp_path: Path):
    lay_out(tmp_path)
    (tmp_path / "obj.names").write_text("red\nblue\n")
    (tmp_path / "train.txt").write_text("images/train/a.jpg\n")
    for name in ("day.data", "night.data"):
        (tmp_path / name).write_text("train = train.txt\nnames = obj.names\n")
    with pytest.raises(InputError, match=r"day\.data.*night\.data each list classes and pictures"):
        find_sources(tmp_path)


@pytest.mark.parametrize("width", ["12px", "nan", "inf"])
def test_a_wrong_size_of_cvat_is_named(width: str, tmp_path: Path):
    image = f'<image id="0" name="a.jpg" width="{width}" height="80"></image>'
    (tmp_path / "annotations.xml").write_text(f"<annotations>{image}</annotations>")
    with pytest.raises(InputError, match=r"annotations\.xml: image 'a\.jpg' has a wrong width or height"):
        CocoAnnotations.read(tmp_path / "annotations.xml")


def open_images(root: Path, *lines: str) -> CocoAnnotations:
    (root / "boxes.csv").write_text("\n".join(["ImageID,XMin,XMax,YMin,YMax,LabelName", *lines]) + "\n")
    return CocoAnnotations.read(find_sources(root)[0].path)


def test_lines_of_absent_pictures_of_open_images_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    draw(tmp_path / "images", TRAIN[:1])
    gone = ["gone,0.1,0.2,0.1,0.2,cat"] * 2
    found = open_images(tmp_path, "a,0.25,0.5,0.25,0.5,cat", *gone, "far,0.1,0.2,0.1,0.2,cat")
    assert len(found.entries.image_indices) == 1
    assert "3 lines of 2 absent pictures are left out: far, gone" in caplog.text


def test_an_identifier_of_two_pictures_of_open_images_is_refused(tmp_path: Path):
    draw(tmp_path / "one", TRAIN[:1])
    draw(tmp_path / "two", TRAIN[:1])
    with pytest.raises(InputError, match=r"line 2: the image a may be .*one.*a\.jpg or .*two.*a\.jpg"):
        open_images(tmp_path, "a,0.25,0.5,0.25,0.5,cat")


def test_a_line_of_open_images_without_a_class_is_named(tmp_path: Path):
    draw(tmp_path, TRAIN[:1])
    with pytest.raises(InputError, match=r"boxes\.csv, line 3: has no LabelName"):
        open_images(tmp_path, "a,0.25,0.5,0.25,0.5,cat", "a,0.25,0.5,0.25,0.5")
