"""Converts a data set to another format: pictures, files of labels, and a list of what the format can't hold."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

from dino_detector.data.conversion.coco_extras import copy_coco, note_extras
from dino_detector.data.conversion.file_names import give_names
from dino_detector.data.conversion.gathering import TITLES, Source, label, read_sources
from dino_detector.data.conversion.labelled import Labelled, Note, Notes
from dino_detector.data.conversion.to_coco import FILE, coco_folder, write_coco
from dino_detector.data.conversion.to_cvat import write_cvat
from dino_detector.data.conversion.to_labelme import write_labelme
from dino_detector.data.conversion.to_voc import write_voc
from dino_detector.data.conversion.to_yolo import write_yolo
from dino_detector.data.layouts import annotations_exist
from dino_detector.data.pictures.finding import is_picture
from dino_detector.data.pictures.opening import MOST_THREADS
from dino_detector.errors import InputError
from dino_detector.plain_text import counted, printable
from dino_detector.storage.files import explained_writing, paused_collection, write_error
from dino_detector.storage.output_folder import set_aside
from dino_detector.terminal import bars

Format = Literal["coco", "yolo", "voc", "labelme", "cvat"]
Pictures = Literal["copy", "link", "none"]
WRITERS: dict[str, Callable[[Labelled, Path, Notes], None]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
    "labelme": write_labelme,
    "cvat": write_cvat,
}
PLACES: dict[str, Callable[[str], str]] = {
    "coco": coco_folder,
    "yolo": lambda split: f"images/{split or 'train'}",
    "voc": lambda split: "JPEGImages",
    "labelme": str,
    "cvat": lambda split: f"images/{split}",
}
"""folder of the pictures of a split"""
RECORD = "conversion.txt"
"""file of the output with everything that the conversion loses or changes"""
RECORD_START = "Converted by dino-detector convert"


class Target(NamedTuple):
    """The folder to write, its format, and the way the pictures get there."""

    output: Path
    to: Format
    pictures: Pictures


@dataclass(frozen=True)
class Conversion:
    """A converted data set.

    Attributes:
        output: the folder of the data set.
        to: the format.
        images: number of images by split.
        boxes: number of boxes by split.
        classes: names of the classes.
        notes: everything that the format can't hold, or that was changed; empty if nothing was lost or
            changed.
        source: the format of the data that was read, or the origin of boxes that were in memory.
    """

    output: Path
    to: str
    images: dict[str, int]
    boxes: dict[str, int]
    classes: list[str]
    notes: list[Note]
    source: str

    def text(self, shown: int = 3) -> str:
        """Return the counts of the new data set, and the first ``shown`` items of each note."""
        splits = [
            f"{name or 'all'}: {counted(count, 'image')}, {counted(self.boxes[name], 'box', 'boxes')}"
            for name, count in self.images.items()
        ]
        classes = counted(len(self.classes), "class", "classes")
        lines = [
            f"{self.output}: {TITLES[self.to]} with {classes}, from {self.source}",
            *(f"  {line}" for line in splits),
        ]
        if self.notes:
            lines.append("Lost, changed or missing:")
        else:
            lines.append("Nothing was lost.")
        return "\n".join([*lines, *(f"  - {note.line(shown)}" for note in self.notes)])


def convert(data: Path | str, *, to: Format, output: Path | str, pictures: Pictures = "copy") -> Conversion:
    """Write a data set of any labelling tool in another format, with its splits.

    The data set appears in ``output`` when it is complete. An earlier conversion there is moved aside, beside
    ``output``. ``data`` is not changed. Boxes stay as they are, also outside their image.

    Args:
        data: folder or file of a data set.
        to: the format to write.
        output: the new folder.
        pictures: copy pictures, hard-link them (a file with two names takes no space), or leave them out.

    Returns:
        The number of images and boxes, and notes about everything that the format can't hold.

    Raises:
        InputError: the data can't be read, or ``output`` holds other files or overlaps ``data``.
    """
    data, output = Path(data), Path(output)
    require_apart(data, output)
    notes = Notes()
    with paused_collection():
        sources = read_sources(data, to)
        for source in sources.values():
            _require_outside({picture.file.parent for picture in source.pictures if picture.file}, output)
        labelled = label(sources, to, notes)
        form = next(iter(sources.values())).form
        return _save(
            labelled,
            lambda folder: _write(labelled, sources, to, folder, notes),
            Target(output, to, pictures),
            notes,
            source=form,
            origin=data,
        )


def write_labelled(
    labelled: Labelled, *, to: Format, output: Path, pictures: Pictures = "copy", source: Path | str
) -> Conversion:
    """Write boxes that are in memory as a data set, as `convert` does; call `require_apart` first.

    Args:
        labelled: pictures and boxes.
        to: the format to write.
        output: the new folder.
        pictures: copy pictures, hard-link them, or leave them out.
        source: where the boxes come from, for the record of the conversion.

    Raises:
        InputError: ``output`` holds pictures of ``labelled``.
    """
    notes = Notes()
    _require_outside({picture.file.parent for picture in labelled.pictures() if picture.file}, output)
    target = Target(output, to, pictures)
    return _save(
        labelled, lambda folder: WRITERS[to](labelled, folder, notes), target, notes, source=str(source), origin=source
    )


def _save(
    labelled: Labelled,
    write: Callable[[Path], None],
    target: Target,
    notes: Notes,
    *,
    source: str,
    origin: Path | str,
) -> Conversion:
    """Name and place the pictures, and write the annotations and the record; the output appears when it is complete.

    Args:
        labelled: pictures and boxes.
        write: writes the annotations into a folder.
        target: the output.
        notes: takes what the format can't hold.
        source: see `Conversion`.
        origin: the place of the data, for the record.
    """
    output, to = target.output, target.to
    with explained_writing(output), _staging(output.resolve()) as folder:
        groups = [list(labelled.pictures())] if to == "voc" else list(labelled.splits.values())
        give_names(groups, to, notes, folds=_folds(folder))
        write(folder)
        _place_pictures(labelled, to, folder, target.pictures, notes)
        images = {name: len(some) for name, some in labelled.splits.items()}
        boxes = {name: sum(len(one.boxes) for one in some) for name, some in labelled.splits.items()}
        result = Conversion(output, to, images, boxes, labelled.classes, notes.all(), source)
        record = f"{RECORD_START}\nfrom {origin}\n\n{printable(result.text(shown=10**9))}\n"
        (folder / RECORD).write_text(record, "utf-8", "backslashreplace")
    return result


def _write(labelled: Labelled, sources: dict[str, Source], to: Format, folder: Path, notes: Notes) -> None:
    """Write the annotations; COCO files stay as they are in COCO, and other formats lack some of their fields."""
    if to == "coco" and all(source.form == "COCO" for source in sources.values()):
        for split, source in sources.items():
            (folder / coco_folder(split)).mkdir(exist_ok=True)
            copy_coco(source.file.path, folder / coco_folder(split) / FILE, source.pictures)
        return
    WRITERS[to](labelled, folder, notes)
    for source in sources.values():
        if source.form == "COCO":
            note_extras(source.file.path, TITLES[to], notes)
    forms = {source.form for source in sources.values()}
    lost = ["images", "boxes"] if "COCO" in forms else []
    lost += ["classes"] if forms & {"COCO", "YOLO"} and to not in ("coco", "yolo") else []
    if lost:
        notes.say(
            f"ids of {' and '.join([', '.join(lost[:-1]), lost[-1]] if lost[1:] else lost)}",
            f"{TITLES[to]} has none; names stay",
        )


def require_apart(data: Path, output: Path) -> None:
    """Raise `InputError` if the output would change the data or other files."""
    there, target = _whole(data).resolve(), output.resolve()
    if there == target or there in target.parents or target in there.parents:
        raise InputError(f"{output}: lies in the data set, or holds it; give a folder outside of {_whole(data)}")
    _require_free(output)


def _whole(data: Path) -> Path:
    """Return the folder around an annotation file or a split such as ``data.yaml:val``; folders and pictures stay."""
    is_annotations = annotations_exist(data) and not data.is_dir() and not is_picture(data)
    return data.parent if is_annotations else data


def _require_free(output: Path) -> None:
    """Raise `InputError` if the output is a file, or holds files that no conversion wrote."""
    if output.resolve() == Path.cwd():
        raise InputError(f"{output}: is the current folder; give a new folder")
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file; give a new folder")
    if output.is_dir() and any(output.iterdir()) and not is_conversion(output):
        raise InputError(f"{output}: holds files that no conversion wrote; give a new folder")


def _require_outside(folders: set[Path], output: Path) -> None:
    target = output.resolve()
    for folder in folders:
        if target in (folder.resolve(), *folder.resolve().parents):
            raise InputError(f"{output}: holds pictures of the data set ({folder}); give another folder")


def is_conversion(folder: Path) -> bool:
    """Return whether a conversion wrote a folder."""
    try:
        return (folder / RECORD).read_text("utf-8", "replace").startswith(RECORD_START)
    except OSError:
        return False


@contextmanager
def _staging(output: Path) -> Iterator[Path]:
    """Make a folder beside the output that takes its place at the end; an exception removes it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    start = f".{output.name}.unfinished-"
    for left in output.parent.iterdir():
        unfinished = re.fullmatch(re.escape(start) + "([0-9]{1,9})", left.name)
        if unfinished and not psutil.pid_exists(int(unfinished[1])):  # of a killed program
            shutil.rmtree(left, ignore_errors=True)
    folder = output.with_name(f"{start}{os.getpid()}")
    folder.mkdir()
    try:
        yield folder
        if output.exists() and any(output.iterdir()):
            set_aside(output)
        elif output.exists():
            output.rmdir()
        folder.rename(output)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _folds(folder: Path) -> bool:
    """Return whether the file system takes names that differ in letter case as equal."""
    probe = folder / ".case"
    probe.touch()
    try:
        return (folder / ".CASE").exists()
    finally:
        probe.unlink()


def _place_pictures(labelled: Labelled, to: Format, folder: Path, how: Pictures, notes: Notes) -> None:
    """Copy or link the pictures to the folders of their splits."""
    absent = [picture.name for picture in labelled.pictures() if picture.file is None]
    if to != "yolo":
        notes.add("image", "has no file; its annotations are written", absent)
    folders = {split: folder / PLACES[to](split) for split in labelled.splits}
    for below in folders.values():
        below.mkdir(parents=True, exist_ok=True)
    if how == "none":
        where = ", ".join(dict.fromkeys(PLACES[to](split) or "the folder itself" for split in labelled.splits))
        notes.say("pictures", f"left out; put them into {where} under the names in the annotations")
        return
    pairs = [
        (picture.file, folders[split] / picture.name)
        for split, pictures in labelled.splits.items()
        for picture in pictures
        if picture.file is not None
    ]
    for below in {target.parent for _, target in pairs}:
        below.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        done = pool.map(lambda pair: _place(*pair, link=how == "link"), pairs)
        try:
            for _ in bars()(done, total=len(pairs), unit=" images", disable=None, leave=False):
                pass
        except BaseException:  # Ctrl-C does not wait for the other pictures
            pool.shutdown(cancel_futures=True)
            raise


def _place(file: Path, target: Path, *, link: bool) -> None:
    try:
        if link:
            try:
                os.link(file.resolve(), target)
                return
            except OSError:  # another disk, or a file system without links
                pass
        shutil.copyfile(file, target)
    except OSError as error:
        raise write_error(error.filename or target, error, done="copied") from error
