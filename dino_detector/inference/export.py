"""Detectors as files that ONNX Runtime and OpenVINO run, without PyTorch's network and without the base model.

The graph takes ``images``, uint8 RGB ``[B, 3, h, w]`` of the network's input size, and gives ``boxes_cxcywh``
``[B, K, 4]`` float in 0..1 of it, ``scores`` ``[B, K]`` float and ``labels`` ``[B, K]`` int64, by falling score.
Normalisation and the choice of the best are in it, adapters are merged. Categories, input size and the way that images
are resized to it are in the file's metadata, as JSON under the name `METADATA`.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from dino_detector.config import ImageSize
from dino_detector.data.transforms import evaluation_transforms
from dino_detector.errors import InputError
from dino_detector.inference.image_detector import ImageDetector
from dino_detector.inference.postprocess import BestPairs, best_pairs, in_original_pixels
from dino_detector.storage.files import explained_writing
from dino_detector.structures.categories import Categories
from dino_detector.structures.detections import ImageDetections

if TYPE_CHECKING:
    from dino_detector.inference.detector import Detector

METADATA = "dinov2_od"
OUTPUTS = BestPairs._fields
PACKAGES = {".onnx": ("onnx", "onnxscript", "onnxruntime"), ".xml": ("openvino",)}
"""by the suffix of a file, what writes and runs it"""
MOST_DIFFERENT = 1e-3
"""by which the scores of an exported detector may differ from those of the detector"""


class Description(NamedTuple):
    """What has to be known of an exported detector."""

    categories: Categories
    image_size: ImageSize
    resize_mode: str
    batch_size: int
    white_level: float | None

    def to_json(self) -> str:
        """As the metadata of a file."""
        categories = {"ids": self.categories.ids, "names": self.categories.names}
        return json.dumps(self._asdict() | {"categories": categories})

    @classmethod
    def from_json(cls, text: str) -> Description:
        """The inverse of `to_json`."""
        values = json.loads(text)
        categories = Categories(*(tuple(values["categories"][name]) for name in ("ids", "names")))
        return cls(categories, ImageSize(*values["image_size"]), *(values[name] for name in cls._fields[2:]))


class Exportable(nn.Module):
    """The graph that is written: pixels in, the best detections out."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The `BestPairs` of uint8 images ``[B, 3, h, w]``, as a plain tuple."""
        output = self.detector(self.detector.normalise(images))
        return tuple(best_pairs(output.logits[-1], output.boxes_cxcywh[-1]))


def export(detector: Detector, path: Path, *, batch_size: int = 1, precision: str = "32") -> None:
    """Write a detector as the kind of file that the suffix names, and check that it detects the same.

    Args:
        detector: on any device; it is merged.
        path: ends with ``.onnx``, or with ``.xml``, beside which OpenVINO has a ``.bin``.
        batch_size: images that run at once, always as many.
        precision: ``32``, or with ``.onnx`` ``int8``: weights of the linear layers are stored so, and what they take is
            brought to 8 bits when it comes; the comparison is before that.

    Raises:
        InputError: for another suffix, batch size or precision, where a package is missing, or where the file detects
            something else.
    """
    require_exportable(path, batch_size=batch_size, precision=precision)
    config, device = detector.config.data, detector.device
    description = Description(
        detector.categories, config.image_size, config.resize_mode, batch_size, config.white_level
    )
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(
        256, (batch_size, 3, *config.image_size), dtype=torch.uint8, generator=generator
    )  # noise, in which no two scores are equal
    with explained_writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with explained_writing(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        written = Path(folder, path.name)
        try:
            network = Exportable(detector.merge().cpu())
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = BestPairs(*network(images))
                write = _write_onnx if path.suffix == ".onnx" else _write_openvino
                write(network, images, written, description.to_json())
        finally:
            detector.to(device)
        found = BestPairs(*ExportedDetector.load(written).run(images.numpy()))
        difference = float(np.abs(found.scores - expected.scores.numpy()).max())
        if not difference <= MOST_DIFFERENT:
            raise InputError(
                f"{path}: scores of the exported detector differ by {difference:.2g}, so nothing is written; "
                f"try {' or '.join(suffix for suffix in PACKAGES if suffix != path.suffix)}"
            )
        if precision == "int8":
            _quantize(written)
        for file in Path(folder).iterdir():
            file.replace(path.parent / file.name)


def require_exportable(path: Path, *, batch_size: int, precision: str) -> None:
    """Raise `InputError` where `export` could not write such a file."""
    _require_packages(path)
    if precision not in ("32", "int8"):
        raise InputError(f"precision {precision!r} is neither 32 nor int8")
    if precision == "int8" and path.suffix != ".onnx":
        raise InputError(f"{path}: int8 is there for .onnx alone; give such a name, or leave the precision at 32")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")


class Runtime(Protocol):
    """Runs the graph of a file."""

    def __call__(self, images: np.ndarray) -> Sequence[np.ndarray]:
        """The outputs in the order of `OUTPUTS`."""


class ExportedDetector(ImageDetector):
    """A detector from a file that `Detector.export` wrote, run by ONNX Runtime or OpenVINO.

    Example:
        >>> from dino_detector import ExportedDetector
        >>> detector = ExportedDetector.load("detector.onnx")  # doctest: +SKIP
        >>> detections = detector.predict("street.jpg")  # doctest: +SKIP

    Args:
        runtime: runs the graph.
        description: what the file says of it.
    """

    def __init__(self, runtime: Runtime, description: Description) -> None:
        self.run = runtime
        self.description = description

    @property
    def categories(self) -> Categories:
        """As `ImageDetector.categories`."""
        return self.description.categories

    @property
    def white_level(self) -> float | None:
        """Return the white level of the training images, see `ImageDetector.white_level`."""
        return self.description.white_level

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int | None = None) -> ExportedDetector:
        """Read a file, to be run on the CPU.

        Args:
            path: with the suffix ``.onnx`` or ``.xml``.
            threads: of the processor; None leaves it to the library.

        Raises:
            InputError: where a package is missing, or the file is none of ours.
        """
        path = Path(path)
        _require_packages(path)
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        try:
            runtime, text = (_read_onnx if path.suffix == ".onnx" else _read_openvino)(path, threads)
        except RuntimeError as error:
            raise InputError(f"{path}: can't be read ({' '.join(str(error).split())[:200]})") from error
        if text is None:
            raise InputError(f"{path}: has not been written by `dino-detector export`; give a file that has")
        return cls(runtime, Description.from_json(text))

    def detect(self, images: Sequence[Tensor]) -> list[ImageDetections]:
        """As `ImageDetector.detect`; batches that are smaller than the file's are filled up with their last image."""
        wanted = self.description
        resize = evaluation_transforms(image_size=wanted.image_size, resize_mode=wanted.resize_mode)
        found = []
        for start in range(0, len(images), wanted.batch_size):
            batch = images[start : start + wanted.batch_size]
            filled = [*batch, *[batch[-1]] * (wanted.batch_size - len(batch))]
            columns = self.run(torch.stack([resize(image) for image in filled]).numpy())
            found += in_original_pixels(
                BestPairs(*(torch.from_numpy(column[: len(batch)]) for column in columns)),
                original_sizes=torch.tensor([image.shape[1:] for image in batch]),
                image_size=wanted.image_size,
                resize_mode=wanted.resize_mode,
            )
        return found


def _require_packages(path: Path) -> None:
    """Raise `InputError` where the suffix of a path is none that is known, or what it needs is not installed."""
    if path.suffix not in PACKAGES:
        raise InputError(f"{path}: is neither .onnx, for ONNX Runtime, nor .xml, for OpenVINO; give it such a name")
    for package in PACKAGES[path.suffix]:
        if find_spec(package) is None:
            raise InputError(f"{path}: needs the package {package}; pip install {' '.join(PACKAGES[path.suffix])}")


def _write_onnx(network: nn.Module, images: Tensor, path: Path, metadata: str) -> None:
    for library in ("torch.onnx", "onnxscript"):
        logging.getLogger(library).setLevel(logging.ERROR)
    program = torch.onnx.export(
        network,
        (images,),
        input_names=["images"],
        output_names=OUTPUTS,
        opset_version=20,  # the first that samples between pixels
        dynamo=True,
        verbose=False,
    )
    program.model.metadata_props[METADATA] = metadata
    program.save(path)


def _quantize(path: Path) -> None:
    """Bring the linear layers of a file to int8, channel by channel, with scales of what comes in made on the way."""
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    whole = path.with_suffix(".whole")
    path.replace(whole)
    logging.getLogger().addFilter(_no_hints := lambda record: "pre-processing" not in record.getMessage())
    try:
        quantize_dynamic(whole, path, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True)
    finally:
        logging.getLogger().removeFilter(_no_hints)
    model = onnx.load(path)
    del model.metadata_props[:]
    model.metadata_props.extend(onnx.load(whole).metadata_props)
    onnx.save(model, path)
    whole.unlink()


def _read_onnx(path: Path, threads: int | None) -> tuple[Runtime, str | None]:
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf, NotImplemented

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidGraph, InvalidProtobuf, NotImplemented) as error:
        raise RuntimeError(str(error)) from error
    text = session.get_modelmeta().custom_metadata_map.get(METADATA)
    return lambda images: session.run(OUTPUTS, {"images": images}), text


def _write_openvino(network: nn.Module, images: Tensor, path: Path, metadata: str) -> None:
    import openvino

    model = openvino.convert_model(network, example_input=images, input=list(images.shape))
    for output, name in zip(model.outputs, OUTPUTS, strict=True):
        output.tensor.set_names({name})
    model.inputs[0].tensor.set_names({"images"})
    model.set_rt_info(metadata, METADATA)
    openvino.save_model(model, path, compress_to_fp16=False)


def _read_openvino(path: Path, threads: int | None) -> tuple[Runtime, str | None]:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    text = model.get_rt_info(METADATA).astype(str) if model.has_rt_info(METADATA) else None
    # Left to itself it computes boxes in bf16 too, where there are instructions for it.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(model, "CPU", settings | ({"INFERENCE_NUM_THREADS": threads} if threads else {}))

    def run(images: np.ndarray) -> list[np.ndarray]:
        results = compiled(images)
        return [results[name] for name in OUTPUTS]

    return run, text
