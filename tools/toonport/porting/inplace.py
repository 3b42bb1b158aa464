"""What a traced run changes in place: which value stands for a tensor from then on, under all the names that it has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from toonport.porting.values import Call, Dim, FloatDim, Own, Region, UnportableError, Value, mapped, plain

# layers that may write into what they are given, as functions, and the arguments that these take after it
FUNCTIONS: Mapping[type, tuple[str, tuple[str, ...]]] = {
    nn.ReLU: ("relu", ()),
    nn.ReLU6: ("relu6", ()),
    nn.SiLU: ("silu", ()),
    nn.Mish: ("mish", ()),
    nn.SELU: ("selu", ()),
    nn.Hardswish: ("hardswish", ()),
    nn.Hardsigmoid: ("hardsigmoid", ()),
    nn.LeakyReLU: ("leaky_relu", ("negative_slope",)),
    nn.ELU: ("elu", ("alpha",)),
    nn.CELU: ("celu", ("alpha",)),
    nn.Hardtanh: ("hardtanh", ("min_val", "max_val")),
}
# operators that do the same whenever they are run
REPEATED = frozenset({"add", "sub", "mul", "div", "clamp", "clamp_min", "clamp_max", "setitem"}) | {
    name for name, _ in FUNCTIONS.values()
}


@dataclass(frozen=True)
class Part:
    """What a view of a tensor by `x[...]` is a part of."""

    whole: Any  # the tensor
    index: tuple[Any, ...]
    written: tuple[Any, ...]  # the index with values in place of numbers that are computed


@dataclass
class Frame:
    """A module that runs, with the values that it knows by the identity of the tensor."""

    region: Region
    still: bool = False  # whether it runs where no gradient flows
    known: dict[int, tuple[Value, Any, int]] = field(default_factory=dict)  # id -> value, tensor, its version then
    views: dict[int, Part] = field(default_factory=dict)  # by the identity of the tensor
    later: list[Call] = field(default_factory=list)  # what follows the call that is running

    def know(self, tensor: Any, value: Value) -> None:
        """Take a value for a tensor as it is now."""
        self.known[id(tensor)] = (value, tensor, tensor._version)

    def version(self, tensor: Any) -> int | None:
        """The version of a tensor that the frame knows."""
        found = self.known.get(id(tensor))
        return found[2] if found else None


def as_function(module: nn.Module) -> tuple[str, tuple[Any, ...]] | None:
    """Return the operator that a layer is, and its arguments after the first; None where it is none that repeats."""
    kind: Any = next((kind for kind in type(module).__mro__ if kind in FUNCTIONS), None)
    if kind is None or type(module).forward is not kind.forward:
        return None
    op, names = FUNCTIONS[kind]
    return op, tuple(getattr(module, name) for name in names)


def seen_outside(
    frames: Sequence[Frame], own: Mapping[int, Own], tensor: Any, before: int | None, made: Callable[[], Call]
) -> None:
    """Have the modules around the one that runs know that a tensor of theirs was changed in place.

    They do the same with their own names for what the operator is given. Where they have none, the tensor stays one
    that is not to be used again.

    Args:
        frames: of the modules that run, the innermost last.
        own: the network's state by the identity of the tensor.
        tensor: that was changed.
        before: its version before that.
        made: returns the operator's call, with tensors in place of values.
    """
    for frame in frames[:-1]:
        if frame.version(tensor) != before or before is None:
            continue
        call = made()
        try:
            call.args, call.kwargs = mapped(lambda leaf: _there(frame, own, leaf, tensor), (call.args, call.kwargs))  # noqa: B023
        except LookupError:
            continue
        call.still = call.still and not frame.still
        value = call.result = Value(call, (), tensor)
        frame.later.append(call)
        frame.know(tensor, value)


def _there(frame: Frame, own: Mapping[int, Own], leaf: Any, changed: Any) -> Any:
    """What stands in another frame for what an operator is given.

    Raises LookupError: nothing does.
    """
    if isinstance(leaf, Dim | FloatDim):
        raise LookupError
    if not isinstance(leaf, torch.Tensor):
        return leaf
    if id(leaf) in own:
        return own[id(leaf)]
    value, _, version = frame.known[id(leaf)]
    if leaf is not changed and leaf._version != version:
        raise LookupError
    return value


def written_back(frame: Frame, part: Any, before: int, line: str) -> None:
    """After a part `x[...]` of a tensor was changed in place: the tensor is another value, with that part in it.

    Args:
        frame: of the module that runs.
        part: that was changed, and is known as what it is now.
        before: its version before that.
        line: of the source.
    """
    while id(part) in frame.views:
        view = frame.views[id(part)]
        if frame.version(view.whole) != before:
            return
        call = Call("setitem", (frame.known[id(view.whole)][0], view.written, frame.known[id(part)][0]), {}, line)
        value = call.result = Value(call, (), view.whole)
        frame.region.calls.append(call)
        frame.know(view.whole, value)
        part = view.whole


def is_written_back(frame: Frame, args: Sequence[Any]) -> bool:
    """Whether elements are written that are there already, as Python does after `x[...] *= 2`."""
    whole, index, part = args
    view = frame.views.get(id(part))
    fresh = all(frame.version(each) == each._version for each in (whole, part)) if view else False
    return fresh and view is not None and view.whole is whole and view.index == as_index(index)


def as_index(index: Any) -> tuple[Any, ...]:
    """Return an index as a tuple, with plain numbers."""
    return tuple(mapped(plain, as_tuple(index)))


def as_tuple(index: Any) -> tuple[Any, ...]:
    """Return an index as a tuple."""
    return index if isinstance(index, tuple) else (index,)


def refuse_change(own: Own, name: str, kept: bool, at: str) -> None:
    """Refuse to change a state of the network in place in a way that cells cannot.

    Args:
        own: that is to be changed.
        name: of the operator.
        kept: whether it is a part of the state that is saved.
        at: line of the source.

    Raises UnportableError: it is trained, is not saved, or would keep the gradients of what is written into it.
    """
    if own.example.requires_grad:
        raise UnportableError(f"{name}: changes {own.name}, which is trained, in its forward{at}")
    if not kept:
        raise UnportableError(f"{name}: changes {own.name}, which is no part of the saved state, in its forward{at}")
