"""MINDIR export of the MindSpore networks, loaded again and verified against float64 PyTorch before it is kept."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from convert.disk import atomic_path
from parity_tests.harness.judge import Verdict, judge_all
from parity_tests.harness.measurement import Measurement, Mode
from parity_tests.harness.onnx import mindir
from parity_tests.harness.onnx.write import require_equal
from parity_tests.harness.outputs import file_head, measure_outputs, run_references
from parity_tests.harness.sides.base import Array
from parity_tests.harness.sides.mindspore import MindSporeSide


def export_mindir(
    cell: Any, module: Any, inputs: Array, names: Sequence[str], path: Path, metadata: Mapping[str, str] | None = None
) -> tuple[Verdict, ...]:
    """Export a MindSpore cell and keep the file only if it computes what the PyTorch network computes.

    Args:
        cell: MindSpore network, in eval mode.
        module: its PyTorch twin with the same weights, the source of the float64 truth.
        inputs: float32 [N, C, H, W]; a MINDIR graph has a fixed shape, this one.
        names: names of the outputs to keep, in order; the first is written as "output".
        path: target .mindir file.
        metadata: facts to write into the file.

    Returns:
        The verdicts on every output of the file, and on the cell's own before it was exported.

    Raises:
        NotReproducedError: an output of the loaded file is outside its budget; nothing is written then.
        InputError: the network does not fit into one MINDIR file.
    """
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "network.mindir"
        mindir.write(cell, inputs, names, written, metadata)
        own = dict(zip(names, MindSporeSide(cell).call("", [inputs]), strict=False))
        found = mindir.run(written, {"input": inputs})
        verdicts = tuple(judge_all(_measure(module, inputs, found, own)))
        require_equal(path, "the MINDIR file", verdicts)
        with atomic_path(path) as temporary:
            shutil.copyfile(written, temporary)
    return verdicts


def _measure(module: Any, inputs: Array, found: Mapping[str, Array], own: Mapping[str, Array]) -> Iterator[Measurement]:
    references = run_references(module, inputs)
    yield from measure_outputs(file_head(Mode.MINDIR, "MINDIR", inputs), references, found)
    outputs = {f"{name} in PyNative": value for name, value in own.items()}
    yield from measure_outputs(file_head(Mode.ACCUMULATED, "PyNative", inputs), references, outputs)
