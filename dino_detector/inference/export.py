"""Writes a detector for ONNX Runtime or OpenVINO, see `inference.exported_detector` for the format."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dino_detector.errors import InputError
from dino_detector.inference.exported_detector import (
    METADATA,
    OUTPUTS,
    RUNNERS,
    Description,
    ExportedDetector,
    require_packages,
)
from dino_detector.inference.postprocess import BestPairs, best_pairs
from dino_detector.models.detector_network import DetectorNetwork
from dino_detector.storage.files import explained_writing

OPSET = 20
"""ONNX opset; the first whose GridSample covers the decoder's sampling"""
WRITERS = RUNNERS | {".onnx": ("onnx", "onnxscript", "onnxruntime")}
"""packages that write and check a file, by its suffix"""
MOST_DIFFERENT = 1e-3
"""largest accepted difference between the scores of the exported detector and of the detector"""


class ExportedGraph(nn.Module):
    """The graph of an exported file: uint8 images in, the best detections out."""

    def __init__(self, network: DetectorNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the `BestPairs` of uint8 images ``[B, 3, h, w]`` as a plain tuple."""
        output = self.network(self.network.normalise(images))
        return tuple(best_pairs(output.logits[-1], output.boxes_cxcywh[-1]))


def export(network: DetectorNetwork, path: Path, *, description: Description, precision: str = "32") -> None:
    """Write a network in the format that the suffix names, and compare its scores with the network's on noise.

    Args:
        network: on the CPU, adapters merged.
        path: ends with ``.onnx`` or ``.xml``; OpenVINO writes a ``.bin`` beside an ``.xml``.
        description: categories, input size and batch size.
        precision: ``32``, or ``int8`` for ``.onnx``: linear layers store int8 weights and quantize their inputs at run
            time. The check precedes the quantization.

    Raises:
        InputError: for another suffix, batch size or precision, where a package is missing, or where the scores differ.
    """
    require_exportable(path, batch_size=description.batch_size, precision=precision)
    shape = (description.batch_size, 3, *description.image_size)
    noise = torch.Generator().manual_seed(0)  # no two scores of noise are equal
    images = torch.randint(256, shape, dtype=torch.uint8, generator=noise)
    with explained_writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with explained_writing(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        written = Path(folder, path.name)
        graph = ExportedGraph(network)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = BestPairs(*graph(images))
            write = _write_onnx if path.suffix == ".onnx" else _write_openvino
            write(graph, images, written, description.to_json())
        found = BestPairs(*ExportedDetector.load(written).run(images.numpy()))
        difference = float(np.abs(found.scores - expected.scores.numpy()).max())
        if not difference <= MOST_DIFFERENT:
            raise InputError(
                f"{path}: scores of the exported detector differ by {difference:.2g}, so nothing is written; "
                f"try {' or '.join(suffix for suffix in WRITERS if suffix != path.suffix)}"
            )
        if precision == "int8":
            _quantize(written)
        for file in Path(folder).iterdir():
            file.replace(path.parent / file.name)


def require_exportable(path: Path, *, batch_size: int, precision: str) -> None:
    """Raise `InputError` where `export` can't write such a file."""
    require_packages(path, WRITERS)
    if precision not in ("32", "int8"):
        raise InputError(f"precision {precision!r} is neither 32 nor int8")
    if precision == "int8" and path.suffix != ".onnx":
        raise InputError(f"{path}: int8 needs a file that ends in .onnx; rename it, or leave the precision at 32")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")


def _write_onnx(network: nn.Module, images: Tensor, path: Path, metadata: str) -> None:
    for library in ("torch.onnx", "onnxscript"):
        logging.getLogger(library).setLevel(logging.ERROR)
    names = {"input_names": ["images"], "output_names": OUTPUTS}
    program = torch.onnx.export(network, (images,), **names, opset_version=OPSET, dynamo=True, verbose=False)
    program.model.metadata_props[METADATA] = metadata
    program.save(path)


def _quantize(path: Path) -> None:
    """Store the linear layers of a file in int8, channel by channel; inputs are quantized at run time."""
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


def _write_openvino(network: nn.Module, images: Tensor, path: Path, metadata: str) -> None:
    import openvino

    model = openvino.convert_model(network, example_input=images, input=list(images.shape))
    for output, name in zip(model.outputs, OUTPUTS, strict=True):
        output.tensor.set_names({name})
    model.inputs[0].tensor.set_names({"images"})
    model.set_rt_info(metadata, METADATA)
    openvino.save_model(model, path, compress_to_fp16=False)
