"""Writes and runs MINDIR files, MindSpore's own format; a file has a fixed shape."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convert.errors import InputError
from parity_tests.harness.onnx.outputs import FIRST, OUTPUTS
from parity_tests.harness.sides.base import Array
from parity_tests.harness.sides.tree import tuple_of


def write(
    cell: Any, inputs: Array, names: Sequence[str], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a MindSpore network as MINDIR.

    Args:
        cell: the network, in eval mode.
        inputs: float32 [N, C, H, W]; the file takes this shape.
        names: of the outputs to keep, in order; the first is called "output".
        path: target .mindir file.
        metadata: facts to write into the file.

    Raises InputError: the network does not fit into one file.
    """
    import mindspore

    from ms_models.kernels import Kernels, computing_by

    facts = {**(metadata or {}), OUTPUTS: json.dumps([FIRST, *names[1:]])}

    def note(model: Any) -> None:
        """Write the facts into the file, and who made it."""
        model.producer_name = "toonport"
        for key, value in facts.items():
            model.user_info.add(key=key, value=value)

    example = mindspore.Tensor(inputs)
    wanted = cell if len(tuple_of(cell(example))) == len(names) else _first_outputs(cell, len(names))
    with computing_by(Kernels.OF_FILES):
        mindspore.export(wanted, example, file_name=str(path), file_format="MINDIR", custom_func=note)
    if not path.is_file():
        raise InputError(
            f"{path}: MindSpore splits networks above 1 GiB into several files; they cannot be kept as one"
        )


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


def read_metadata(path: Path) -> dict[str, str]:
    """Return the facts in a MINDIR file; none where it was written without."""
    return {entry.key: entry.value for entry in _proto(path).user_info}


def _proto(path: Path) -> Any:
    from mindspore.train.mind_ir_pb2 import ModelProto

    model = ModelProto()
    model.ParseFromString(path.read_bytes())
    return model


def describe(path: Path) -> tuple[str, tuple[int | None, ...], list[str]]:
    """Return name and shape of a file's input, and the names of the outputs that it says it was given."""
    model = _proto(path)
    (given,) = model.graph.input
    shape = tuple(int(side) for side in given.tensor[0].dims)
    return given.name, shape, json.loads(read_metadata(path).get(OUTPUTS, "[]"))


def run(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Load a MINDIR file and run it on its one input; returns its outputs by name, or by number, in order."""
    import mindspore
    from mindspore import nn

    (pictures,) = inputs.values()
    graph = nn.GraphCell(mindspore.load(str(path)))
    found = [tensor.asnumpy() for tensor in tuple_of(graph(mindspore.Tensor(pictures)))]
    names = json.loads(read_metadata(path).get(OUTPUTS, "[]")) or [f"output {place}" for place in range(len(found))]
    return dict(zip(names, found, strict=True))
