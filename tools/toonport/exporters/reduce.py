"""Smaller number formats for exported ONNX files: float16, and int8 with its error measured."""

import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.harness.compare import rms
from parity_tests.harness.onnx.session import open_session
from parity_tests.harness.sides.base import Array
from parity_tests.harness.sides.torch import TorchSide

# Everything else stays in float32: the statistics of the norms count up to millions of pixels, float16 ends at 65504.
FLOAT16_OPERATORS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Relu", "LeakyRelu", "PRelu", "Pad", "Concat", "Tanh"}
FLOAT16_SMALLEST, FLOAT16_LARGEST = 2.0**-24, 65504.0
INT8_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class QuantizationError:
    """How far the first output of an int8 file is from float64."""

    pictures: int  # number of pictures it was measured on
    psnr: float  # peak signal-to-noise ratio in dB, the peak being the range of the true output
    largest: float  # largest difference; in grey levels of 255 for pictures, else in the output's own unit
    mean: float  # mean difference, in the same unit
    unit: str  # "grey levels" or ""


def to_float16(path: Path) -> None:
    """Rewrite an ONNX file in place with float16 weights, convolutions and products.

    Norms and sums stay in float32, and so do the file's inputs and outputs.
    """
    import onnx
    from onnxruntime.transformers import float16

    source = onnx.load(str(path))
    kept = {node.op_type for node in source.graph.node} - FLOAT16_OPERATORS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about numbers below float16's smallest
        model = float16.convert_float_to_float16(
            source,
            min_positive_val=FLOAT16_SMALLEST,
            max_finite_val=FLOAT16_LARGEST,
            keep_io_types=True,
            op_block_list=sorted(kept),
        )
    _mend_casts(model.graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _mend_casts(graph: Any) -> None:
    """Mend what the converter leaves: casts repeated under one name, at the end, and to float16 and back again.

    A number that is cast to float16 between two operators that stay in float32 would be rounded, or overflow,
    for nothing.
    """
    from onnx import TensorProto
    from onnxruntime.transformers.onnx_model import OnnxModel

    makers = {node.output[0]: node for node in graph.node}

    def casts(name: str, to: int) -> bool:
        """Whether a value is the result of a cast to a type."""
        node = makers.get(name)
        return node is not None and node.op_type == "Cast" and node.attribute[0].i == to

    for node in makers.values():
        for position, name in enumerate(node.input):
            if casts(name, TensorProto.FLOAT) and casts(makers[name].input[0], TensorProto.FLOAT16):
                node.input[position] = makers[makers[name].input[0]].input[0]
    nodes = list(makers.values())
    while dead := _unused_casts(nodes, graph.output):
        nodes = [node for node in nodes if node.output[0] not in dead]
    del graph.node[:]
    graph.node.extend(nodes)
    OnnxModel.graph_topological_sort(graph)


def _unused_casts(nodes: Sequence[Any], outputs: Sequence[Any]) -> set[str]:
    """Return the outputs of casts that nothing reads."""
    used = {name for node in nodes for name in node.input} | {output.name for output in outputs}
    return {node.output[0] for node in nodes if node.op_type == "Cast"} - used


def to_int8(path: Path, pictures: Sequence[Array]) -> None:
    """Quantize the convolutions and products of an ONNX file in place: int8 weights, uint8 activations.

    Args:
        path: float32 ONNX file.
        pictures: inputs [N, C, H, W] that show the ranges of the activations.
    """
    import onnx
    from onnxruntime import quantization

    class Pictures(quantization.CalibrationDataReader):
        """The pictures, one after the other."""

        feeds: Iterator[dict[str, Array]] = ({"input": picture} for picture in pictures)

        def get_next(self) -> dict[str, Array] | None:
            """Return the next input, or None after the last."""
            return next(self.feeds, None)

    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # its advice about pre-processing, which has been done
    try:
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder) / "prepared.onnx"
            quantization.quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(prepared),
                str(path),
                Pictures(),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(INT8_OPERATORS),
                per_channel=True,
                reduce_range=True,  # processors without VNNI add pairs of products in 16 bits
            )
    finally:
        logging.getLogger().setLevel(level)
    onnx.checker.check_model(str(path))


def measure_int8(network: Any, path: Path, pictures: Sequence[Array]) -> QuantizationError:
    """Measure the first output of an int8 file in ONNX Runtime (CPU) against the network in float64."""
    truth, session = TorchSide(copy.deepcopy(network), "float64"), open_session(path)
    first = session.get_outputs()[0].name
    wanted = [truth.call("", [picture])[0] for picture in pictures]
    found = [session.run([first], {"input": picture})[0] for picture in pictures]
    return _error(np.concatenate(wanted), np.concatenate(found))


def _error(wanted: Array, found: Array) -> QuantizationError:
    is_picture = wanted.ndim == 4 and wanted.shape[1] == 3
    scale = 127.5 if is_picture else 1.0
    difference = np.abs(wanted - found) * scale
    peak = 255.0 if is_picture else float(np.ptp(wanted))
    noise = rms(difference)
    psnr = float("inf") if noise == 0 else 20 * float(np.log10(peak / noise)) if peak else float("-inf")
    unit = "grey levels" if is_picture else ""
    return QuantizationError(len(wanted), psnr, float(difference.max()), float(difference.mean()), unit)
