"""Candidate bugs in what a network or a loss itself computes: another number, operator or order in one operation.

Only operations that are written in the code under test are changed, not those of the modules that it calls.
"""

import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from parity_tests.harness.compare import rms
from parity_tests.harness.places import line_of
from parity_tests.harness.rewrites import Call, Cause, Change, Changed, Rewritten, in_call, is_tensor, rewriting
from parity_tests.harness.sides.base import Array

# candidates of one layer or loss, the last operations first: fewer where each of them computes many numbers
MOST, FEWEST, WORK = 100, 12, 4_000_000_000
OTHERS: Mapping[str, tuple[str, ...]] = {  # what may stand in the place of an operation
    "add": ("sub", "mul"),
    "sub": ("add",),
    "rsub": ("add",),
    "mul": ("div", "add"),
    "div": ("mul",),
    "truediv": ("mul",),
    "mean": ("sum",),
    "sum": ("mean",),
    "amax": ("amin",),
    "amin": ("amax",),
    "max": ("min",),
    "min": ("max",),
    "sqrt": ("square",),
    "abs": ("square",),
    "square": ("abs",),
    "exp": ("log",),
    "log": ("exp",),
    "sigmoid": ("tanh",),
    "tanh": ("sigmoid",),
}
OVER_AXES = {"mean", "sum", "amax", "amin", "max", "min"}  # whose numbers are axes
# whose results do not grow with the numbers that they are given
ELEMENTWISE = {*OTHERS, "pow", "clamp", "clip", "clamp_min", "clamp_max", "leaky_relu", "elu", "lerp", "where"}
NORMS = {"batch_norm", "instance_norm", "layer_norm", "group_norm", "rms_norm", "normalize"}
SMOOTH = (ELEMENTWISE | NORMS | {"softplus"}) - OVER_AXES  # whose results move little with their numbers
CONVERGED = 1e-7  # the share of a number by which the last round may move it
ROUNDS, NEAR, BETTER = 6, 1e-4, 0.9  # of fitting a number; the share by which it is moved; what a round must leave
ORDERED = {"sub", "rsub", "div", "truediv", "pow", "matmul", "bmm"}  # whose operands may be exchanged
Keys = tuple[Any, ...]  # lead to a number among arguments


@dataclass(frozen=True)
class Written:
    """One operation of the code under test."""

    name: str
    place: int  # among all calls of this name
    numbers: Mapping[Keys, float]  # that are written there, or come from settings
    operands: int  # its first arguments that are tensors or numbers, at most 2
    rows: Sequence[int]  # places of those that hold numbers along one axis alone, such as one for each channel
    line: str  # of the code
    bit: int  # marks what is computed from it, see `Trace`


class Trace:
    """The operations of a run; `marked`: also from which of them each tensor was computed, which keeps all of them."""

    def __init__(self, marked: bool = False) -> None:
        self._marked = marked
        self.written, self.names = list[Written](), list[str]()  # names: of all operations, of modules, too
        self._work = 0  # numbers that were computed
        self._depth, self._often = 0, Counter[str]()
        self._counted: set[int] | None = None  # identities of the modules that count, None: all
        self._marks: dict[int, int] = {}  # by identity of a tensor
        self._kept: list[Any] = []  # so that no identity is used twice

    @contextmanager
    def watching(self, depth: int, counted: Collection[Any] | None = None) -> Iterator[None]:
        """Note the operations that run inside of so many modules, as long as it is entered; `counted`: of these."""
        from torch.nn.modules import module as modules

        before = modules.register_module_forward_pre_hook(self._enter)
        after = modules.register_module_forward_hook(self._leave, always_call=True)
        self._depth, self._counted = -depth, None if counted is None else {id(module) for module in counted}
        try:
            with rewriting(self._note):
                yield
        finally:
            before.remove()
            after.remove()

    @property
    def affordable(self) -> int:
        """How many such runs may be made."""
        return max(FEWEST, min(MOST, WORK // max(1, self._work)))

    def marks(self, value: Any) -> int:
        """The bits of the operations that a tensor was computed from."""
        return self._marks.get(id(value), 0)

    def _enter(self, module: Any, *_: Any) -> None:
        self._depth += self._counted is None or id(module) in self._counted

    def _leave(self, module: Any, *_: Any) -> None:
        self._depth -= self._counted is None or id(module) in self._counted

    def _note(self, name: str, call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        self.names.append(name)
        result, bit, place = call(*args, **kw), 0, self._often[name]
        self._work += sum(tensor.numel() for tensor in _tensors(result))
        self._often[name] += 1
        if not self._depth and name != "get":  # attributes of tensors are read by "get"
            bit = 1 << len(self.written)
            operands = sum(is_tensor(value) or _is_number(value) for value in args[:2])
            line = line_of(sys._getframe())
            rows = [at for at, value in enumerate(args[:2]) if is_tensor(value) and _axis(value) is not None]
            self.written.append(Written(name, place, dict(_numbers((args, dict(kw)))), operands, rows, line, bit))
        if self._marked:
            self._mark(bit, name, args, kw, result)
        return result

    def _mark(self, bits: int, name: str, args: tuple[Any, ...], kw: Mapping[str, Any], result: Any) -> None:
        for tensor in _tensors((args, kw)):
            bits |= self.marks(tensor)
        moved = args[:1] if name == "setitem" or (args and result is args[0]) else ()
        for tensor in _tensors((result, moved)):
            self._kept.append(tensor)
            self._marks[id(tensor)] = self.marks(tensor) | bits


def arithmetic(written: Sequence[Written], most: int = MOST) -> Iterator[tuple[Cause, Callable[[], Rewritten]]]:
    """Yield candidates of these operations, those of the last one first; a rewrite is to be made anew for every run."""
    every = ((one, *variant) for one in reversed(written) for variant in _variants(one))
    for one, words, changed in islice(every, most):
        yield _cause(one, words), partial(in_call, one.name, one.place, changed)


def fitted(
    written: Sequence[Written], run: Callable[[Rewritten], Array], wanted: Array, most: int = MOST
) -> Iterator[tuple[Cause, Callable[[], Rewritten]]]:
    """Yield the numbers that bring a layer's output nearest to another one, each in the place of one of its own.

    Args:
        written: the layer's operations.
        run: what the layer makes with a change.
        wanted: what the port makes.
        most: runs for all of them, about.
    """
    smooth = ((one, keys) for one in reversed(written) if one.name in SMOOTH for keys in one.numbers)
    for one, keys in islice(smooth, most // 4):
        number = one.numbers[keys]
        other = None
        with suppress(Exception):  # what is changed may raise anything
            other = _fitted(run, one, keys, wanted)
        if other is not None and other != number:
            yield _cause(one, f"{number:g} → {other:g}"), partial(_changing, one, keys, other)


def _fitted(run: Callable[[Rewritten], Array], one: Written, keys: Keys, wanted: Array) -> float | None:
    """The number at which what a layer makes is nearest to what is wanted, to six digits; by Newton's method."""
    number, left = float(one.numbers[keys]), float("inf")
    for _ in range(ROUNDS):
        step = number * NEAR or NEAR
        made, near = (run(_changing(one, keys, value)) for value in (number, number + step))
        slope, missing = (near - made) / step, wanted - made
        power, before, left = float(np.vdot(slope, slope)), left, rms(missing)
        if not np.isfinite(power) or not power:
            return None
        move = float(np.vdot(missing, slope)) / power
        if abs(move) <= CONVERGED * abs(number) or left > BETTER * before:
            break
        number += move
    return float(f"{number:.6g}")


def _changing(one: Written, keys: Keys, number: float) -> Rewritten:
    return in_call(one.name, one.place, _with_number(keys, number))


def _cause(one: Written, words: str) -> Cause:
    return Cause(Change.ARITHMETIC, words, f"{one.name}, {one.line}" if one.line else one.name)


def _variants(one: Written) -> Iterator[tuple[str, Changed]]:
    for keys, number in one.numbers.items():
        for other in _near(number):
            if abs(other) > abs(number) + 1 and one.name not in ELEMENTWISE:
                continue  # sizes and factors of sizes, of which multiples may not fit into memory
            yield f"{number:g} → {other:g}", _with_number(keys, other)
    for name in OTHERS.get(one.name, ()):
        yield f"{one.name} → {name}", _by(name)
    if one.operands == 2:
        if one.name in ORDERED:
            yield "operands exchanged", _exchanged
        for place, which in enumerate(("first", "second")):
            yield f"{which} operand alone", _alone(place)
            if place in one.rows:
                yield f"{which} operand reversed", _reversed(place)
    elif one.name not in {"mean", "sum", "getitem"}:
        yield f"{one.name} left out", _alone(0)


def _near(number: float) -> Iterator[float]:
    """Numbers that may stand in the place of one, each once."""
    whole = isinstance(number, int)
    others = (-number, number + 1, number - 1, 2 * number, number // 2 if whole else number / 2, 0)
    more = () if whole else (1.0, 10 * number, number / 10)
    yield from dict.fromkeys(other for other in (*others, *more) if other != number)


def _with_number(keys: Keys, other: float) -> Changed:
    def changed(call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        """Compute with another number."""
        own, keywords = _replaced((args, dict(kw)), keys, other)
        return call(*own, **keywords)

    return changed


def _by(name: str) -> Changed:
    def changed(call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        """Compute another operation of the same arguments."""
        import torch

        first = args[0] if is_tensor(args[0]) else torch.as_tensor(args[0], dtype=args[1].dtype)
        return getattr(first, name)(*args[1:], **kw)

    return changed


def _exchanged(call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
    import torch

    given = [x if is_tensor(x) else torch.as_tensor(x, dtype=args[0].dtype) for x in (args[1], args[0])]
    return call(*given, *args[2:], **kw)


def _alone(place: int) -> Changed:
    def changed(call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        """One operand, in the shape of the result."""
        import torch

        whole = call(*args, **kw)
        own = torch.as_tensor(args[place], dtype=whole.dtype)
        return own * 1 if own.shape == whole.shape else own.expand_as(whole)

    return changed


def _reversed(place: int) -> Changed:
    """One operand the other way round: means of colours in the order BGR for RGB."""

    def changed(call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        """Compute with the operand's numbers in the opposite order."""
        given = [value.flip(_axis(value)) if at == place else value for at, value in enumerate(args)]
        return call(*given, **kw)

    return changed


def _axis(value: Any) -> int | None:
    """The axis along which a tensor's numbers lie, if it is one alone."""
    long = [axis for axis, length in enumerate(value.shape) if length > 1]
    return long[0] if len(long) == 1 else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(value: Any, keys: Keys = ()) -> Iterator[tuple[Keys, float]]:
    """Every number among arguments, with the keys that lead to it."""
    if _is_number(value):
        yield keys, value
    for key, own in _inside(value):
        yield from _numbers(own, (*keys, key))


def _tensors(value: Any) -> Iterator[Any]:
    if is_tensor(value):
        yield value
    for _, own in _inside(value):
        yield from _tensors(own)


def _inside(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    elif isinstance(value, slice):
        yield from (("start", value.start), ("stop", value.stop), ("step", value.step))


def _replaced(value: Any, keys: Keys, other: Any) -> Any:
    """Arguments with another number in one place."""
    if not keys:
        return other
    own = {key: _replaced(each, keys[1:], other) if key == keys[0] else each for key, each in _inside(value)}
    if isinstance(value, dict):
        return own
    return slice(*own.values()) if isinstance(value, slice) else type(value)(own.values())
