"""Runs a network once on example inputs and records what each of its modules calls.

Everything really runs, on real tensors: control flow goes where it goes for the example, and numbers that are computed
from shapes keep how they were computed. What depends on the values of tensors is refused.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from convert.errors import first_line
from toonport.porting import inplace
from toonport.porting.arguments import apart, bound, kept_as, like, renewed
from toonport.porting.inplace import REPEATED, Frame, Part, as_function, as_index, as_tuple
from toonport.porting.operators import ANSWERED, READ, canonical, changes, name_of, require_known
from toonport.porting.sites import at, calls_answered_by, frames, in_torch, line
from toonport.porting.state import COUNTER
from toonport.porting.values import (
    COMPARISONS,
    NUMBERS,
    Call,
    Constant,
    Dim,
    FloatDim,
    Own,
    Region,
    Shape,
    UnportableError,
    Value,
    leaves,
    mapped,
    plain,
    untraced,
)

CHANGED = "the source changes it in place"
# makes a tensor, of the type that is PyTorch's default unless another is said
MAKING = frozenset({"zeros", "ones", "empty", "full", "arange", "linspace", "tensor", "eye"})
UNNAMED = {"self", "_", "args", "kwargs"}


class CannotRunError(UnportableError):
    """The network itself does not run on the inputs."""


@dataclass(frozen=True)
class Traced:
    """A network with its runs."""

    network: nn.Module
    regions: Mapping[str, list[Region]]  # dotted path of each module that holds others -> its runs, in order
    decisions: tuple[str, ...] = ()  # lines of the source that compare sides of tensors
    moved: frozenset[str] = frozenset()  # names of the network's state that the forward changes


def trace(
    network: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], leaf: Callable[[nn.Module], bool]
) -> Traced:
    """Run a network and return what each of its modules did.

    Args:
        network: in the mode that is to be traced; buffers that a run moves are moved.
        args, kwargs: example inputs.
        leaf: whether a module is written as one layer, so that what it calls is of no interest.

    Raises:
        CannotRunError: the network does not run on the inputs.
        UnportableError: it decides by the values of tensors, or passes them in ways that cannot be followed.
    """
    return _Tracer(network, leaf).run(args, kwargs)


class _Tracer(TorchFunctionMode):
    def __init__(self, network: nn.Module, leaf: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.network, self.leaf = network, leaf
        self.paths: dict[int, str] = {}
        for path, module in network.named_modules():
            self.paths.setdefault(id(module), path)
        named = [*network.named_parameters(), *network.named_buffers()]
        self.own = {id(tensor): Own(name, tensor) for name, tensor in named}
        self.saved = set(network.state_dict())
        self.moved: set[str] = set()
        self.unversioned: dict[int, torch.Tensor] = {}  # changes of which are not seen in what they are made of
        self.frames: list[Frame] = []
        self.regions: dict[str, list[Region]] = {}
        self.decisions: dict[str, None] = {}
        self.resting = 0  # how many layers are running whose inside is of no interest

    def run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Traced:
        """Trace one run."""
        with calls_answered_by(self.called), torch.enable_grad(), self:
            try:
                self.network(*args, **kwargs)
            except UnportableError:
                raise
            except Exception as error:
                where = self.frames[-1].region.path if self.frames else ""
                raise CannotRunError(f"{where or 'the network'}: cannot run: {first_line(error)}") from error
        return Traced(self.network, self.regions, tuple(self.decisions), frozenset(self.moved))

    # modules

    def called(self, run: Callable[..., Any], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer for a call of a module."""
        path = self.paths.get(id(module))
        if self.resting or path is None:
            return run(module, *args, **kwargs)
        if self.leaf(module):
            given = self._values((args, kwargs)) if self.frames else ((), {})
            before = self.frames[-1].version(args[0]) if self.frames and args else None
            with self._at_rest():
                found = run(module, *mapped(plain, args), **mapped(plain, kwargs))
            if args and found is args[0] and (same := as_function(module)):
                op, more = same
                self._seen_outside(found, before, op, (found, *more), {})
            return self._returned(Call("", given[0], given[1], line(), path, still=self._still()), found)
        if not self.frames:
            return self._inside(run, module, path, args, kwargs)
        given = self._values((args, kwargs))
        call = Call("", given[0], given[1], line(), path, still=self._still())
        handed = self._returned(call, self._inside(run, module, path, args, kwargs))
        frame = self.frames[-1]
        frame.region.calls += frame.later
        frame.later.clear()
        return handed

    def _still(self) -> bool:
        """Whether the module that runs has switched gradients off; one inside such a module is called without them."""
        return not torch.is_grad_enabled() and not (self.frames and self.frames[-1].still)

    def _inside(
        self, run: Callable[..., Any], module: nn.Module, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run a module that holds others, and record what it does."""
        frame = Frame(Region(path), not torch.is_grad_enabled())
        with self._at_rest():
            args, kwargs = apart((args, kwargs), self.own)
        given_names = bound(module, args, kwargs)
        for name, given in given_names.items():
            values = self._incoming(frame, given, (name,))
            if any(isinstance(each, Value) for each in leaves(values)):
                frame.region.inputs[name] = values
        dims = {id(each.example): each for each in leaves(frame.region.inputs) if isinstance(each, Value)}

        def inner(leaf: Any) -> Any:
            """A number that came in, as the module's own."""
            value = dims.get(id(leaf))
            return leaf if value is None or isinstance(leaf, torch.Tensor) else self._number(plain(leaf), value)

        self.frames.append(frame)
        try:
            found = run(module, *renewed(inner, args), **renewed(inner, kwargs))
            frame.region.output = self._values(found)
        finally:
            if sys.exc_info()[0] is None:
                self.frames.pop()
        self.regions.setdefault(path, []).append(frame.region)
        return found

    def _incoming(self, frame: Frame, tree: Any, path: tuple[Any, ...]) -> Any:
        """The values that a module is handed, each with its place among the arguments."""
        if isinstance(tree, Mapping):
            return {key: self._incoming(frame, each, (*path, key)) for key, each in tree.items()}
        if isinstance(tree, list | tuple) and not isinstance(tree, Shape):
            return [self._incoming(frame, each, (*path, place)) for place, each in enumerate(tree)]
        if isinstance(tree, Dim | FloatDim):
            return Value(None, path, tree)
        if not isinstance(tree, torch.Tensor):
            return tree
        value = Value(None, path, tree, path[0] if len(path) == 1 else "")
        frame.known.setdefault(id(tree), (value, tree, tree._version))
        return value

    # operators

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer for a function or method of PyTorch."""
        kwargs = kwargs or {}
        if self.resting or not self.frames:
            return untraced(func, args, kwargs)
        name = name_of(func)
        if name in {"shape", "size"}:
            return self._shape(args, kwargs)
        if name in READ and self._follows(args):
            raise UnportableError(f"{name.strip('_')}: {READ[name]}{at()}")
        if name in ANSWERED:
            return untraced(func, args, kwargs)
        require_known(func, name, at)
        if name == "__setitem__" and inplace.is_written_back(self.frames[-1], args):
            return self._written_again(func, args)
        return self._ran(name, func, args, kwargs)

    def _ran(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """Record an operator that makes tensors, or changes them in place."""
        given = self._values((args, kwargs))
        call = Call(canonical(name), given[0], given[1], line(), still=self._still())
        if args and isinstance(own := self._value(args[0]), Own) and changes(name):
            return self._changed(call, own, name, func, args, kwargs)
        before = self.frames[-1].version(args[0]) if args else None
        found = untraced(func, args, kwargs)
        if name in MAKING and kwargs.get("dtype") is None:
            call.kwargs = {**call.kwargs, "dtype": found.dtype}
        if name == "numel":
            return self._number_of(call, found)
        if name == "__setitem__":
            self._written(call, args[0])
        else:
            found = self._returned(call, found)
        if before is not None and args[0]._version != before:
            self._changed_in_place(call, args, kwargs, before)
        else:
            self._remembered(name, args, given[0], found)
        return found

    def _remembered(self, name: str, args: Any, given: Any, found: Any) -> None:
        """Keep what shares its numbers with the tensor that it was taken from; `given`: values of `args`."""
        if name == "data":
            self.unversioned[id(found)] = found
        elif name == "__getitem__" and isinstance(found, torch.Tensor) and found._base is not None:
            self.frames[-1].views[id(found)] = Part(args[0], as_index(args[1]), as_tuple(given[1]))

    def _changed_in_place(self, call: Call, args: Any, kwargs: Any, before: int) -> None:
        """A tensor that was changed is another value under all the names that it has."""
        tensor, frame = args[0], self.frames[-1]
        if id(tensor) in self.unversioned or id(tensor._base) in self.unversioned:
            raise UnportableError(f"in place: a tensor is changed through .data{at()}")
        self._seen_outside(tensor, before, call.op, args, kwargs)
        if frame.version(tensor) == tensor._version:
            inplace.written_back(frame, tensor, before, call.line)

    def _seen_outside(self, tensor: Any, before: Any, op: str, args: Any, kwargs: Any) -> None:
        """Have the modules around the one that runs do the same with a tensor that was changed in place."""
        if op in REPEATED and not torch.is_inference(tensor):
            still = not torch.is_grad_enabled()
            made = partial(Call, op, tuple(args), {**kwargs}, line(), still=still, note=CHANGED)
            inplace.seen_outside(self.frames, self.own, tensor, before, made)

    def _changed(self, call: Call, own: Own, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """A state of the network that is changed in place is assigned."""
        if own.name.endswith(COUNTER):  # which MindSpore's norms do without
            return func(*args, **kwargs)
        inplace.refuse_change(own, name, own.name in self.saved, at())
        found = untraced(func, args, kwargs)
        if own.example.requires_grad:
            raise UnportableError(f"{name}: {own.name} keeps the gradients of what is written into it{at()}")
        call.into = own
        self.moved.add(own.name)
        self.frames[-1].region.calls.append(call)
        return found

    def _written_again(self, func: Any, args: Any) -> None:
        """Elements that are there already are another version of the tensor, and of its parts."""
        frame = self.frames[-1]
        known = [(tensor, value) for value, tensor, version in frame.known.values() if tensor._version == version]
        func(*args)
        for tensor, value in known:
            frame.know(tensor, value)

    def _written(self, call: Call, tensor: Any) -> None:
        """A tensor of which elements were written is another value from then on."""
        value = call.result = Value(call, (), tensor, getattr(call.args[0], "name", ""))
        self.frames[-1].region.calls.append(call)
        self.frames[-1].known[id(tensor)] = (value, tensor, tensor._version)

    def _follows(self, tree: Any) -> bool:
        """Whether something is another one for other inputs or weights: it comes from those."""
        return any(
            isinstance(leaf, torch.Tensor) and (id(leaf) in self.frames[-1].known or id(leaf) in self.own)
            for leaf in leaves(tree)
        )

    def _shape(self, args: Any, kwargs: Any) -> Any:
        tensor, axis = args[0], args[1] if len(args) > 1 else kwargs.get("dim")
        with self._at_rest():
            sides = tuple(tensor.shape)
        value = self._value(tensor)
        if not isinstance(value, Value):
            return Shape(sides) if axis is None else sides[axis]
        call = Call("shape", (value,), {}, line())
        values = tuple(Value(call, (place,), side) for place, side in enumerate(sides))
        call.result = values
        self._note()
        self.frames[-1].region.calls.append(call)
        found = Shape(self._number(side, each) for side, each in zip(sides, values, strict=True))
        return found if axis is None else found[axis]

    def _number(self, number: Any, value: Value) -> Any:
        """A number that is recorded whenever something is computed from it."""
        return (FloatDim if isinstance(number, float) else Dim)(number, value, self._computed)

    def _number_of(self, call: Call, number: Any) -> Any:
        value = call.result = Value(call, (), number)
        self.frames[-1].region.calls.append(call)
        return self._number(number, value)

    def _computed(self, op: str, numbers: tuple[Any, ...]) -> Any:
        """A number computed from numbers that come from shapes."""
        found = NUMBERS[op](*(plain(number) for number in numbers))
        if op in COMPARISONS:
            self._decided()
            return found
        if self.resting or not self.frames or not isinstance(found, int | float):
            return found
        return self._number_of(Call(op, tuple(self._value(each) for each in numbers), {}, line()), found)

    def _decided(self) -> None:
        """Note the line of the user's code that compares sides; PyTorch's own checks are of no interest."""
        if not self.resting and not in_torch():
            self.decisions[line()] = None

    # values

    def _values(self, tree: Any) -> Any:
        self._note()
        return mapped(self._value, tree)

    def _value(self, leaf: Any) -> Any:
        """What stands for something that is passed on in the frame that runs."""
        if isinstance(leaf, Dim | FloatDim):
            return leaf.value if self._here(leaf.value) else plain(leaf)
        if not isinstance(leaf, torch.Tensor):
            return leaf
        frame = self.frames[-1]
        if id(leaf) in frame.known:
            value, _, version = frame.known[id(leaf)]
            if leaf._version != version:
                raise UnportableError(f"in place: a tensor is used after it was changed under another name{at()}")
            return value
        if id(leaf) in self.own:
            return self.own[id(leaf)]
        return self._attribute(leaf)

    def _here(self, value: Value) -> bool:
        """Whether a number belongs to the module that runs."""
        region = self.frames[-1].region
        return value.call in region.calls if value.call else value in leaves(region.inputs)

    def _attribute(self, tensor: torch.Tensor) -> Constant:
        """A tensor that some module keeps as an attribute, in lists or dictionaries or alone."""
        if name := kept_as(self.network, tensor):
            return Constant(name, tensor)
        raise UnportableError(f"a tensor comes from neither the inputs nor the network's state{at()}")

    def _returned(self, call: Call, found: Any) -> Any:
        """Record a call with what it returned, and hand that on with numbers that know where they came from."""
        if not self.frames:
            return found
        frame = self.frames[-1]

        def made(tree: Any, path: tuple[Any, ...]) -> tuple[Any, Any]:
            """The values of what was returned, and what is handed on."""
            if isinstance(tree, torch.Tensor):
                value = Value(call, path, tree)
                frame.known[id(tree)] = (value, tree, tree._version)
                return value, tree
            if isinstance(tree, Dim | FloatDim):
                value = Value(call, path, plain(tree))
                return value, self._number(plain(tree), value)
            if isinstance(tree, Mapping):
                pairs = {key: made(each, (*path, key)) for key, each in tree.items()}
                return {key: value for key, (value, _) in pairs.items()}, like(tree, pairs)
            if isinstance(tree, list | tuple):
                both = [made(each, (*path, place)) for place, each in enumerate(tree)]
                return tuple(value for value, _ in both), like(tree, both)
            return tree, tree

        call.result, handed = made(found, ())
        frame.region.calls.append(call)
        return handed

    def _note(self) -> None:
        """Note what the source calls the values that it has."""
        frame = self.frames[-1]
        for each in frames():
            for name, held in list(each.f_locals.items()):
                if name in UNNAMED or not isinstance(held, torch.Tensor | Dim):
                    continue
                value = held.value if isinstance(held, Dim) else frame.known.get(id(held), (None,))[0]
                if value is not None and not value.name:
                    value.name = name
            if each.f_code.co_name == "forward":
                break

    @contextmanager
    def _at_rest(self) -> Iterator[None]:
        self.resting += 1
        try:
            yield
        finally:
            self.resting -= 1
