"""The cells of a ported network: one class for all modules of a class of the source that differ in numbers only."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter, getdoc, signature
from math import isfinite
from typing import Any

import torch
from torch import nn

from toonport.porting.bodies import Body
from toonport.porting.expressions import Slot, dtype_name, literal
from toonport.porting.loops import NUMBER
from toonport.porting.made import SEQUENCES, Argument, Made, Raw, same, sequence
from toonport.porting.names import CELLS_OWN, safe

LETTERS = {1: ("N",), 2: ("N", "C"), 3: ("N", "L", "C"), 4: ("N", "C", "H", "W"), 5: ("N", "C", "D", "H", "W")}
UNKNOWN = ("N", *"ABCDEFGH")  # of axes that may be in any order
UNNAMED = re.compile(r"[^0-9a-zA-Z_]")


@dataclass
class Instance:
    """One module of the source, as a cell."""

    path: str
    module: nn.Module
    base: str  # class that the cell inherits from
    members: list[tuple[str, Made]]  # attribute and what it is, in order; of a sequence, its layers
    bodies: tuple[Body, ...]  # one for both modes, or that of eval and that of train mode; none: it is never called
    base_arguments: Sequence[Argument] = ()  # of the constructor of the class that it inherits from

    @property
    def slots(self) -> list[Slot]:
        """The values that may differ between instances, in order."""
        found = [Slot(each.value, each.name) for each in self.base_arguments]
        for _, made in self.members:
            found += made.slots()
        for body in self.bodies:
            found += body.slots
        return found

    @property
    def skeleton(self) -> str:
        """What is the same in all instances of one class."""
        parts = [f"{type(self.module).__module__}.{type(self.module).__qualname__}({self.base})"]
        parts += [each.name for each in self.base_arguments]
        parts += [f"{name}={made.skeleton}" for name, made in self.members]
        return "\n".join([*parts, *(body.skeleton for body in self.bodies)])


@dataclass
class CellClass:
    """A class of the ported network."""

    name: str
    instances: list[Instance]
    arguments: dict[str, list[Any]] = field(default_factory=dict)  # name -> its value in each instance
    attributes: dict[str, float] = field(default_factory=dict)  # fractions that the source keeps under a name
    stands: list[str | None] = field(default_factory=list)  # for each slot, the argument or attribute in its place

    def settle(self) -> None:
        """Find which numbers differ between the instances, and what to call them."""
        columns = list(zip(*(each.slots for each in self.instances), strict=True))
        for place, column in enumerate(columns):
            values = [slot.value for slot in column]
            if not all(same(value, values[0]) for value in values):
                self.stands.append(self._argument(values, column[0].name))
            else:
                self.stands.append(self._attribute(values[0]) if place >= len(columns) - self._computed else None)

    @property
    def _computed(self) -> int:
        """How many of the slots are in what the class computes; the others are in its constructor."""
        return sum(len(body.slots) for body in self.instances[0].bodies)

    def _attribute(self, value: Any) -> str | None:
        """The one attribute of the source's instances that is a fraction, if it is one."""
        if not isinstance(value, float) or not isfinite(value) or value.is_integer():
            return None
        held = vars(self.instances[0].module)
        names = [name for name, each in held.items() if not name.startswith("_") and same(each, value)]
        taken = {*CELLS_OWN, *(member for member, _ in self.instances[0].members)}
        if (
            len(names) != 1
            or names[0] in taken
            or not all(same(getattr(each.module, names[0], None), value) for each in self.instances)
        ):
            return None
        self.attributes[names[0]] = value
        return names[0]

    def _argument(self, values: list[Any], hint: str) -> str:
        """The argument that has these values in the instances: an earlier one, or a new one with a name."""
        for name, known in self.arguments.items():
            if all(same(value, other) for value, other in zip(values, known, strict=True)):
                return name
        wanted = self._in_source(values) or UNNAMED.sub("_", hint) or "value"
        name, number = wanted, 1
        taken = {*self.arguments, *self.attributes, *CELLS_OWN, *(member for member, _ in self.instances[0].members)}
        while name in taken or safe(name) != name:
            number += 1
            name = f"{wanted}{number}"
        self.arguments[name] = values
        return name

    def _in_source(self, values: list[Any]) -> str | None:
        """An argument of the source's constructor that its instances keep with these values, or another attribute."""
        kind = type(self.instances[0].module)
        for name, argument in signature(kind.__init__).parameters.items():
            if argument.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD) or name == "self":
                continue
            if name not in self.arguments and self._keep(name, values):
                return name
        for name in vars(self.instances[0].module):
            if not name.startswith("_") and self._keep(name, values):
                return name
        return None

    def _keep(self, name: str, values: list[Any]) -> bool:
        """Whether the source's instances have these values as an attribute."""
        held = [getattr(each.module, name, None) for each in self.instances]
        return all(same(a, b) for a, b in zip(held, values, strict=True))

    def call(self, instance: Instance) -> Made:
        """How an instance is constructed."""
        place = next(place for place, each in enumerate(self.instances) if each is instance)
        arguments = [Argument(name, values[place]) for name, values in self.arguments.items()]
        return Made(self.name, arguments)

    @property
    def needs(self) -> set[str]:
        """What the file of layers has to hold for it."""
        first = self.instances[0]
        found = {name for body in first.bodies for name in body.functions}
        return found.union(*(made.needs() for _, made in first.members))

    # the code

    def text(self) -> str:
        """Return the class as code, not yet formatted."""
        first, names = self.instances[0], iter(self.stands)
        lines = [f"class {self.name}({first.base}):", *_indented(_docstring(_about(first.module)))]
        lines += _indented([*self._constructor(names), *self._construct(list(names))])
        return "\n".join(lines)

    def _constructor(self, names: Iterator[str | None]) -> list[str]:
        first = self.instances[0]
        words = [f"{name}: {_annotation(values)}" for name, values in self.arguments.items()]
        lines = [f"def __init__({', '.join(['self', *words])}) -> None:"]
        base = Made("super().__init__", first.base_arguments).text(names)
        members = [(name, made.text(names)) for name, made in first.members]
        if first.base in SEQUENCES:
            cells = [text for name, text in members if name.isdigit()]
            base = f"super().__init__({', '.join(sequence(first.base, cells))})"
            members = [(name, text) for name, text in members if not name.isdigit()]
        lines += [f"    {base}", *(f"    self.{name} = {text}" for name, text in members)]
        kept = set(self.stands[len(self.stands) - self._computed :])
        lines += [f"    self.{name} = {name}" for name in self.arguments if name in kept]
        lines += [f"    self.{name} = {literal(value)}" for name, value in self.attributes.items()]
        return [*lines, ""] if any((self.arguments, self.attributes, first.members, first.base_arguments)) else []

    def _construct(self, names: list[str | None]) -> list[str]:
        """The construct; where both modes do different things, one after the other."""
        bodies = self.instances[0].bodies
        if not bodies:
            return []
        first = bodies[0]
        inputs = "".join(f", {name}: {kind}" for name, kind in zip(first.inputs, first.kinds, strict=True))
        lines = [f"def construct(self{inputs}) -> {bodies[0].returns}:", f'    """{self._shapes()}"""']
        texts, start = [], 0
        for body in bodies:
            texts.append(self._lines(body, names[start : start + len(body.slots)]))
            start += len(body.slots)
        if len(texts) == 1:
            return [*lines, *_indented(texts[0])]
        return [*lines, "    if self.training:", *_indented(_indented(texts[1])), *_indented(texts[0])]

    def _lines(self, body: Body, names: list[str | None]) -> list[str]:
        def number(found: re.Match[str]) -> str:
            place = int(found[1])
            return f"self.{names[place]}" if names[place] else literal(body.slots[place].value)

        lines = [NUMBER.sub(number, line) for line in body.lines]
        which = next(place for place, each in enumerate(self.instances[0].bodies) if each is body)
        others = [each.bodies[which] for each in self.instances]
        for place, (line, _) in enumerate(body.notes):
            shapes = [other.notes[place][1] for other in others]
            if "\n" not in lines[line]:
                lines[line] += f"  # {self._shape(shapes)}"
        return lines

    def _shapes(self) -> str:
        """Shapes of what comes in and goes out, in words."""
        shapes = [each.bodies[0].shapes for each in self.instances]
        sides = []
        for side in (0, 1):
            words = []
            for place, own in enumerate(shapes[0][side]):
                if own is not None:
                    words.append(self._shape([each[side][place] or () for each in shapes if len(each[side]) > place]))
            sides.append(", ".join(words[:4]) + (", ..." if len(words) > 4 else ""))
        return f"{sides[0] or 'numbers'} -> {sides[1] or 'numbers'}."

    def _shape(self, shapes: list[tuple[int, ...]]) -> str:
        """A shape: letters for examples, for sides of pictures in relation to the input, and where instances differ."""
        first = shapes[0]
        whole = self.instances[0].bodies[0].shapes[0]
        picture = next((shape for shape in whole if shape is not None and len(shape) == 4), ())
        scaled = len(first) == len(picture) == 4 and first[2] * picture[3] == first[3] * picture[2]
        letters = LETTERS.get(len(first), UNKNOWN) if scaled or len(first) < 4 else UNKNOWN
        words = ["N"]
        for axis, side in enumerate(first[1:], 1):
            if scaled and axis >= 2:
                words.append(_ratio(side, picture[axis], letters[axis]))
            else:
                alike = all(shape[axis : axis + 1] == (side,) for shape in shapes)
                words.append(str(side) if alike else letters[axis])
        return f"[{', '.join(words)}]" if first else "[]"


def _ratio(side: int, whole: int, letter: str) -> str:
    """A side of a picture, as part or multiple of the side of the input."""
    if side == whole:
        return letter
    if side == 1:
        return "1"
    if whole % side == 0:
        return f"{letter}/{whole // side}"
    return f"{side // whole}{letter}" if side % whole == 0 else str(side)


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" if line else line for line in lines]


def _about(module: nn.Module) -> str:
    """The first sentence of the source's docstring, or where the class comes from."""
    kind = type(module)
    own = getdoc(kind) if kind.__dict__.get("__doc__") else None
    first = (own or "").strip().split("\n\n")[0].replace("\n", " ").replace('"""', "'''").replace("\\", "/").strip()
    if not first or len(first) > 100:
        return f"The MindSpore cell of `{kind.__module__}.{kind.__qualname__}`."
    return first if first.endswith((".", "!", "?")) else f"{first}."


def _docstring(text: str) -> list[str]:
    return [f'"""{text}"""', ""]


def _annotation(values: Sequence[Any]) -> str:
    """Type of an argument by its values."""
    kinds = {type(value) for value in values}
    if kinds == {int, float}:
        return "float"
    if kinds == {tuple}:
        return "tuple[int, ...]"
    if len(kinds) == 1:
        kind = kinds.pop()
        return "object" if kind in (Raw, type(None)) else kind.__name__
    return "int | tuple[int, ...]" if kinds == {int, tuple} else "object"


def parameter(tensor: torch.Tensor, trained: bool) -> Made:
    """How a tensor of a module's own is made: zeros or ones where it has them, and random where it has not."""
    dtype = Raw(dtype_name(tensor.dtype))
    shape = tuple(tensor.shape)
    arguments = [Argument("shape", shape, positional=True), Argument("dtype", dtype, positional=True)]
    flat = tensor.detach().flatten()
    callee = "ops.ones" if len(flat) and bool((flat == 1).all()) else "ops.zeros"
    needs = () if trained else (Argument("requires_grad", False),)
    return Made("Parameter", needs, [("", Made(callee, arguments))])


def constant(name: str, tensor: torch.Tensor) -> Made:
    """How a tensor that is no part of the state is made: out of the file of constants."""
    return Made("constant", [Argument("name", name, positional=True)], own=frozenset())


def grouped(instances: Sequence[Instance], taken: set[str], known: Mapping[str, CellClass]) -> dict[str, CellClass]:
    """Return skeleton -> class of instances that hold each other in no way, with a name that no other class has."""
    found: dict[str, CellClass] = {}
    for instance in instances:
        key = instance.skeleton
        if key in known:
            raise AssertionError("instances of one class are settled together")
        if key not in found:
            wanted = name = UNNAMED.sub("_", type(instance.module).__name__)
            number = 1
            while name in taken:
                number += 1
                name = f"{wanted}{number}"
            taken.add(name)
            found[key] = CellClass(name, [])
        found[key].instances.append(instance)
    for each in found.values():
        each.settle()
    return found
