"""Constant borders in MindSpore, whose gradient is right only once in a graph."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

RIGHT_ONCE = (
    "not run again: from the second run on MindSpore takes the gradient of a constant border (ops.pad, nn.ZeroPad2d) "
    "in a graph from memory it has given away; nn.Pad and ops.cat are right"
)


class RunsOnceError(RuntimeError):
    """A graph that must not run a second time."""


@contextmanager
def constant_borders() -> Iterator[list[Any]]:
    """Note the primitive that pads by a constant each time it runs, operation by operation; graphs are not reached.

    Measured with MindSpore 2.8 on the CPU: compiled, the gradient of `ops.pad` in mode "constant", and of what is made
    of it (`nn.ZeroPad2d`, `nn.ConstantPad2d`), is right in the first run; later ones return other numbers, or never.
    """
    from mindspore.ops.operations.nn_ops import PadV3

    used: list[Any] = []
    call = PadV3.__call__

    def noted(primitive: Any, *given: Any) -> Any:
        """Run it."""
        if primitive.mode == "constant":
            used.append(primitive)
        return call(primitive, *given)

    with mock.patch.object(PadV3, "__call__", noted):
        yield used
