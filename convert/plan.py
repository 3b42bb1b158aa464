"""The strict plan of one network: one row per tensor, read in both directions.

The rows are derived from the layer types of the PyTorch reference network (built without memory for
its weights) and the naming rules of `convert/layers.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from convert.errors import InputError
from convert.family import Part, resolve
from convert.layers import SPECTRAL_NORM, rule_for
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

    @property
    def rule(self) -> str:
        """The rule in words, for ledgers."""
        leaf, target = self.torch.rsplit(".", 1)[-1], self.mindspore.rsplit(".", 1)[-1]
        what = "carried" if self.carried else ("same name" if leaf == target else f"{leaf} <-> {target}")
        return f"{self.layer_type}: {what}"


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
        return {mindspore: arrays[torch] for mindspore, torch in self.names.items()}

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


@lru_cache(maxsize=32)
def _build_plan(class_name: str, kwargs: tuple[tuple[str, Any], ...]) -> Plan:
    import torch

    with torch.device("meta"):
        return plan_of(resolve("torch_ref", class_name)(**dict(kwargs)))


def plan_of(network: Any) -> Plan:
    """Return the plan of a PyTorch network that exists already.

    Raises KeyError: a layer type with tensors has no naming rule.
    """
    layer_types = {
        path: _layer_type(module) for path, module in network.named_modules() if PARAMETRIZATIONS not in f".{path}."
    }
    rows = tuple(
        _row(name, tensor, *_split(name), layer_types[_split(name)[0]])
        for name, tensor in network.state_dict(keep_vars=True).items()
    )
    return Plan(rows, layer_types)


def _split(name: str) -> tuple[str, str]:
    """The layer that owns a tensor, and the tensor's name in it; what parametrizes a weight belongs to its layer."""
    owner, found, rest = f".{name}".partition(PARAMETRIZATIONS)
    if found:
        return owner.removeprefix("."), found.removeprefix(".") + rest
    layer, _, leaf = name.rpartition(".")
    return layer, leaf


def _layer_type(module: Any) -> str:
    return type(module).__name__ + (SPECTRAL_NORM if hasattr(module, "weight_orig") else "")


def _row(name: str, tensor: Any, layer: str, leaf: str, layer_type: str) -> Row:
    rule = rule_for(layer_type)
    carried = leaf in rule.carried
    target = leaf if carried else rule.names[leaf]
    prefix = f"{layer}." if layer else ""
    spec = TensorSpec(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
    return Row(name, prefix + target, spec, layer, layer_type, carried)
