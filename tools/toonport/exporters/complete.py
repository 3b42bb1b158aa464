"""Files that draw for anyone: what comes before and after the network lies inside, too."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import InputError
from convert.family import Cartoonize, resolve
from parity_tests.harness.inputs import LUMINANCE
from parity_tests.harness.onnx.session import run_named
from parity_tests.harness.onnx.write import NotReproducedError
from parity_tests.harness.sides.base import Array
from parity_tests.harness.sides.tree import tuple_of
from parity_tests.tolerances import BACKEND_EQUAL_SHARE, BACKEND_LEVELS

NETWORK_RANGE = "-1 1"  # of a network's own pictures, as a file's metadata says it


@dataclass(frozen=True)
class Pictures:
    """What pictures a complete file takes and gives, RGB."""

    range: str  # as its metadata says it
    white: float  # its largest number
    whole: bool  # whether they are uint8 [N, H, W, 3]; else float32 [N, 3, H, W]

    def given(self, pictures: Array) -> Array:
        """Return pictures [N, 3, H, W] in [-1, 1] as a file takes them."""
        values = as_input(pictures, self)
        return values.transpose(0, 2, 3, 1).astype(np.uint8) if self.whole else values

    def drawn(self, pictures: Array) -> Array:
        """Return what a file draws as pictures [N, 3, H, W] in [-1, 1]."""
        values = pictures.transpose(0, 3, 1, 2) if self.whole else pictures
        return np.asarray(values, np.float32) * np.float32(2 / self.white) - 1


PICTURES = {"unit": Pictures("0 1", 1.0, False), "bytes": Pictures("0 255", 255.0, True)}


def as_input(pictures: Array, kind: Pictures) -> Array:
    """Return pictures [N, 3, H, W] in [-1, 1] as numbers in a file's range; whole ones for bytes."""
    values = (pictures + 1) * (kind.white / 2)
    return np.asarray(np.rint(values) if kind.whole else values, np.float32)


def completed(network: Any, how: Cartoonize, channels: int, kind: Pictures) -> Any:
    """Return a module from pictures to pictures, RGB [N, 3, H, W] in a file's range, and the network's other outputs.

    Args:
        network: PyTorch module in eval mode that draws.
        how: how its family is fed, in the order of colours of these weights.
        channels: of the network's input.
        kind: what pictures the module takes.
    """
    import torch
    from torch import nn

    if channels not in (1, 3):
        raise InputError(f"--complete: the network takes {channels} channels; a picture has 3, or 1 where it is grey")
    order = [0, 1, 2] if how.channels == "RGB" else [2, 1, 0]
    after = resolve("torch_ref", how.after) if how.after else None

    class Complete(nn.Module):
        """Everything between two pictures."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, picture: Any) -> Any:
            """Draw."""
            x = picture[:, order] * (2 / kind.white) - 1  # [N, 3, H, W] in the network's order
            grey = sum(x[:, place, None] * LUMINANCE[colour] for place, colour in enumerate(order))
            drawn, *others = tuple_of(self.network(x if channels == 3 else grey))
            drawn = drawn.expand(-1, 3, -1, -1) if drawn.shape[1] == 1 else drawn
            drawn = torch.clamp(after(x, drawn) if after else drawn, -1, 1)[:, order]
            return ((drawn + 1) * (kind.white / 2), *others)

    return Complete().eval()


def to_bytes(path: Path, pictures: Array) -> None:
    """Rewrite a verified complete file in place, so that its pictures are uint8 [N, H, W, 3] on both ends.

    Grey levels are cut to whole numbers as `toonport cartoonize` cuts them.

    Args:
        path: ONNX file with pictures [N, 3, H, W] from 0 to 255.
        pictures: such pictures, to verify it with.

    Raises NotReproducedError: the new file draws other pictures.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from toonport.photo.compose import REACHED

    wanted = run_named(path, {"input": pictures})["output"]
    model = onnx.load(str(path))
    graph, inner = model.graph, {"input": "picture.levels", "output": "drawn.levels"}
    for node in graph.node:
        node.input[:] = [inner.get(name, name) for name in node.input]
        node.output[:] = [inner.get(name, name) for name in node.output]
    for value in (graph.input[0], graph.output[0]):
        batch, colours, height, width = (dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.UINT8, [batch, height, width, colours]))
    graph.initializer.append(numpy_helper.from_array(np.array(REACHED, np.float32), "reached"))
    nodes = [
        helper.make_node("Transpose", ["input"], ["picture.planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["picture.planes"], ["picture.levels"], to=TensorProto.FLOAT),
        *graph.node,
        helper.make_node("Add", ["drawn.levels", "reached"], ["drawn.reached"]),
        helper.make_node("Cast", ["drawn.reached"], ["drawn.planes"], to=TensorProto.UINT8),  # cuts
        helper.make_node("Transpose", ["drawn.planes"], ["output"], perm=[0, 2, 3, 1]),
    ]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    found = run_named(path, {"input": pictures.transpose(0, 2, 3, 1).astype(np.uint8)})["output"]
    difference = np.abs(found.astype(int) - (wanted + REACHED).astype(np.uint8).transpose(0, 2, 3, 1))
    if difference.max() > BACKEND_LEVELS or (difference == 0).mean() < BACKEND_EQUAL_SHARE:
        raise NotReproducedError(f"{path.name}: as bytes it draws other pictures; nothing was written")
