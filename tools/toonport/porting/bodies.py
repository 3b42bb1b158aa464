"""What a construct does, written from what a traced module did.

Nested calls stay nested as the source has them, and values keep the names that the source gives them; where one name
stands for several values that are needed at once, later ones get a number.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from toonport.porting import arithmetic, nets, shapes
from toonport.porting.arguments import bound
from toonport.porting.expressions import Expr, Slot, Writer, reach
from toonport.porting.loops import MARK, Statement, rolled
from toonport.porting.names import safe
from toonport.porting.registry import Rule, refuse_unless
from toonport.porting.runs import needed
from toonport.porting.values import Call, Constant, Own, Region, UnportableError, Value, leaves, plain

RULES: Mapping[str, Rule] = {**arithmetic.RULES, **shapes.RULES, **nets.RULES}
WORDS = {"axis": "dim", "keepdims": "keepdim"}  # names of arguments that PyTorch takes as well -> its own
# What changes shapes.
MOVING = {"reshape", "permute", "transpose", "flatten", "unflatten", "cat", "stack", "einsum", "unsqueeze", "squeeze"}
NESTED = 60  # characters of what is still written inside another call


@dataclass(frozen=True)
class Body:
    """The lines of a construct, in which numbers are still marks."""

    inputs: tuple[str, ...]
    lines: tuple[str, ...]
    slots: tuple[Slot, ...]
    functions: frozenset[str]
    constants: tuple[Constant, ...]
    shapes: tuple[tuple[tuple[int, ...] | None, ...], tuple[tuple[int, ...] | None, ...]]  # of inputs and outputs
    notes: tuple[tuple[int, tuple[int, ...]], ...] = ()  # line and shape of what it makes, where that is worth saying
    returns: str = "Tensor"
    kinds: tuple[str, ...] = ()  # types of the inputs

    @property
    def skeleton(self) -> str:
        """What is the same where bodies differ in numbers only."""
        return "\n".join([*self.inputs, *self.lines])


@dataclass
class Setting:
    """What bodies are written with."""

    modules: Mapping[str, nn.Module]
    attribute: Callable[[str], str]  # dotted path of a module -> in MindSpore
    kinds: Callable[[str], tuple[str, ...]]  # dotted path of a module -> names of its class and base classes
    inputs: Mapping[str, Sequence[str]]  # dotted path of each module that is traced -> arguments of its construct
    lists: Mapping[str, int] = field(default_factory=dict)  # dotted path of lists of layers -> how many they hold
    partial: Callable[[UnportableError], None] | None = None  # told what is left out; None: it is raised


def write_body(region: Region, setting: Setting, training: bool) -> Body:
    """Write what a module did in one run.

    Raises UnportableError: an operator has no rule, or an argument is not one that its rule knows.
    """
    return _BodyWriter(region, setting, training).body()


class _BodyWriter:
    def __init__(self, region: Region, setting: Setting, training: bool) -> None:
        self.region, self.setting = region, setting
        self.writer = Writer(region.path, training, setting.attribute, setting.kinds)
        self.statements: list[Statement] = []
        self.constants: list[Constant] = []
        self.bases: dict[str, Value] = {}

    def body(self) -> Body:
        """Write everything."""
        live, self.uses = needed(self.region)
        for name, tree in self.region.inputs.items():
            self._input(name, tree)
        for place, call in enumerate(live):
            if call.into:
                self._settle(rf"{re.escape(self.writer.held(call.into))}\b", live[place:])
            elif call.module:
                self._settle(rf"{re.escape(self._reached(call))}\(", live[place:], {id(each) for each in _given(call)})
            self._write(call)
        self.writer.hint = "returned"
        returned = self.writer.expr(self.region.output)
        self.statements.append(Statement([], f"return {self._bare(returned)}"))
        self.statements = list(rolled(self.statements, self.writer, self._lists()))
        names = self._names()
        return self._finished(names)

    def _lists(self) -> dict[str, int]:
        """How the module reaches each list of layers inside it -> how many it holds."""
        prefix, own = self.region.path, self.setting.attribute(self.region.path)
        return {
            reach(self.setting.attribute(path).removeprefix(own).strip(".")): count
            for path, count in self.setting.lists.items()
            if path != prefix and path.startswith(f"{prefix}." if prefix else "")
        }

    def _bare(self, expr: Expr) -> str:
        """What is returned, without the parentheses of a tuple."""
        text, several = expr.text, isinstance(self.region.output, tuple) and len(self.region.output) > 1
        return text[1:-1] if several and text.startswith("(") else text

    def _input(self, name: str, tree: Any) -> None:
        """Arguments: a value is a name, and what is inside a structure is reached through it."""
        if isinstance(tree, Value):
            tree.name = name
            self.bases[name] = tree
            self.writer.mark(tree)
            return
        base = self.bases[name] = Value(None, (name,), 0, name)
        for value in leaves(tree):
            if isinstance(value, Value):
                place = "".join(f"[{part!r}]" for part in value.path[1:])
                self.writer.inlined[id(value)] = Expr(self.writer.mark(base) + place)

    # calls

    def _write(self, call: Call) -> None:
        self.writer.hint = call.op or call.module.rpartition(".")[2]
        self.constants += [leaf for leaf in leaves((call.args, call.kwargs)) if isinstance(leaf, Constant)]
        try:
            found = self._module(call) if call.module else self._operator(call)
            if call.still and _differentiable(call):
                refuse_unless(isinstance(call.result, Value), f"{call.called}: several results without gradients")
                found = Expr(f"ops.stop_gradient({found.text})")
        except UnportableError as error:
            error = (
                error if "(" in str(error) and ", line " in str(error) else UnportableError(f"{error} ({call.line})")
            )
            if not self.setting.partial:
                raise error from None
            self.setting.partial(error)
            found = Expr(f"not_ported({str(error)!r})")
            self.writer.functions.add("not_ported")
        if call.into:
            self.statements.append(Statement([], f"ops.assign({self.writer.held(call.into)}, {found.text})"))
        else:
            self._keep(call, found)

    def _settle(self, pattern: str, rest: Sequence[Call], but: Collection[int] = ()) -> None:
        """Compute what cannot wait until it is used: before a state is changed, or a layer is called once more.

        Args:
            pattern: of what must come before.
            rest: the calls from here on.
            but: ids of values that the next of them is given, which come before it anyway.
        """
        values = {id(each): each for call in rest for each in _given(call)}
        values |= {id(each): each for each in leaves(self.region.output)}
        for number, expr in list(self.writer.inlined.items()):
            if number in values and number not in but and re.search(pattern, expr.text):
                del self.writer.inlined[number]
                self.statements.append(Statement([values[number]], expr.text))

    def _operator(self, call: Call) -> Expr:
        rule = RULES.get(call.op)
        if rule is None:
            raise UnportableError(f"{call.op}: no rule for this operator")
        if call.op == "batch_norm" and (found := self._norm_of_base(call)):
            return found
        start = len(self.writer.slots)
        self.writer.written.clear()
        found = self._ruled(rule, call)
        again = [each for each in leaves((call.args, call.kwargs)) if isinstance(each, Value) and self._costly(each)]
        if not again:
            return found
        del self.writer.slots[start:]
        for value in {id(each): each for each in again}.values():
            self.statements.append(Statement([value], self.writer.inlined.pop(id(value)).text))
        return self._ruled(rule, call)

    def _costly(self, value: Value) -> bool:
        """Whether something that is computed where it is used was written more than once."""
        inlined = self.writer.inlined.get(id(value))
        return inlined is not None and "(" in inlined.text and self.writer.written[id(value)] > 1

    def _ruled(self, rule: Rule, call: Call) -> Expr:
        """What the rule of an operator writes."""
        named = {WORDS.get(name, name): each for name, each in call.kwargs.items()}
        try:
            return rule(self.writer, *call.args, **named)
        except (TypeError, ValueError, AttributeError, LookupError) as error:
            raise UnportableError(f"{call.op}: called in a form that its rule does not know ({error})") from error

    def _norm_of_base(self, call: Call) -> Expr | None:
        """Batch norm as a function, in a layer that is a batch norm itself: what its base class does."""
        module = self.setting.modules[self.region.path]
        given = dict(zip(("x", "running_mean", "running_var", "weight", "bias", "training"), call.args, strict=False))
        given |= call.kwargs
        prefix = f"{self.region.path}." if self.region.path else ""
        held = {
            name: getattr(given.get(name), "name", None) for name in ("running_mean", "running_var", "weight", "bias")
        }
        mine = all(name is None or name == prefix + key for key, name in held.items()) and held["weight"]
        if (
            not isinstance(module, nn.BatchNorm2d)
            or not mine
            or given.get("training", False) is not self.writer.training
        ):
            return None
        return Expr(f"super().construct({self.writer.text(call.args[0])})")

    def _reached(self, call: Call) -> str:
        """How the module that is called is reached."""
        there = self.setting.attribute(call.module).removeprefix(self.setting.attribute(self.region.path)).strip(".")
        return reach(there)

    def _module(self, call: Call) -> Expr:
        prefix = f"{self.region.path}." if self.region.path else ""
        if not call.module.startswith(prefix):
            raise UnportableError(f"{call.module}: called by {self.region.path}, which does not hold it")
        words = [self.writer.text(each) for each in self._given(call)]
        words += [f"{name}={self.writer.text(each)}" for name, each in self._named(call).items()]
        return Expr(f"{self._reached(call)}({', '.join(words)})")

    def _given(self, call: Call) -> list[Any]:
        inputs = self.setting.inputs.get(call.module)
        if inputs is None:
            args = list(call.args)
            while args and args[-1] is None:
                args.pop()
            return args
        given = bound(self.setting.modules[call.module], call.args, call.kwargs)
        return [given.get(name) for name in inputs]

    def _named(self, call: Call) -> dict[str, Any]:
        if call.module in self.setting.inputs:
            return {}
        return {name: each for name, each in call.kwargs.items() if each is not None and name != "is_causal"}

    # results

    def _keep(self, call: Call, found: Expr) -> None:
        result = call.result
        if isinstance(result, Value):
            self._keep_one(result, found)
        elif isinstance(result, tuple) and all(isinstance(each, Value) for each in result):
            self._keep_several(call, result, found)
        else:
            base = Value(call, (), 0, "outputs")
            self.statements.append(Statement([base], found.text))
            for value in leaves(result):
                if isinstance(value, Value):
                    place = "".join(f"[{part!r}]" for part in value.path)
                    self.writer.inlined[id(value)] = Expr(self.writer.mark(base) + place)

    def _keep_one(self, value: Value, found: Expr) -> None:
        """Nested where the source gives it no name and uses it once."""
        note = value.call.note if value.call else ""
        if note:
            self.statements.append(Statement([value], found.text, comment=note))
        elif MARK.fullmatch(found.text) or (not value.name and self.uses[id(value)] == 1 and len(found.text) <= NESTED):
            self.writer.inlined[id(value)] = found
        else:
            self.statements.append(Statement([value], found.text))

    def _keep_several(self, call: Call, values: tuple[Value, ...], found: Expr) -> None:
        """Unpacked where several are used; a single one is taken by its place."""
        used = {place: value for place, value in enumerate(values) if self.uses[id(value)]}
        named, once = any(value.name for value in used.values()), sum(self.uses[id(value)] for value in values) == 1
        if (len(used) == 1 or not named) if call.op == "shape" else (once and not named):
            for place, value in used.items():
                self.writer.inlined[id(value)] = Expr(f"{found.text}[{place}]")
        else:
            targets = [value if self.uses[id(value)] else None for value in values]
            self.statements.append(Statement(targets, found.text, unpacked=any(each is not None for each in targets)))

    # names

    def _names(self) -> dict[str, str]:
        """Mark number of each value -> its name."""
        last: dict[str, int] = {}
        for place, statement in enumerate(self.statements):
            for number in MARK.findall(statement.text + statement.first):
                last[number] = place
        names: dict[str, str] = {}
        holders: dict[str, str] = {}  # name -> number of the value that has it
        for name, base in self.bases.items():
            number = str(self.writer.numbers.get(id(base), f"unused {name}"))
            names[number] = safe(name)
            holders[names[number]] = number
        for place, statement in enumerate(self.statements):
            for value in statement.targets:
                if value is None:
                    continue
                number = str(self.writer.numbers.setdefault(id(value), len(self.writer.numbers)))
                wanted = safe(value.name) if value.name else self._unnamed(statement, last, names, place)
                names[number] = name = _free(wanted, holders, last, place)
                holders[name] = number
        if unnamed := set(last) - set(names):
            raise AssertionError(f"{self.region.path}: values {sorted(unnamed)} come from nowhere")
        return names

    def _unnamed(self, statement: Statement, last: Mapping[str, int], names: Mapping[str, str], place: int) -> str:
        """A name for what the source does not name: that of the first operand, where it is not needed again."""
        operands = MARK.findall(statement.text)
        ended = [names[number] for number in operands if last[number] == place and number in names]
        return ended[0] if ended and not ended[0].isupper() else "out"

    def _lines(self, statement: Statement, names: Mapping[str, str]) -> list[str]:
        """The code of a statement, with names in the place of marks."""
        text, first = (MARK.sub(lambda found: names[found[1]], code) for code in (statement.text, statement.first))
        targets = [self._target(value, names) for value in statement.targets]
        if statement.loop:
            start = [f"{targets[0]} = {first}"] if first != targets[0] else []
            return [*start, f"for layer in {statement.loop}:", f"    {targets[0]} = {text}"]
        if not targets:
            return [text]
        if set(targets) == {"_"}:
            targets = ["_"]
        comma = "," if len(targets) == 1 and statement.unpacked else ""
        comment = f"  # {statement.comment}" if statement.comment else ""
        return [f"{', '.join(targets)}{comma} = {text}{comment}"]

    def _finished(self, names: Mapping[str, str]) -> Body:
        lines: list[str] = []
        notes: list[tuple[int, tuple[int, ...]]] = []
        for statement in self.statements:
            lines += self._lines(statement, names)
            value = statement.targets[0] if len(statement.targets) == 1 else None
            if value is not None and _worth_saying(value):
                notes.append((len(lines) - 1, value.shape or ()))
        inputs = [leaf.shape for leaf in leaves(self.region.inputs) if isinstance(leaf, Value)]
        outputs = [leaf.shape for leaf in leaves(self.region.output) if hasattr(leaf, "shape")]
        return Body(
            tuple(safe(name) for name in self.setting.inputs[self.region.path]),
            tuple(lines),
            tuple(self.writer.slots),
            frozenset(self.writer.functions),
            tuple(self.constants),
            (tuple(inputs), tuple(outputs)),
            tuple(notes),
            _type_of(self.region.output),
            tuple(_type_of(self.region.inputs.get(name)) for name in self.setting.inputs[self.region.path]),
        )

    def _target(self, value: Value | None, names: Mapping[str, str]) -> str:
        return "_" if value is None else names[str(self.writer.numbers[id(value)])]


def _type_of(tree: Any) -> str:
    """The type of an argument or result."""
    if isinstance(tree, Value) and tree.shape is None:
        return type(plain(tree.example)).__name__
    inside = set(map(_type_of, tree.values() if isinstance(tree, Mapping) else tree)) if _several(tree) else set()
    one = inside.pop() if len(inside) == 1 else "object"
    forms: dict[type, str] = {tuple: f"tuple[{one}, ...]", list: f"list[{one}]", dict: f"dict[str, {one}]"}
    return forms.get(type(tree), "Tensor")


def _several(tree: Any) -> bool:
    return isinstance(tree, tuple | list | Mapping)


def _given(call: Call) -> list[Any]:
    """Whatever a call is given, out of its structures."""
    return list(leaves((call.args, call.kwargs)))


def _differentiable(call: Call) -> bool:
    """Whether a gradient would flow through an operator."""
    values = [leaf for leaf in leaves((call.args, call.kwargs)) if isinstance(leaf, Value | Own)]
    tensors = [value for value in values if value.shape is not None]
    return any(isinstance(leaf, Value) for leaf in leaves(call.result)) and any(
        each.example.is_floating_point() for each in tensors
    )


def _worth_saying(value: Value) -> bool:
    """Whether the shape of something is not what one expects: where axes are moved, split or joined."""
    return value.call is not None and value.call.op in MOVING and value.shape is not None


def _free(wanted: str, holders: Mapping[str, str], last: Mapping[str, int], place: int) -> str:
    """The wanted name, or the next with a number, that no value has which is needed after a line."""
    name, number = wanted, 1
    while name in holders and last.get(holders[name], -1) > place:
        number += 1
        name = f"{wanted}{number}"
    return name
