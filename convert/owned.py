"""Layers of a PyTorch network with the tensors that they compute with, and where a MindSpore layer may keep these."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.layers import Change, LayerRule, candidates, reshaping
from convert.plan import is_parameter, layer_type, place_of, rule_of, split
from convert.tensors import Array

Place = tuple[str, Change | None]  # name of a tensor in its MindSpore layer, and how its values differ there


@dataclass(frozen=True)
class _Held:
    """One tensor of a layer."""

    values: Array
    rule: LayerRule | None  # of the layer inside that holds it
    prefix: str  # of that layer inside the MindSpore layer
    leaf: str  # its name in the layer that holds it
    trained: bool

    @property
    def optional(self) -> bool:
        """Whether MindSpore may lack it: a constant that no rule names."""
        return not self.trained and not (self.rule and (self.rule.same or self.leaf in self.rule.names))

    def place(self, shapes: Mapping[str, tuple[int, ...]]) -> Place | None:
        """Where the rules find it."""
        found = place_of(self.rule, self.leaf, self.values.shape, lambda name: shapes.get(self.prefix + name))
        return (self.prefix + found[0], found[1]) if found else None

    def other_place(self, shapes: Mapping[str, tuple[int, ...]]) -> Place | None:
        """The only tensor of its shape that may be it: of its name in a layer further inside, or own and renamed."""
        names = set(candidates(self.rule, self.leaf))
        found: list[Place] = []
        for name, shape in shapes.items():
            change = reshaping(self.values.shape, shape)
            if (shape == self.values.shape or change) and (not self.rule or name.rpartition(".")[2] in names):
                found.append((name, change))
        return found[0] if len(found) == 1 else None

    @property
    def first_name(self) -> str:
        """What its rule calls it."""
        return self.prefix + next(iter(candidates(self.rule, self.leaf)))


@dataclass(frozen=True)
class Placed:
    """Where a MindSpore layer keeps the tensors of a layer."""

    places: Mapping[str, Place]  # PyTorch name in the layer -> place
    renamed: frozenset[str]  # those that the naming rules do not find there
    plain: bool  # whether every tensor has the name that its rule says first


@dataclass(frozen=True)
class Owned:
    """A layer of a PyTorch network with the tensors that it computes with."""

    kind: str  # name of its class
    held: Mapping[str, _Held]  # by their name in it, without those that MindSpore lacks

    @property
    def values(self) -> dict[str, Array]:
        """Name in the layer -> values."""
        return {name: own.values for name, own in self.held.items()}

    @property
    def optional(self) -> bool:
        """Whether a MindSpore layer may have none of its tensors."""
        return all(own.optional for own in self.held.values())

    def placed(self, shapes: Mapping[str, tuple[int, ...]]) -> Placed | None:
        """Return where a MindSpore layer with these tensors, name -> shape, keeps each of its own.

        None where it lacks one, has another one, or one of another shape.
        """
        places = {name: place for name, own in self.held.items() if (place := own.place(shapes))}
        renamed = [name for name, own in self.held.items() if name not in places and not own.optional]
        for name in renamed:
            taken = {other for other, _ in places.values()}
            place = self.held[name].other_place({other: shape for other, shape in shapes.items() if other not in taken})
            if place is None:
                return None
            places[name] = place
        there = {other: self._shape(name, change) for name, (other, change) in places.items()}
        if not places or there != dict(shapes):
            return None
        plain = all(self.held[name].first_name == other for name, (other, _) in places.items())
        return Placed(places, frozenset(renamed), plain)

    def _shape(self, name: str, change: Change | None) -> tuple[int, ...]:
        values = self.held[name].values
        return tuple((change.to_mindspore(values) if change else values).shape)


def owned_layers(network: Any, called: Collection[str]) -> dict[str, Owned]:
    """Return path -> layer of every layer of a PyTorch network that has tensors.

    Args:
        network: the reference.
        called: layers that run; PyTorch's own layers compute with the tensors of those inside them that do not.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    held: dict[str, dict[str, _Held]] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        layer, leaf = split(name)
        owner, rule = _owner(layer, modules, called), rule_of(modules[layer])
        if rule is None or leaf not in rule.carried:
            values = np.array(tensor.detach().cpu().numpy())
            prefix = _prefix(owner, layer, modules)
            inside = name.removeprefix(f"{owner}.") if owner else name
            held.setdefault(owner, {})[inside] = _Held(values, rule, prefix, leaf, is_parameter(tensor))
    return {path: Owned(layer_type(modules[path]), own) for path, own in held.items()}


def _owner(layer: str, modules: Mapping[str, Any], called: Collection[str]) -> str:
    """The layer that computes with another one's tensors."""
    path = layer
    while path and path not in called:
        path = path.rpartition(".")[0]
    return path if type(modules[path]).__module__.startswith("torch.nn.") else layer


def _prefix(owner: str, layer: str, modules: Mapping[str, Any]) -> str:
    """Where a layer inside another one stands in its MindSpore counterpart."""
    path, found = owner, ""
    for part in layer.removeprefix(owner).strip(".").split(".") if layer != owner else ():
        rule = rule_of(modules[path])
        found += f"{rule.children.get(part, part) if rule else part}."
        path = f"{path}.{part}" if path else part
    return found
