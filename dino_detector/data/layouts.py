"""Finds the annotations and the images of a data set, in the layouts of common labelling tools."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from dino_detector.data.coco.image_files import find_image_files
from dino_detector.data.formats.open_images import is_open_images
from dino_detector.data.formats.rows import files_below
from dino_detector.data.formats.voc import LISTS
from dino_detector.data.formats.yolo import YOLO_SPLIT, classes_file, find_yolo, is_data_yaml, label_path, yolo_splits
from dino_detector.data.pictures.finding import evenly_spaced, is_picture, picture_extensions
from dino_detector.errors import InputError
from dino_detector.plain_text import listed
from dino_detector.storage.files import read_lines

KNOWN = (
    "COCO (annotations/instances_train.json and instances_val.json, or a JSON beside the images), YOLO (data.yaml), "
    "Pascal VOC (Annotations/*.xml), labelme, CVAT for images, CreateML and Open Images"
)
OTHER_KINDS = re.compile(r"^(captions|person_keypoints|panoptic|stuff)_|^(stuff_)?image_info_test-dev|^\.")
"""COCO files without boxes, or with the boxes of another file, and hidden files"""
START = 2**16
"""number of bytes at the start of a file in which a COCO detection file names its lists"""
SPELLINGS = {
    "train": ("train", "train2017", "train2014", "training"),
    "val": ("val", "valid", "val2017", "val2014", "validation"),
    "test": ("test", "test2017", "test2014", "testing"),
}
"""names of the folders of each split, in the order of the splits"""
PACKED = (".gz", ".zip", ".7z", ".tar", ".tgz", ".xz", ".bz2", ".rar", ".zst")
PROBED = 50
"""number of file names that are looked up to judge a folder of images"""


class AnnotationFile(NamedTuple):
    """The annotations of a split, the name of the split, and the folder of its images if the format tells it.

    ``path`` is a file, or one of the other paths of `dino_detector.data.formats.reading`.
    """

    name: str
    path: Path
    images: Path | None = None


def find_sources(data: Path) -> list[AnnotationFile]:
    """Find the annotations of a folder or file in the format of any labelling tool, train first.

    Raises:
        InputError: there are none; the message names the known layouts.
    """
    if data.is_file() or YOLO_SPLIT.match(str(data)):
        return _sources_of_file(data)
    if not data.is_dir():
        raise InputError(f"{data}: no such folder or annotation file; correct the path")
    for finder in (_coco, _yolo, _voc, _cvat, _createml, _labelme, _open_images):
        if found := finder(data):
            return found
    raise InputError(f"{data}: {_what_is_there(data)}; known layouts: {KNOWN}")


def _sources_of_file(path: Path) -> list[AnnotationFile]:
    """Return the splits of a single file."""
    if path.suffix.lower() in (".yaml", ".yml"):
        return [AnnotationFile(name, split, _yolo_folder(name, split)) for name, split in yolo_splits(path).items()]
    if named := YOLO_SPLIT.match(str(path)):
        return [AnnotationFile(named[2], path, find_yolo(path).folder)]
    return name_sources([path], path.parent)


def _yolo(folder: Path) -> list[AnnotationFile]:
    """Return the splits of the ``data.yaml`` of a folder, or the folder itself if it has a list of classes."""
    files = [path for form in ("*.yaml", "*.yml") for path in sorted(folder.glob(form)) if is_data_yaml(path)]
    if files:
        chosen = next((path for path in files if path.name == "data.yaml"), files[0])
        if chosen.name != "data.yaml" and len(files) > 1:
            names = listed([path.name for path in files])
            raise InputError(f"{folder}: {names} each list classes and pictures; give one of these files")
        return _sources_of_file(chosen)
    images = folder / "images" if (folder / "images").is_dir() else folder
    if not classes_file(folder) or not any(map(is_picture, files_below(images, "*"))):
        return []
    found = find_yolo(folder)
    if not any(label_path(picture).is_file() for picture in found.pictures):
        return []  # the list of classes is of another tool
    if any(_role_of(path, images) == "val" for path in images.iterdir() if path.is_dir()):
        raise InputError(f"{folder}: images/ has folders of splits; write a data.yaml with train:, val: and names:")
    return [AnnotationFile(folder.resolve().name, folder, found.folder)]


def _yolo_folder(name: str, split: Path) -> Path | None:
    """Return the folder of the pictures of a split; None for a test split that can't be read, which may be unused."""
    try:
        return find_yolo(split).folder
    except InputError:
        if name != "test":
            raise
        return None


def _voc(folder: Path) -> list[AnnotationFile]:
    """Return the lists in ``ImageSets/Main``, or the folders of XML files."""
    roots = [path.parent for path in (*folder.glob("Annotations"), *sorted(folder.glob("*/Annotations")))]
    if len(roots) > 1:
        named = name_sources([root / "Annotations" for root in roots], folder)
        return [file._replace(images=_pictures_of(file.path.parent)) for file in named]
    if roots:
        (root,) = roots
        lists = {name: root / LISTS / f"{name}.txt" for name in ("train", "val", "test")}
        if not lists["train"].is_file():
            lists["train"] = root / LISTS / "trainval.txt"
        lists = {name: path for name, path in lists.items() if path.is_file() and read_lines(path)}
        chosen = lists or {folder.resolve().name: root / "Annotations"}
        return [AnnotationFile(name, path, _pictures_of(root)) for name, path in chosen.items()]
    return _by_folder(folder, "*.xml", rb"<annotation[\s>]")


def _cvat(folder: Path) -> list[AnnotationFile]:
    return name_sources(_with_start(folder, "*.xml", rb"<annotations[\s>]"), folder)


def _createml(folder: Path) -> list[AnnotationFile]:
    return name_sources(_with_start(folder, "*.json", rb'^\W*\[\s*\{.*"annotations?"'), folder)


def _labelme(folder: Path) -> list[AnnotationFile]:
    return _by_folder(folder, "*.json", b'"shapes"')


def _open_images(folder: Path) -> list[AnnotationFile]:
    files = [path for form in ("*.csv", "*/*.csv") for path in sorted(folder.glob(form)) if is_open_images(path)]
    named = name_sources(files, folder)
    places = [
        [root / spelling for root in (path.parent, folder) for spelling in SPELLINGS.get(name, ())]
        for name, path, _ in named
    ]
    folders = [next((place for place in some if place.is_dir()), None) for some in places]
    return [file._replace(images=place) for file, place in zip(named, folders, strict=True)]


def _by_folder(folder: Path, form: str, start: bytes) -> list[AnnotationFile]:
    """Return the folders of files that belong to one picture each: train, val and test below, or the folder itself."""
    below = [path for path in sorted(folder.iterdir()) if path.is_dir() and _with_start(path, form, start, most=1)]
    with_role = [path for path in below if _role_of(path, folder)]
    roles = {_role_of(path, folder): path for path in with_role}
    if len(roles) < len(with_role):
        names = listed([path.name for path in with_role])
        raise InputError(f"{folder}: several folders of one split ({names}); join them")
    if "train" in roles:
        return [AnnotationFile(role, roles[role], roles[role]) for role in SPELLINGS if role in roles]
    found = _with_start(folder, form, start, most=1) or below
    return [AnnotationFile(folder.resolve().name, folder, folder)] if found else []


def _with_start(folder: Path, form: str, start: bytes, *, most: int | None = None) -> list[Path]:
    """Return the files of a folder and of its subfolders that match a pattern near their beginning."""
    found = chain.from_iterable(sorted(folder.glob(form)) for form in (form, f"*/{form}"))
    return list(islice((path for path in found if re.search(start, _start(path), re.DOTALL)), most))


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(START).replace(b"\0", b"")  # in UTF-16, too
    except OSError:
        return b""


def _pictures_of(root: Path) -> Path:
    return root / "JPEGImages" if (root / "JPEGImages").is_dir() else root


def _coco(folder: Path) -> list[AnnotationFile]:
    """Return the COCO files of a folder."""
    found = chain.from_iterable(sorted(folder.glob(form)) for form in ("*.json", "*/*.json", "*/annotations/*.json"))
    candidates = [path for path in found if path.is_file() and not OTHER_KINDS.search(path.name)]
    if any(path.name.startswith("instances_") for path in candidates):  # COCO's own names
        chosen = [path for path in candidates if path.name.startswith(("instances_", "image_info_"))]
    else:
        chosen = [path for path in candidates if _looks_like_coco(path)]
    return name_sources(chosen, folder)


def name_sources(paths: Sequence[Path], folder: Path) -> list[AnnotationFile]:
    """Name each file by its split, in the order train, val, test, others."""
    roles = [_role_of(path, folder) for path in paths]
    sources: dict[str, AnnotationFile] = {}
    for path, role in zip(paths, roles, strict=True):
        name = role if role is not None and roles.count(role) == 1 else path.stem
        if name in sources:
            name = path.relative_to(folder).with_suffix("").as_posix()
        sources[name] = AnnotationFile(name, path)
    order = [name for name in SPELLINGS if name in sources]
    return [sources[name] for name in (*order, *sorted(sources.keys() - SPELLINGS.keys()))]


def _role_of(path: Path, folder: Path) -> str | None:
    """Return train, val or test by the words in the name of a file, or else of its folders below ``folder``."""
    parents = path.parent.relative_to(folder).parts if path.is_relative_to(folder) else ()
    for part in (path.stem, *reversed(parents)):
        for word in reversed(re.findall("[a-z]+", part.lower())):
            for role, spellings in SPELLINGS.items():
                if word in spellings:
                    return role
    return None


def find_images_dir(
    file_names: Sequence[str | None], *, source: AnnotationFile, folder: Path, given: Path | None
) -> Path | None:
    """Return the folder with the images that an annotation file names; None if no folder has any.

    The folder that the user names, ``given``, is returned. Otherwise ``folder`` and folders near the file are searched.
    """
    named = [name for name in file_names if name]
    if given or source.images or not named:
        return given or source.images
    probed = evenly_spaced(named, PROBED)
    places = _places(source, folder)

    def hits(place: Path) -> float:
        """Return the number of files that are there; files whose names have other folders count half."""
        is_file = os.path.isfile  # Path.is_file raises for names that no file can have
        found = sum(is_file(place / name) for name in probed)
        return found or sum(is_file(place / plain_name(name)) for name in probed) / 2

    best = max(places, key=hits)
    if hits(best):
        return best
    return next((place for place in places if any(find_image_files(probed, place, split="").names)), None)


def plain_name(name: str) -> str:
    """Return the last part of a path of any operating system."""
    return name.replace("\\", "/").rsplit("/", 1)[-1] or name


def _places(source: AnnotationFile, folder: Path) -> list[Path]:
    """Return folders that may have the images, the likeliest first."""
    stem = re.sub(r"^(instances|image_info|annotations?|labels?)[_-]?", "", source.path.stem)
    names = [name for name in (stem, *SPELLINGS.get(source.name, ()), source.name) if name and Path(name).name == name]
    forms = [[form.format(name) for name in names] for form in ("{}", "images/{}", "{}/images", "data/{}")]
    forms += [[""], ["images", "data", "img", "imgs", "JPEGImages"]]
    roots = (source.path.parent, source.path.parent.parent, folder)
    places = dict.fromkeys(root / below for form in forms for root in roots for below in form)
    return [place for place in places if place.is_dir()]


def _looks_like_coco(path: Path) -> bool:
    """Return whether a JSON file can be a COCO detection file; True if it can't be read."""
    try:
        with path.open("rb") as file:
            start = file.read(START)
    except OSError:
        return True
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):  # CreateML
        return False
    lists = rb'"images"\s*:\s*\[' if len(start) < START else rb'"(images|annotations)"'
    return re.search(lists, start.replace(b"\0", b"")) is not None  # in UTF-16, too


def _what_is_there(folder: Path) -> str:
    """Return the reason why there are no annotations."""
    files = list(islice(folder.rglob("*"), 1000))
    packed = [path.name for path in files if path.suffix.lower() in PACKED]
    if packed:
        return f"holds compressed files ({listed(packed)}); unpack them first"
    if any("labels" in path.parts for path in folder.rglob("*.txt")):
        return "holds YOLO labels but neither data.yaml nor classes.txt; write the names of the classes to one of them"
    if others := [path.name for path in files if path.suffix == ".json"]:
        return f"no detection file among its JSON files ({listed(others)})"
    pictures = any(path.suffix.lower() in picture_extensions() for path in files)
    return "holds pictures but no annotation file" if pictures else "no annotation file in it"
