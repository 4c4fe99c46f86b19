"""Reads Pascal VOC: an XML file for each picture, and perhaps lists of names in ``ImageSets/Main``.

A split is named by its list, such as ``ImageSets/Main/val.txt``, or by the folder of the XML files. hotcoco's reader
turns the class ``cat &amp; dog`` into ``dog``, takes a file that is cut short, and refuses one without ``<filename>``.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import Element

from dino_detector.data.formats.rows import Reading, Rows, files_below
from dino_detector.data.formats.splits import AnnotationFile, folders_of, name_sources
from dino_detector.data.formats.xml_files import read_xml
from dino_detector.errors import InputError
from dino_detector.storage.files import read_lines

LISTS = Path("ImageSets", "Main")
"""folder of the lists of names, below the folder of the data set"""
XML = "Annotations"
"""folder of the XML files, below the folder of the data set"""
EDGES = ("xmin", "ymin", "xmax", "ymax")


def find_voc(folder: Path) -> list[AnnotationFile]:
    """Return the lists in ``ImageSets/Main``, or the folders of XML files."""
    roots = [path.parent for path in (*folder.glob(XML), *sorted(folder.glob(f"*/{XML}")))]
    if len(roots) > 1:
        named = name_sources([root / XML for root in roots], folder, "Pascal VOC")
        return [file._replace(images=_pictures_of(file.path.parent)) for file in named]
    if roots:
        (root,) = roots
        lists = {name: root / LISTS / f"{name}.txt" for name in ("train", "val", "test")}
        if not lists["train"].is_file():
            lists["train"] = root / LISTS / "trainval.txt"
        lists = {name: path for name, path in lists.items() if path.is_file() and read_lines(path)}
        chosen = lists or {folder.resolve().name: root / XML}
        return [AnnotationFile(name, path, _pictures_of(root), "Pascal VOC") for name, path in chosen.items()]
    found = folders_of("Pascal VOC", folder, "*.xml")
    return [file._replace(images=_pictures_of(folder.parent)) for file in found] if folder.name == XML else found


def voc_list(path: Path) -> AnnotationFile:
    """Return the split of a list of names; raise `InputError` if there are no XML files for it."""
    if len(path.absolute().parents) < 3 or not (path.absolute().parents[2] / XML).is_dir():
        raise InputError(f"{path}: is no list of Pascal VOC, as there is no ../../{XML}; give another file")
    return AnnotationFile(path.stem, path, _pictures_of(path.absolute().parents[2]), "Pascal VOC")


def _pictures_of(root: Path) -> Path:
    return root / "JPEGImages" if (root / "JPEGImages").is_dir() else root


def read_voc(source: AnnotationFile) -> Reading:
    """Read a list of names, or a folder of XML files and its subfolders; an object that is ``difficult`` is a crowd.

    The corners of VOC are whole pixels that count from 1, so a box reaches from ``xmin - 1`` to ``xmax``. Some tools
    count from 0. A corner at 0 proves that, and the boxes of the whole split are then taken as they are written.

    Raises:
        InputError: a file is missing or damaged, or a box is wrong; the message names the file.
    """
    rows, from_zero = Rows(unit="object"), None
    files, folder = _files(source.path)
    for file in files:
        root = read_xml(file, "annotation")
        size = [_whole(root.findtext(f"size/{side}")) for side in ("width", "height")]
        name = (root.findtext("filename") or "").strip() or file.stem
        subfolder = file.parent.relative_to(folder) if file.is_relative_to(folder) else Path()
        rows.image(_below(source.images, subfolder, name), width=size[0], height=size[1])
        for number, item in enumerate(root.findall("object"), start=1):
            kind = (item.findtext("name") or "").strip()
            if not kind:
                raise InputError(f"{file}: object {number} has no name; give it one")
            edges = _corners(item, file, number)
            if from_zero is None and min(edges[:2]) == 0:
                from_zero = f"{file}, object {number}"
            crowd = (item.findtext("difficult") or "").strip() == "1"
            rows.box(kind, edges, (file, number), crowd=crowd)
    if from_zero is not None:
        return rows.reading(f"corners count from 0 ({from_zero}), not from 1 as in VOC: boxes reach from xmin to xmax")
    for _, _, box, _ in rows.boxes:
        box[:] = (box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1)
    return rows.reading()


def _below(images: Path | None, subfolder: Path, name: str) -> str:
    """Return the name of a picture, with the subfolder of its XML file if the picture is in the same subfolder."""
    inside = (subfolder / name.replace("\\", "/")).as_posix()
    return inside if images is not None and subfolder.parts and (images / inside).is_file() else name


def _files(path: Path) -> tuple[list[Path], Path]:
    """Return the XML files of a folder, or of the names in a list, and the folder above all of them."""
    if path.is_dir():
        return list(files_below(path, "*.xml")), path
    names = dict.fromkeys(re.sub(r"\s+-?[01]$", "", line) for line in read_lines(path))  # lists of a class have marks
    folder = path.absolute().parents[2] / XML
    return [folder / f"{name}.xml" for name in names], folder


def _corners(item: Element, file: Path, number: int) -> tuple[float, float, float, float]:
    try:
        return tuple(float(item.findtext(f"bndbox/{edge}")) for edge in EDGES)
    except (TypeError, ValueError):
        raise InputError(f"{file}: object {number} has no box of {', '.join(EDGES)} in numbers; correct it") from None


def _whole(text: str | None) -> int | None:
    """Return a side in pixels; None if it is missing, zero or no number."""
    try:
        return int(float(text or 0)) or None
    except ValueError:
        return None
