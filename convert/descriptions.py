"""What the registry's networks consist of, as data, so that their plans are made without PyTorch.

`descriptions.jsonl.xz` holds a line for every structure: a class and its constructor arguments but the widths. Sides of
tensors grow linearly with the widths, and are kept as such. `parity_tests.tests.record_descriptions` writes the file
from the reference, and a test compares both. What is not in it is described by building the reference.
"""

import json
import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from convert.tensors import TensorSpec

FILE = Path(__file__).with_name("descriptions.jsonl.xz")
# Constructor arguments that are numbers of channels.
WIDTHS = ("ngf", "ndf", "conv_dim", "z_dim", "channel", "width", "embedding_size",
          "input_nc", "output_nc", "in_channels", "out_channels", "in_channel")  # fmt: skip


@dataclass(frozen=True)
class Description:
    """A PyTorch network as a plan sees it."""

    types: Mapping[str, tuple[str, ...]]  # dotted path of every layer -> names of its class and its base classes
    layer_types: Mapping[str, str]  # the same paths -> what to call its type
    tensors: Mapping[str, tuple[TensorSpec, bool]]  # name -> shape and type, and whether it is a parameter


def structure(class_name: str, kwargs: Mapping[str, Any]) -> str:
    """The name in the file of all networks that differ in their widths alone."""
    said = {name: "width" if name in WIDTHS else value for name, value in kwargs.items()}
    return f"{class_name} {json.dumps(said, sort_keys=True, default=repr)}"


def known_description(class_name: str, kwargs: Mapping[str, Any]) -> Description | None:
    """Return the description of a network of the registry, None where the file has none of such structure or width."""
    types, lines = _content()
    line = lines.get(structure(class_name, kwargs))
    if line is None:
        return None
    held = json.loads(line)
    steps = [1]
    for width, step in zip((kwargs[name] for name in WIDTHS if name in kwargs), held["steps"], strict=True):
        count, rest = divmod(width, step)
        if type(count) is not int or count < 1 or rest:
            return None
        steps.append(count)
    tensors = {
        name: (TensorSpec(tuple(_side(side, steps) for side in shape), dtype), trained)
        for name, (dtype, trained, shape) in held["tensors"].items()
    }
    layers = {path: types[number] for path, number in held["layers"].items()}
    return Description(layers, {path: names[0] for path, names in layers.items()}, tensors)


def _side(side: int | list[int], steps: list[int]) -> int:
    return side if isinstance(side, int) else sum(a * b for a, b in zip(side, steps, strict=True))


@cache
def _content() -> tuple[list[tuple[str, ...]], dict[str, str]]:
    """The class names that layers have, and structure -> line."""
    if not FILE.is_file():
        return [], {}
    first, *lines = lzma.decompress(FILE.read_bytes()).decode().splitlines()
    return [tuple(names) for names in json.loads(first)], dict(line.split("\t", 1) for line in lines)
