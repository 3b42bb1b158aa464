"""ONNX export of the PyTorch networks, verified in ONNX Runtime against float64 before it is kept."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import InputError
from convert.files import atomic_path
from parity_tests.harness.backends import Array
from parity_tests.harness.compare import Measurement, measure, ulp_neighbour
from parity_tests.harness.judge import Verdict, judge
from toonport.onnx_precise import rewrite_sums

__all__ = ["Export", "export_onnx", "verify_onnx", "write_onnx"]

OPSET = 20


@dataclass(frozen=True)
class Export:
    """An exported file and how its outputs were judged."""

    path: Path
    nodes: int
    verdicts: tuple[Verdict, ...]

    @property
    def equal(self) -> bool:
        """Whether every output is within its budget."""
        return all(verdict.equal for verdict in self.verdicts)


def export_onnx(network: Any, inputs: Array, names: Sequence[str], path: Path) -> Export:
    """Export a PyTorch network in eval mode and keep the file only if ONNX Runtime reproduces it.

    Args:
        network: PyTorch module.
        inputs: example input, float32 [N, C, H, W]; its size is fixed in the file, the batch is free.
        names: names of the outputs; the first is written as "output".
        path: target .onnx file.

    Raises:
        InputError: an output in ONNX Runtime is outside its budget; nothing is written then.
    """
    network = network.eval()
    with atomic_path(path) as temporary:
        nodes = write_onnx(network, inputs, names, temporary)
        verdicts = tuple(verify_onnx(network, temporary, inputs))
        export = Export(path, nodes, verdicts)
        if not export.equal:
            worst = max(verdicts, key=lambda verdict: verdict.multiple)
            raise InputError(
                f"{path}: ONNX Runtime does not reproduce the network: {worst.measurement.tensor} is "
                f"{worst.multiple:.1f} times its budget; nothing was written"
            )
    return export


def write_onnx(network: Any, inputs: Array, names: Sequence[str], path: Path) -> int:
    """Write a PyTorch network as ONNX, checked for form but not for numbers; returns the number of nodes."""
    import onnx
    import torch

    with _quiet():
        program = torch.onnx.export(
            network,
            (torch.from_numpy(inputs),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["input"],
            output_names=["output", *names[1:]],
            dynamic_shapes=({0: torch.export.Dim.AUTO},),
            verbose=False,
        )
        assert program is not None  # only the retired exporter returns nothing
        program.save(str(path), external_data=False)
    model = onnx.load(str(path))
    rewrite_sums(model)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return len(model.graph.node)


def verify_onnx(network: Any, path: Path, inputs: Array) -> Iterator[Verdict]:
    """Judge every output of an ONNX file in ONNX Runtime (CPU) against the network in float64."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: inputs})
    with torch.no_grad():
        truths = _outputs(copy.deepcopy(network).double()(torch.from_numpy(inputs).double()))
        runs = [_outputs(network(torch.from_numpy(ulp_neighbour(inputs, seed)))) for seed in range(2)]
    for order, output in enumerate(session.get_outputs()):
        head = Measurement("onnx", f"{inputs.shape[2]}x{inputs.shape[3]} px", "", "ONNX Runtime", output.name, order)
        yield judge(measure(head, truths[order], [run[order] for run in runs], found[order]), pixels=_pixels(inputs))


def _pixels(inputs: Array) -> int:
    return int(np.prod(inputs.shape[2:]))


def _outputs(result: Any) -> list[Array]:
    tensors = result if isinstance(result, tuple) else (result,)
    return [tensor.numpy() for tensor in tensors]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's progress text and its remarks about packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    os.environ.setdefault("TORCH_LOGS", "-all")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
