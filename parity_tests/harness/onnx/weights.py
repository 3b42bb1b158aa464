"""Weights of a network that an exported file holds with fewer digits, however little its outputs show of it."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from convert.tensors import dtype_named
from parity_tests.harness.sides.base import Array

SHORTER = ("float16", "bfloat16")


def rounded_weights(model: Any, weights: Mapping[str, Array]) -> Iterator[tuple[str, str]]:
    """Yield name and precision of the weights that are what is left of the network's own in that precision.

    Constants that are something else, such as a convolution's weight into which a norm is folded, are judged by the
    values that the file computes with them.

    Args:
        model: onnx.ModelProto.
        weights: of the network, float32, by name; exporters give the constants of a file these names, maybe below
            another module.
    """
    from onnx import TensorProto, numpy_helper

    numbers = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
    constants = {constant.name: constant for constant in model.graph.initializer if constant.data_type in numbers}
    prefix = _prefix(constants, weights)
    for name, wanted in weights.items():
        constant = constants.get(prefix + name)
        if constant is None or tuple(constant.dims) != wanted.shape:
            continue
        try:
            found = numpy_helper.to_array(constant).astype(np.float32)
        except Exception:  # ONNX has errors of its own, without a common base
            continue  # a constant that cannot be read: the runtime says that it cannot run the file
        if not np.array_equal(found, wanted, equal_nan=True):
            yield from ((name, kind) for kind in SHORTER if np.array_equal(found, _rounded(wanted, kind), True))


def _prefix(constants: Collection[str], weights: Collection[str]) -> str:
    """What most of the weights' names begin with in the file."""
    ends = ((name, name.split(".")) for name in constants)
    found = (
        name.removesuffix(own)
        for name, parts in ends
        for own in (".".join(parts[first:]) for first in range(len(parts)))
        if own in weights
    )
    return max(Counter(found).items(), key=lambda each: each[1], default=("", 0))[0]


def _rounded(values: Array, kind: str) -> Array:
    with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinite
        return values.astype(dtype_named(kind)).astype(np.float32)
