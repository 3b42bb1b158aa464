"""The strict plan of one network: one row per tensor, read in both directions.

The rows are derived from the layer types of the PyTorch reference network (kept as data, or built without memory for
its weights) and the naming rules of `convert/layers.py`.
"""

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from convert.descriptions import Description, known_description
from convert.errors import InputError
from convert.family import Part, resolve
from convert.layers import HOW_TO_WRITE, NO_RULE, SPECTRAL_NORM, Change, LayerRule, candidates, find_rule, reshaping
from convert.tensors import Array, TensorSpec

PARAMETRIZATIONS = ".parametrizations."  # where PyTorch keeps what a weight is computed from


@dataclass(frozen=True)
class Row:
    """One tensor on both sides."""

    # torch, mindspore: its full names
    torch: str
    mindspore: str
    spec: TensorSpec  # shape and dtype in the reference
    # layer, layer_type: dotted path and type of the layer that owns it
    layer: str
    layer_type: str
    carried: bool  # True when the MindSpore network has no such parameter (the file keeps it)
    change: Change | None = None  # how its values differ between both sides, None where they are the same
    by_rule: bool = True  # False where the layer type has no rule and the tensor keeps its own name

    @property
    def rule(self) -> str:
        """The rule in words, for ledgers."""
        leaf, target = self.torch.rsplit(".", 1)[-1], self.mindspore.rsplit(".", 1)[-1]
        what = "carried" if self.carried else ("same name" if leaf == target else f"{leaf} <-> {target}")
        if self.change:
            what += f", {self.change.words}"
        return f"{self.layer_type}: {what}" + ("" if self.by_rule else " (no rule: its own name, the shapes agree)")

    @property
    def mindspore_shape(self) -> tuple[int, ...]:
        """Its shape in MindSpore."""
        return tuple(self.to_mindspore(np.empty(self.spec.shape, np.int8)).shape) if self.change else self.spec.shape

    def to_mindspore(self, values: Array) -> Array:
        """The values as MindSpore has them."""
        return self.change.to_mindspore(values) if self.change else values

    def to_torch(self, values: Array) -> Array:
        """The values as PyTorch has them."""
        return self.change.to_torch(values) if self.change else values


@dataclass(frozen=True)
class Problems:
    """What keeps a set of tensors from fitting a plan."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshaped: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.count > 0

    @property
    def count(self) -> int:
        """Number of tensors that do not fit."""
        return len(self.missing) + len(self.unexpected) + len(self.misshaped)

    def __str__(self) -> str:
        return self.text()

    def text(self, limit: int | None = None) -> str:
        """List the tensors of each kind: all of them, or at most `limit`."""
        groups = (("missing", self.missing), ("unexpected", self.unexpected), ("wrong shape or type", self.misshaped))
        return "; ".join(f"{len(names)} {word}: {_listed(names, limit)}" for word, names in groups if names)


def _listed(names: tuple[str, ...], limit: int | None) -> str:
    shown = ", ".join(names[:limit])
    return shown if limit is None or len(names) <= limit else f"{shown}, ..."


@dataclass(frozen=True)
class Plan:
    """All rows of one network, in the order of the PyTorch state dict."""

    rows: tuple[Row, ...]  # one per tensor
    layer_types: Mapping[str, str]  # dotted path -> type of every layer of the reference, with or without tensors
    # dotted path of a layer of the reference -> path of the same layer in MindSpore, if there is no other one there
    paths: Mapping[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """PyTorch name -> shape, in the order of the state dict."""
        return {row.torch: row.spec.shape for row in self.rows}

    @property
    def names(self) -> dict[str, str]:
        """MindSpore name -> PyTorch name of what the MindSpore network has."""
        return {row.mindspore: row.torch for row in self.rows if not row.carried}

    def to_mindspore(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """PyTorch name -> values becomes MindSpore name -> values, without what the MindSpore network lacks."""
        return {row.mindspore: row.to_mindspore(arrays[row.torch]) for row in self.rows if not row.carried}

    def check(self, tensors: Mapping[str, TensorSpec]) -> Problems:
        """Compare tensors (PyTorch name -> spec) with the plan; an empty result means a perfect fit.

        Floating tensors may have any floating type (half-precision files keep theirs); a carried
        tensor may be absent.
        """
        wanted = {row.torch: row for row in self.rows}
        missing = [name for name, row in wanted.items() if name not in tensors and not row.carried]
        unexpected = [name for name in tensors if name not in wanted]
        misshaped = [
            f"{name} is {tensors[name]}, should be {row.spec}"
            for name, row in wanted.items()
            if name in tensors and not _fits(tensors[name], row.spec)
        ]
        return Problems(tuple(missing), tuple(unexpected), tuple(misshaped))

    def require(self, tensors: Mapping[str, TensorSpec], where: str) -> None:
        """Raise InputError that lists every missing, unexpected and mis-shaped tensor, if there is any."""
        problems = self.check(tensors)
        if problems:
            raise InputError(f"{where}: the tensors do not fit the network: {problems}")


def _fits(given: TensorSpec, wanted: TensorSpec) -> bool:
    same_kind = given.dtype == wanted.dtype or ("float" in given.dtype and "float" in wanted.dtype)
    return given.shape == wanted.shape and same_kind


def build_plan(part: Part, kwargs: Mapping[str, Any]) -> Plan:
    """Return the plan of a network built with these constructor arguments."""
    return _build_plan(part.class_name, tuple(sorted(kwargs.items())))


@lru_cache(maxsize=128)
def _build_plan(class_name: str, kwargs: tuple[tuple[str, Any], ...]) -> Plan:
    known = known_description(class_name, dict(kwargs))
    return plan_from(known) if known else plan_of(build_without_values(class_name, dict(kwargs)))


def build_without_values(class_name: str, kwargs: Mapping[str, Any]) -> Any:
    """Return a PyTorch network of this project whose tensors have shapes, but neither values nor memory."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Undrawn(TorchFunctionMode):
        """Makes no initial values: a tensor without memory takes none, and PyTorch loads its compiler to see that."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            """Leave a tensor that is to be drawn or scaled as it is, and do anything else."""
            if func in {torch.nn.init.normal_, torch.Tensor.normal_, torch.nn.functional.normalize}:
                return args[0] if args else kwargs["tensor"]
            return func(*args, **kwargs or {})

    with torch.device("meta"), Undrawn(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers without a number in them, as strange files have
        return resolve("torch_ref", class_name)(**kwargs)


@dataclass(frozen=True)
class Target:
    """A MindSpore network as a plan sees it."""

    shapes: Mapping[str, tuple[int, ...]]  # name of every tensor -> shape
    layers: Collection[str]  # dotted path of every layer


def describe(network: Any) -> Description:
    """Return the description of a PyTorch network."""
    modules = {
        path: module
        for path, module in network.named_modules(remove_duplicate=False)
        if PARAMETRIZATIONS not in f".{path}."
    }
    tensors = {
        name: (TensorSpec(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")), is_parameter(tensor))
        for name, tensor in network.state_dict(keep_vars=True).items()
    }
    types = {path: _type_names(module) for path, module in modules.items()}
    return Description(types, {path: layer_type(module) for path, module in modules.items()}, tensors)


def plan_of(network: Any, target: Target | None = None, layers: Mapping[str, str] | None = None) -> Plan:
    """Return the plan of a PyTorch network that exists already.

    Args:
        network: the reference.
        target: the MindSpore network; tensors without a rule go under their own name where it has them so.
        layers: PyTorch path -> MindSpore path of layers, and of single tensors, that are called otherwise there.

    Raises InputError: a layer with tensors has no naming rule, and the MindSpore network nothing of its name.
    """
    return plan_from(describe(network), target, layers)


def plan_from(network: Description, target: Target | None = None, layers: Mapping[str, str] | None = None) -> Plan:
    """Return the plan of a PyTorch network that is described; see `plan_of`."""
    rules = {path: find_rule(types) for path, types in network.types.items()}
    paths = _paths(rules, target, layers or {})
    rows = []
    for name, (spec, trained) in network.tensors.items():
        layer, leaf = split(name)
        owner = _Owner(layer, network.layer_types[layer], rules[layer], paths[layer], trained)
        said = (layers or {}).get(name)
        rows.append(_said(name, leaf, spec, owner, said, target) if said else _row(name, leaf, spec, owner, target))
    return Plan(tuple(rows), network.layer_types, _counterparts(paths, layers or {}))


def plan_by_name(arrays: Mapping[str, Array]) -> Plan:
    """Return the plan of tensors that have the same names and values on both sides: of one network's own checkpoint."""
    specs = {name: TensorSpec(tuple(value.shape), value.dtype.name) for name, value in arrays.items()}
    rows = (Row(name, name, spec, name.rpartition(".")[0], "", carried=False) for name, spec in specs.items())
    return Plan(tuple(rows), {}, {})


def _paths(rules: Mapping[str, LayerRule | None], target: Target | None, layers: Mapping[str, str]) -> dict[str, str]:
    """Where each layer stands in MindSpore: where it was said to, else in its parent, as the parent's rule has it."""
    found = {"": layers.get("", "")}
    for path in list(rules)[1:]:
        parent, _, leaf = path.rpartition(".")
        rule, prefix = rules[parent], f"{found[parent]}." if found[parent] else ""
        other = prefix + (rule.children.get(leaf, leaf) if rule else leaf)
        own = prefix + leaf if target and other not in target.layers else other
        found[path] = layers.get(path, own)
    return found


def _counterparts(paths: Mapping[str, str], layers: Mapping[str, str]) -> dict[str, str]:
    """Without the layers that stand where another one was said to be, and those inside them that were not named."""
    said = set(layers.values())
    found: dict[str, str] = {}
    for path, other in paths.items():
        inside = not path or path.rpartition(".")[0] in found
        if path in layers or (inside and other not in said):
            found[path] = other
    return found


def split(name: str) -> tuple[str, str]:
    """The layer that owns a tensor, and the tensor's name in it; what parametrizes a weight belongs to its layer."""
    owner, found, rest = f".{name}".partition(PARAMETRIZATIONS)
    if found:
        return owner.removeprefix("."), found.removeprefix(".") + rest
    layer, _, leaf = name.rpartition(".")
    return layer, leaf


def layer_type(module: Any) -> str:
    """Return the name of a layer's class, with a mark where its weight is normed."""
    return type(module).__name__ + (SPECTRAL_NORM if hasattr(module, "weight_orig") else "")


def rule_of(module: Any) -> LayerRule | None:
    """Return the naming rule of a layer, None where it has none."""
    return find_rule(_type_names(module))


def _type_names(module: Any) -> tuple[str, ...]:
    """Names of a layer's class and its base classes, with a mark where its weight is normed."""
    names = tuple(kind.__name__ for kind in type(module).__mro__)
    return tuple(name + SPECTRAL_NORM for name in names) + names if hasattr(module, "weight_orig") else names


def is_parameter(tensor: Any) -> bool:
    """Whether a tensor of a network is a parameter, not a buffer."""
    import torch

    return isinstance(tensor, torch.nn.Parameter)


@dataclass(frozen=True)
class _Owner:
    """The layer that owns a tensor."""

    layer: str
    layer_type: str
    rule: LayerRule | None
    path: str  # in MindSpore
    trained: bool  # whether the tensor is a parameter, not a buffer

    def named(self, leaf: str) -> str:
        """The full name in MindSpore of one of its tensors."""
        return f"{self.path}.{leaf}" if self.path else leaf


def _row(name: str, leaf: str, spec: TensorSpec, owner: _Owner, target: Target | None) -> Row:
    rule = owner.rule or NO_RULE
    carried = leaf in rule.carried
    known = carried or leaf in rule.names or rule.same
    if target is None and not known:
        raise InputError(f"{name}: no naming rule for layers of type {owner.layer_type}; {HOW_TO_WRITE}")
    change, there = rule.changes.get(leaf), leaf if carried else rule.names.get(leaf, leaf)
    if target and not carried:
        found = place_of(rule, leaf, spec.shape, lambda other: target.shapes.get(owner.named(other)))
        carried = found is None and not known and not owner.trained  # a constant that the layer may hold as it likes
        there, change = found or (there, change)
    return Row(name, owner.named(there), spec, owner.layer, owner.layer_type, carried, change, known)


def _said(name: str, leaf: str, spec: TensorSpec, owner: _Owner, said: str, target: Target | None) -> Row:
    """A tensor that was named by itself."""
    there = target.shapes.get(said) if target else None
    changed = (owner.rule or NO_RULE).changes.get(leaf) or (reshaping(spec.shape, there) if there else None)
    return Row(name, said, spec, owner.layer, owner.layer_type, False, changed, owner.rule is not None)


def place_of(
    rule: LayerRule | None, leaf: str, shape: tuple[int, ...], there: Callable[[str], tuple[int, ...] | None]
) -> tuple[str, Change | None] | None:
    """Return the name of a tensor in its MindSpore layer, and how its values differ there.

    Args:
        rule: of the layer, if it has one.
        leaf: the tensor's name in PyTorch.
        shape: its shape there.
        there: name of a tensor in the MindSpore layer -> its shape, None where the layer has none of the name.

    Returns:
        Name and change, None where the layer has no place for it.
    """
    rule = rule or NO_RULE
    for name in candidates(rule, leaf):
        own = there(name)
        changed = rule.changes.get(leaf) or (reshaping(shape, own) if own else None)
        if own is not None and (leaf in rule.names or rule.same or changed or own == shape):
            return name, changed
    return None
