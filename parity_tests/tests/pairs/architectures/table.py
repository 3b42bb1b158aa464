"""The ten architectures: where both sides are, what they are called with, and one bug for each port."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.harness.inputs import feature, image

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Architecture:
    """A published network, written on both sides."""

    group: str  # file that holds it, without the framework's name
    name: str  # of the class on both sides
    inputs: tuple[Any, ...]
    spoil: Callable[[Any], None]  # plants a bug in the port
    blamed: str  # the layer that must be blamed for it

    def door(self, framework: str) -> str:
        """The network of a framework as the command line names it."""
        return f"{HERE}/{self.group}_{framework}.py:{self.name}"

    def build(self, framework: str) -> Any:
        """A fresh network of a framework, in eval mode."""
        found = getattr(import_module(f"{__package__}.{self.group}_{framework}"), self.name)()
        return found.eval() if framework == "torch" else found.set_train(False)


def layer(network: Any, path: str) -> Any:
    """Return a layer of a cell by its path."""
    return dict(network.cells_and_names())[path]


def setting(path: str, name: str, value: Any) -> Callable[[Any], None]:
    """Return what gives an attribute of a layer another value."""
    return lambda network: setattr(layer(network, path), name, value)


def instead(path: str, made: Callable[[Any], Callable[..., Any]]) -> Callable[[Any], None]:
    """Return what gives a layer another construct: `made` gets the layer and returns the function."""

    def spoil(network: Any) -> None:
        """Replace it in this one layer."""
        cell = layer(network, path)
        cell.construct = made(cell)

    return spoil


def _counting(cell: Any) -> Callable[..., Any]:
    """pix2pixHD's pooling with the padding counted in."""
    from mindspore import nn

    pool = nn.AvgPool2d(3, 2, pad_mode="pad", padding=1, count_include_pad=True)
    return lambda x: pool(x)


def _without_shortcut(cell: Any) -> Callable[..., Any]:
    """DDPM's shortcut left out."""
    right = cell.construct
    return lambda x, time: right(x, time) - cell.nin_shortcut(x)


def _swapped(cell: Any) -> Callable[..., Any]:
    """Word before picture: the sequence of a captioner in another order."""

    def construct(features: Any, captions: Any) -> Any:
        """The features come last."""
        from mindspore import ops

        first = cell.norm(cell.project(features)).unsqueeze(1)
        found, _ = cell.lstm(ops.cat((cell.embed(captions), first), 1))
        return cell.linear(cell.dropout(found))

    return construct


def _inputs(*shapes: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(feature(f"architecture/{index}", shape) for index, shape in enumerate(shapes))


PICTURE = image("architecture", 2, 16, 20)
WORDS = np.random.default_rng(2).integers(0, 20, (3, 4))
ARCHITECTURES = (
    Architecture(
        "pictures", "AnimeGenerator", (PICTURE,),
        setting("block_c.2.layers.3", "eps", 1e-3), "block_c.2.layers.3",
    ),
    Architecture(
        "pictures", "CartoonGenerator", (PICTURE,),
        instead("blocks.3", lambda cell: lambda x: cell.norm2(cell.conv2(cell.norm1(cell.conv1(x)))) + x), "blocks.3",
    ),
    Architecture(
        "pictures", "LocalEnhancer", (image("architecture", 2, 16, 24),),
        instead("downsample", _counting), "downsample",
    ),
    Architecture(
        "conditioned", "MunitDecoder", _inputs((2, 8, 5, 6), (2, 4)),
        setting("dec.1.model.0.norm", "eps", 1e-3), "dec.1.model.0.norm",
    ),
    Architecture(
        "conditioned", "StarGenerator", (PICTURE, np.eye(2, 5, dtype=np.float32)),
        setting("main.4", "momentum", 0.9), "main.4",
    ),
    Architecture(
        "pictures", "StyleNet", (PICTURE,),
        instead("res3", lambda cell: lambda x: cell.in2(cell.conv2(cell.in1(cell.conv1(x)))) + x), "res3",
    ),
    Architecture(
        "pictures", "RRDBNet", (PICTURE,),
        instead("body.1", lambda cell: lambda x: cell.rdb3(cell.rdb2(cell.rdb1(x))) + x), "body.1",
    ),
    Architecture(
        "sequences", "VisionTransformer", (image("architecture", 2, 16, 16),),
        setting("blocks.1.mlp.act", "approximate", "tanh"), "blocks.1.mlp.act",
    ),
    Architecture(
        "conditioned", "DiffusionUnet", (PICTURE[:, :, :8, :8], np.array([3, 700])),
        instead("mid.block_2", _without_shortcut), "mid.block_2",
    ),
    Architecture("sequences", "Captioner", (*_inputs((3, 10)), WORDS), instead("", _swapped), ""),
)  # fmt: skip
