"""MINDIR export of the MindSpore networks, loaded again and verified against float64 PyTorch before it is kept."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convert.disk import atomic_path
from convert.errors import InputError
from parity_tests.harness.judge import Verdict, judge_all
from parity_tests.harness.measurement import Mode
from parity_tests.harness.onnx.write import require_equal
from parity_tests.harness.outputs import file_head, measure_outputs, run_references
from parity_tests.harness.sides.base import Array
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.sides.tree import tuple_of


def export_mindir(cell: Any, module: Any, inputs: Array, names: Sequence[str], path: Path) -> tuple[Verdict, ...]:
    """Export a MindSpore cell and keep the file only if it computes what the PyTorch network computes.

    Args:
        cell: MindSpore network, in eval mode.
        module: its PyTorch twin with the same weights, the source of the float64 truth.
        inputs: float32 [N, C, H, W]; a MINDIR graph has a fixed shape, this one.
        names: names of the outputs to keep, in order.
        path: target .mindir file.

    Returns:
        The verdicts on every output.

    Raises:
        NotReproducedError: an output of the loaded file is outside its budget; nothing is written then.
        InputError: the network does not fit into one MINDIR file.
    """
    import mindspore

    own = MindSporeSide(cell).call("", [inputs])
    wanted = cell if len(own) == len(names) else _first_outputs(cell, len(names))
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "network.mindir"
        mindspore.export(wanted, mindspore.Tensor(inputs), file_name=str(written), file_format="MINDIR")
        if not written.is_file():
            raise InputError(
                f"{path}: MindSpore splits networks above 1 GiB into several files; they cannot be kept as one"
            )
        verdicts = tuple(_verify(module, inputs, names, run_mindir(written, inputs), own))
        require_equal(path, "the MINDIR file", verdicts)
        with atomic_path(path) as temporary:
            shutil.copyfile(written, temporary)
    return verdicts


def run_mindir(path: Path, inputs: Array) -> list[Array]:
    """Load a MINDIR file and run it; float32 [N, C, H, W] in, the outputs in order."""
    import mindspore
    from mindspore import nn

    graph = nn.GraphCell(mindspore.load(str(path)))
    return [tensor.asnumpy() for tensor in tuple_of(graph(mindspore.Tensor(inputs)))]


def _verify(
    module: Any, inputs: Array, names: Sequence[str], found: Sequence[Array], own: Sequence[Array]
) -> list[Verdict]:
    """Judge every output of the file, and the cell's own before it was exported, like that of a whole network."""
    references = run_references(module, inputs)
    verdicts = []
    for program, called, arrays in (("MINDIR", "{}", found), ("PyNative", "{} in PyNative", own)):
        outputs = {called.format(name): array for name, array in zip(names, arrays, strict=False)}
        verdicts += judge_all(measure_outputs(file_head(Mode.ACCUMULATED, program, inputs), references, outputs))
    return verdicts


def _first_outputs(cell: Any, count: int) -> Any:
    """Return a cell with the same weights and the first `count` outputs of a cell that has more."""
    from mindspore import nn

    class FirstOutputs(nn.Cell):
        """The first outputs of a network."""

        def __init__(self) -> None:
            super().__init__(auto_prefix=False)
            self.network = cell

        def construct(self, x: Any) -> Any:
            """Run it."""
            found = self.network(x)
            return found[0] if count == 1 else found[:count]

    return FirstOutputs().set_train(False)
