"""Read randomly damaged annotation files, pictures, result files and checkpoints.

    python -m benchmarks.fuzz [--minutes 10] [--only annotations pictures results checkpoints] [--seed 0]

Checks these properties: a reader returns valid data or raises an `InputError` of one line that names the file; training
and the data check accept the same annotation files; a damaged checkpoint never loads as another detector. The tests run
the same properties for a few seconds.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.common.command_line import command_parser
from dino_detector.analysis.runs import read_results
from dino_detector.commands.frame import run_command
from dino_detector.config import Config, ImageSize
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.findings import STOPS
from dino_detector.data.coco.subsets import Subset
from dino_detector.data.formats.splits import AnnotationFile
from dino_detector.data.pictures.decoding import check_image, read_image
from dino_detector.data.pictures.finding import is_picture
from dino_detector.data.pictures.opening import image_size
from dino_detector.data_check.check import check, load
from dino_detector.data_check.patches import PatchGrid
from dino_detector.data_check.report import payload, report_text
from dino_detector.errors import InputError
from dino_detector.models.checkpoint import HEADER, CheckpointHeader, read_checkpoint, write_checkpoint
from dino_detector.structures.categories import Categories
from dino_detector.structures.metrics import CocoMetrics

LONGEST_MESSAGE = 1_500
"""maximum characters of an error; a longer one quotes a whole value of the file"""
ODD_NUMBERS = (0, -1, 1.5, 1e308, 1e999, -1e999, float("nan"), 2**63, 10**400, 3.0, True)
ODD_TEXTS = ("", "0", "1", "a\nb", "\x00", "\x1b[31m", "\ud800", "x" * 5_000, "../a.png", "C:\\a.png", "http://a/b.png")
ODD_VALUES = st.one_of(
    st.none(),
    st.sampled_from(ODD_NUMBERS),
    st.sampled_from(ODD_TEXTS),
    st.just([]),
    st.just({}),
    st.lists(st.sampled_from(ODD_NUMBERS), min_size=1, max_size=5),
    st.text(max_size=20),
    st.integers(),
    st.floats(),
)
PROPERTIES = ("annotations", "pictures", "results", "checkpoints")
FORMATS = ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "AVIF", "BMP", "JPEG2000", "PPM", "TGA", "ICO", "DDS")


def clean_set() -> dict[str, Any]:
    """Return a small valid COCO file."""
    images = [{"id": number, "file_name": f"{number}.png", "width": 60, "height": 40} for number in range(1, 5)]
    boxes = [[x, y, 9 + x % 5, 7 + y % 3] for x in (3, 24, 45) for y in (2, 31)]
    annotations = [
        *(
            {"id": 10 * image["id"] + place, "image_id": image["id"], "category_id": 1 + place % 2, "bbox": box}
            | {"area": box[2] * box[3], "iscrowd": 0}
            for image in images
            for place, box in enumerate(boxes)
        )
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": n, "name": f"n{n}"} for n in (1, 2)]}


@st.composite
def spoiled_sets(draw: Any) -> bytes:
    """Draw the clean set with changed values, removed fields or repeated entries, sometimes also with damaged bytes."""
    content = clean_set()
    for _ in range(draw(st.integers(1, 6))):
        key = draw(st.sampled_from(("images", "annotations", "categories")))
        entries = content.get(key)
        if not isinstance(entries, list) or not entries:
            continue
        place = draw(st.integers(0, len(entries) - 1))
        way = draw(st.sampled_from(("value", "remove", "entry", "repeat", "list", "all")))
        entry = entries[place]
        if way == "value" and isinstance(entry, dict):
            entry[draw(st.sampled_from((*entry, "segmentation", "info")))] = draw(ODD_VALUES)
        elif way == "remove" and isinstance(entry, dict) and entry:
            del entry[draw(st.sampled_from(sorted(entry)))]
        elif way == "entry":
            entries[place] = draw(ODD_VALUES)
        elif way == "repeat":
            entries.append(dict(entry) if isinstance(entry, dict) else entry)
        elif way == "list":
            content[key] = draw(ODD_VALUES)
        elif way == "all":
            field, value = draw(st.sampled_from(("bbox", "image_id", "width", "id", "name", "area"))), draw(ODD_VALUES)
            for one in entries:
                if isinstance(one, dict):
                    one[field] = value
    text = json.dumps(content, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    return draw(damaged(text)) if draw(st.integers(0, 3)) == 0 else text


@st.composite
def damaged(draw: Any, content: bytes) -> bytes:
    """Draw bytes with some of them flipped, overwritten, removed or repeated."""
    spoiled = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(spoiled) - 1)))
        length = draw(st.integers(1, 40))
        way = draw(st.sampled_from(("flip", "zeros", "noise", "cut", "remove", "repeat")))
        if way == "flip" and spoiled:
            spoiled[place] ^= 1 << draw(st.integers(0, 7))
        elif way == "zeros":
            spoiled[place : place + length] = bytes(length)
        elif way == "noise":
            spoiled[place : place + length] = draw(st.binary(min_size=length, max_size=length))
        elif way == "cut":
            del spoiled[place:]
        elif way == "remove":
            del spoiled[place : place + length]
        else:
            spoiled[place:place] = spoiled[place : place + length]
    return bytes(spoiled)


def refusal(path: Path, read: Callable[[], Any]) -> str | None:
    """Return the message of the `InputError` that a reader raises, or None; check that the message is one line."""
    try:
        read()
    except InputError as error:
        message = str(error)
        assert str(path) in message, message
        assert "\n" not in message.strip(), message
        assert len(message) < LONGEST_MESSAGE, message
        return message
    return None


def check_annotations(folder: Path, content: bytes) -> str:
    """Check that training accepts or refuses the file like the data check; return ``accepted`` or ``refused``."""
    path = folder / "train.json"
    path.write_bytes(content)
    refused = refusal(path, lambda: require_sound(CocoAnnotations.read(path, images=folder)))
    loaded: list[Any] = []
    if refusal(path, lambda: loaded.append(load([AnnotationFile("train", path)], folder, [folder]))) is not None:
        assert refused is not None, "the check refuses what training reads"
        return "refused"
    (loaded,) = loaded
    stopped = [finding.kind for finding in loaded.findings if finding.effect == STOPS]
    of_files = {"image_missing", "file_name_url"}  # training checks these when it opens the images
    unlabelled = not loaded.splits[0].labelled
    assert (refused is not None) == bool(set(stopped) - of_files) or unlabelled, (refused, stopped)
    result = check(loaded, grid=PatchGrid(ImageSize(56, 56), "stretch"), num_queries=3, advance=None)
    text = report_text(result)
    assert not any(ord(character) < 32 and character != "\n" for character in text), text
    json.dumps(payload(result))
    return "accepted" if refused is None else "refused"


def require_sound(annotations: CocoAnnotations) -> None:
    """Check the invariants that training and evaluation rely on."""
    boxes, starts = annotations.training.boxes_xyxy, annotations.training.starts
    assert np.isfinite(boxes).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert starts[0] == 0
    assert starts[-1] == len(boxes) == len(annotations.training.labels)
    assert np.isfinite(annotations.entries.boxes_xywh).all()
    assert np.isfinite(annotations.entries.areas).all()
    assert (annotations.entries.areas >= 0).all()
    assert len(set(annotations.entries.ids.tolist())) == len(annotations.entries)
    assert ((annotations.entries.labels >= 0) & (annotations.entries.labels < len(annotations.categories))).all()


def picture_bytes() -> dict[str, bytes]:
    """Return a small picture in each format that the installed Pillow writes."""
    rng = np.random.default_rng(0)
    whole = Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    exif[315] = "somebody"
    found = {}
    for name in FORMATS:
        file = BytesIO()
        try:
            whole.save(file, name, **({"exif": exif} if name in ("JPEG", "PNG", "WEBP") else {}))
        except (KeyError, OSError):  # Pillow was built without this format
            continue
        found[name] = file.getvalue()
    return found


def check_picture(folder: Path, content: bytes) -> str:
    """Check that a picture reads as uint8 RGB or is refused; return ``accepted`` or ``refused``."""
    path = folder / "picture.bin"
    path.write_bytes(content)
    is_picture(path)
    refusal(path, lambda: image_size(path))
    found: list[torch.Tensor] = []
    refused = refusal(path, lambda: found.append(read_image(path)))
    if refused is not None:
        return "refused"
    (pixels,) = found
    assert pixels.dtype == torch.uint8
    assert pixels.ndim == 3
    assert len(pixels) == 3
    assert refusal(path, lambda: check_image(path, expected_size=tuple(pixels.shape[1:]))) is None
    return "accepted"


def result_files() -> dict[str, tuple[bytes, Callable[[Path], Any]]]:
    """Return a valid file and the reader, for each kind of result file."""
    rows = [{"image_id": n, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5} for n in range(4)]
    numbers = dict.fromkeys(
        ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"), 0.5
    )
    classes = [{"category_id": 1, "name": "a", "AP": 0.5, "AP50": 0.5, "boxes": 3}]
    metrics = numbers | {"per_class": classes, "num_images": 4, "num_detections": 4}
    source = {"file": "a.json", "images": 4, "annotations": 9, "sha256": "0" * 64}
    subset = {
        "format": 1,
        "name": "x",
        "split": "train",
        "size": "1k",
        "seed": 42,
        "source": source,
        "image_ids": [1, 3],
    }
    return {
        "results.json": (json.dumps(rows).encode(), read_results),
        "metrics.json": (json.dumps(metrics).encode(), CocoMetrics.read),
        "indices.json": (json.dumps(subset).encode(), Subset.read),
    }


def checkpoint_bytes(folder: Path) -> tuple[bytes, CheckpointHeader, torch.Tensor]:
    """Return a small checkpoint, its header and its weights."""
    header = CheckpointHeader(
        config=Config(),
        categories=Categories((1, 5), ("a", "b")),
        mean=[0.5] * 3,
        std=[0.5] * 3,
        architecture={},
        base_fingerprint=None,
    )
    weights = torch.randn(300)
    write_checkpoint({HEADER: header.to_dict(), "state_dict": {"detector.a": weights}}, folder / "whole.pth")
    return (folder / "whole.pth").read_bytes(), header, weights


def check_checkpoint(folder: Path, content: bytes, header: CheckpointHeader, weights: torch.Tensor) -> str:
    """Check that a checkpoint loads unchanged or is refused; return ``accepted`` or ``refused``."""
    path = folder / "damaged.pth"
    path.write_bytes(content)
    found: list[Any] = []
    if refusal(path, lambda: found.append(read_checkpoint(path))) is not None:
        return "refused"
    ((read, contents),) = found
    assert read == header
    assert torch.equal(contents["state_dict"]["detector.a"], weights)
    return "accepted"


def properties(folder: Path) -> dict[str, Callable[[Any], str]]:
    """Return the properties by name; each takes a `hypothesis.strategies.DataObject` to draw from."""
    pictures, files = picture_bytes(), result_files()
    whole, header, weights = checkpoint_bytes(folder)

    def of_results(data: Any) -> str:
        name = data.draw(st.sampled_from(sorted(files)))
        content, reader = files[name]
        (folder / name).write_bytes(data.draw(damaged(content)))
        return "accepted" if refusal(folder / name, lambda: reader(folder / name)) is None else "refused"

    return {
        "annotations": lambda data: check_annotations(folder, data.draw(spoiled_sets())),
        "pictures": lambda data: check_picture(
            folder, data.draw(damaged(pictures[data.draw(st.sampled_from(sorted(pictures)))]))
        ),
        "results": of_results,
        "checkpoints": lambda data: check_checkpoint(folder, data.draw(damaged(whole)), header, weights),
    }


def run(prove: Callable[[Any], str], *, examples: int, number: int) -> Counter[str]:
    """Check a property on random examples; return how many files were accepted and refused."""
    outcomes: Counter[str] = Counter()

    @seed(number)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def tried(data: Any) -> None:
        outcomes[prove(data)] += 1

    tried()
    return outcomes


def main() -> None:
    """Check all properties in turn until the time is over."""
    parser = command_parser("benchmarks.fuzz", __doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="duration (default: 10)")
    parser.add_argument("--only", nargs="+", choices=PROPERTIES, help="properties to check")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="first seed (default: random)")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    ends = time.monotonic() + 60 * options.minutes
    totals: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        proofs = {name: prove for name, prove in properties(Path(folder)).items() if name in (options.only or [name])}
        number = options.seed
        while time.monotonic() < ends:
            for name, prove in proofs.items():
                totals.setdefault(name, Counter()).update(run(prove, examples=200, number=number))
            number += 1
    for name, outcomes in totals.items():
        print(f"{name}: " + ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common()))


if __name__ == "__main__":
    sys.exit(run_command(main))
