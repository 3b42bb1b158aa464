"""ONNX export of the PyTorch networks, verified in ONNX Runtime against float64 before it is kept."""

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.disk import atomic_path
from convert.errors import InputError, first_line
from parity_tests.harness.inputs import image
from parity_tests.harness.judge import Verdict, judge_all
from parity_tests.harness.measurement import Mode
from parity_tests.harness.onnx.layers import LAYERS, noted_layers, packed
from parity_tests.harness.onnx.outputs import FIRST, OUTPUTS
from parity_tests.harness.onnx.precise import rewrite_sums
from parity_tests.harness.onnx.session import run_onnx
from parity_tests.harness.outputs import file_head, measure_outputs, run_references
from parity_tests.harness.report.words import tensor_at
from parity_tests.harness.sides.base import Array
from parity_tests.harness.sides.tree import tuple_of

OPSET = 20
FILE_LIMIT = 2**31 - 1  # bytes of one protobuf file
SIZE_STEPS = (1, 2, 4, 8, 16, 32, 64, 128)

Reduce = Callable[[Path], None]


class NotReproducedError(InputError):
    """An exported file does not compute what the network computes."""


@dataclass(frozen=True)
class Export:
    """An exported file and how its outputs were judged."""

    path: Path
    nodes: int
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Sizes:
    """Sides of pictures that a network takes: from `smallest` on, in steps of `step`, height and width apart."""

    smallest: int
    step: int


def find_sizes(network: Any, channels: int, smallest: int) -> Sizes | None:
    """Find by trying which sides a PyTorch network takes; None when it takes one size only.

    Args:
        network: module in eval mode, taking [N, channels, H, W].
        channels: of its input.
        smallest: smallest side that the network runs.
    """
    import torch

    for step in SIZE_STEPS:
        try:
            with torch.no_grad():
                network(torch.zeros(1, channels, smallest + step, smallest + 2 * step))
        except (ValueError, RuntimeError):
            continue
        return Sizes(smallest, step)
    return None


def second_input(inputs: Array, sizes: Sizes | None) -> Array:
    """Return a batch of two to verify a file with: of another size and shape where its size is free."""
    height, width = inputs.shape[2:]
    if sizes:
        height, width = sizes.smallest + sizes.step, sizes.smallest + 2 * sizes.step
    return image("toonport/second", 2, height, width, inputs.shape[1])


def export_onnx(
    network: Any,
    inputs: Array,
    names: Sequence[str],
    path: Path,
    more: Sequence[Array] = (),
    sizes: Sizes | None = None,
    metadata: Mapping[str, str] | None = None,
    reduce: Reduce | None = None,
    mode: Mode = Mode.ONNX,
) -> Export:
    """Export a PyTorch network in eval mode and keep the file only if ONNX Runtime reproduces it.

    Args:
        network: PyTorch module.
        inputs: pictures, float32 [N, C, H, W], that give the size of the file and verify it.
        names: names of the outputs to keep, in order; the first is written as "output".
        path: target .onnx file.
        more: further inputs to verify with, e.g. of other sizes.
        sizes: sides that the file shall take, or None to fix that of `inputs`; the batch is free.
        metadata: facts to write into the file.
        reduce: rewrites the file in place to a smaller number format before it is verified.
        mode: row of the tolerances by which the file is judged.

    Raises:
        NotReproducedError: an output in ONNX Runtime is outside its budget; nothing is written then.
        InputError: the network cannot be written as one ONNX file.
    """
    import onnx

    network = network.eval()
    with atomic_path(path) as temporary:
        write_onnx(network, inputs, names, temporary, sizes, metadata)
        if reduce:
            reduce(temporary)
        verdicts = tuple(
            verdict for pictures in (inputs, *more) for verdict in verify_onnx(network, temporary, pictures, mode)
        )
        require_equal(path, "ONNX Runtime", verdicts)
        return Export(path, len(onnx.load(str(temporary)).graph.node), verdicts)


def require_equal(path: Path, runtime: str, verdicts: Sequence[Verdict]) -> None:
    """Raise NotReproducedError that names the worst output, if any is outside its budget."""
    if all(verdict.equal for verdict in verdicts):
        return
    worst = max(verdicts, key=lambda verdict: verdict.multiple)
    how = worst.measurement.problem or f"{worst.multiple:.1f} times its budget"
    where = tensor_at(worst.measurement)
    raise NotReproducedError(f"{path}: {runtime} does not reproduce the network: {where} is {how}; nothing was written")


def write_onnx(
    network: Any,
    inputs: Array,
    names: Sequence[str],
    path: Path,
    sizes: Sizes | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a PyTorch network as simplified ONNX, checked for form but not for numbers; see `export_onnx`."""
    import onnx
    import onnxslim

    weights = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    if weights >= FILE_LIMIT:
        raise InputError(f"{path}: the weights take {weights / 2**30:.1f} GiB; one ONNX file holds less than 2 GiB")
    with _quiet():
        program = _program(_first_outputs(network, len(names)), inputs, names, sizes)
        program.save(str(path), external_data=False)
        exported = onnx.load(str(path))
        layers = noted_layers(exported, "network")
        model = onnxslim.slim(exported)
    rewrite_sums(model)
    own = {LAYERS: packed(layers, model), OUTPUTS: json.dumps(_names(names))}
    _tidy(model, {**(metadata or {}), **own}, sizes is not None)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _program(network: Any, inputs: Array, names: Sequence[str], sizes: Sizes | None) -> Any:
    """Run the exporter; free sides are tried as multiples of the step first, then as the exporter finds them."""
    import torch

    batch = torch.export.Dim("batch")
    shapes: list[dict[int, Any]] = [{0: batch}]
    if sizes:
        height, width = (torch.export.Dim(name, min=max(1, sizes.smallest // sizes.step)) for name in ("h", "w"))
        automatic = torch.export.Dim.AUTO
        shapes = [{0: batch, 2: sizes.step * height, 3: sizes.step * width}, {0: automatic, 2: automatic, 3: automatic}]
    example = torch.from_numpy(np.concatenate([inputs[:1], inputs[:1]]))  # a batch of 1 would be taken for fixed
    for shape in shapes:
        try:
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["input"],
                output_names=_names(names),
                dynamic_shapes=(shape,),
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            if shape is shapes[-1]:
                reason = first_line(error)
                raise InputError(f"PyTorch's exporter cannot write this network as ONNX: {reason}") from error
            continue
        if program is not None and _is_free(program, shape):
            return program
    raise InputError("the exporter cannot leave this network's picture size free; use --size instead of --dynamic")


def _names(names: Sequence[str]) -> list[str]:
    """Names of a file's outputs."""
    return [FIRST, *names[1:]]


def _is_free(program: Any, axes: Iterable[int]) -> bool:
    """Whether the exporter left these axes of the input free."""
    return all(not isinstance(program.model.graph.inputs[0].shape[axis], int) for axis in axes)


def _first_outputs(network: Any, count: int) -> Any:
    """Return a module with the same weights and the first `count` outputs; one output is no tuple."""
    from torch import nn

    class FirstOutputs(nn.Module):
        """The first outputs of a network."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Any) -> Any:
            """Run it."""
            found = tuple_of(self.network(x))[:count]
            return found if len(found) > 1 else found[0]

    return FirstOutputs().eval()


def _tidy(model: Any, metadata: Mapping[str, str], free_size: bool) -> None:
    """Name the free dimensions, drop the exporter's notes (they hold paths of this machine), add the metadata."""
    graph = model.graph
    del graph.value_info[:]
    del model.metadata_props[:], graph.metadata_props[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    dims = graph.input[0].type.tensor_type.shape.dim
    names = {
        dims[axis].dim_param: name for axis, name in ((0, "batch"), (2, "height"), (3, "width"))[: 1 + 2 * free_size]
    }
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                known = names.get(dim.dim_param)
                dim.Clear()
                if known:
                    dim.dim_param = known
    model.producer_name, model.producer_version = "toonport", ""
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)


def verify_onnx(network: Any, path: Path, inputs: Array, mode: Mode = Mode.ONNX) -> list[Verdict]:
    """Judge every output of an ONNX file in ONNX Runtime (CPU) against the network in float64."""
    dtype = "float16" if mode is Mode.ONNX_FLOAT16 else "float32"
    head, references = file_head(mode, "ONNX Runtime", inputs, dtype), run_references(network, inputs, dtype)
    return judge_all(measure_outputs(head, references, run_onnx(path, inputs)))


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
