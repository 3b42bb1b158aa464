"""What modules are called with, and what they return: structures of tensors and numbers, by the arguments' names."""

import operator
from collections.abc import Callable, Container, Mapping
from inspect import Parameter, signature
from typing import Any

import torch
from torch import nn

from toonport.porting.values import Shape, leaves


def kept_as(network: nn.Module, tensor: torch.Tensor) -> str:
    """Return the dotted name of a tensor that some module keeps as an attribute, or in one; "" where none does."""
    for path, module in network.named_modules():
        for key, held in vars(module).items():
            if key.startswith("_") and not isinstance(held, torch.Tensor):
                continue
            for place, each in enumerate(_tensors_in(held)):
                if each is tensor:
                    name = key if each is held else f"{key}_{place}"
                    return f"{path}.{name}".strip(".")
    return ""


def _tensors_in(held: Any) -> list[Any]:
    """Return an attribute, or what is in it where it is a list, tuple or dictionary."""
    return leaves(held) if isinstance(held, torch.Tensor | list | tuple | dict) else []


def like(tree: Any, found: Any) -> Any:
    """Return the structure as it was handed on: itself, unless numbers in it are others now."""
    pairs = list(found.values()) if isinstance(found, dict) else found
    own = list(tree.values()) if isinstance(tree, Mapping) else list(tree)
    if all(new is old for (_, new), old in zip(pairs, own, strict=True)):
        return tree
    if isinstance(tree, Mapping):
        return {key: new for key, (_, new) in found.items()}
    return type(tree)(new for _, new in pairs)


def renewed(change: Callable[[Any], Any], tree: Any) -> Any:
    """Return arguments with other numbers; structures without numbers stay what they are."""
    if isinstance(tree, dict):
        found = {key: renewed(change, each) for key, each in tree.items()}
        return tree if all(found[key] is each for key, each in tree.items()) else found
    if type(tree) in (list, tuple, Shape):
        several = [renewed(change, each) for each in tree]
        return tree if all(map(operator.is_, several, tree)) else type(tree)(several)
    return change(tree)


def apart(tree: Any, own: Container[int]) -> Any:
    """Return arguments in which no tensor stands twice, so that which of them a module uses can be told.

    Args:
        tree: the arguments.
        own: ids of the network's tensors, which stay what they are.
    """
    seen: set[int] = set()

    def another(leaf: Any) -> Any:
        """The tensor, or where it was seen before one that shares its numbers."""
        if not isinstance(leaf, torch.Tensor) or id(leaf) in own:
            return leaf
        again = id(leaf) in seen
        seen.add(id(leaf))
        return leaf.view_as(leaf) if again else leaf

    return renewed(another, tree)


def bound(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return name of each argument of a module's forward -> what it was given; of those it was given several, each."""
    own = signature(module.forward)
    found = own.bind(*args, **kwargs).arguments
    names: dict[str, Any] = {}
    for name, given in found.items():
        kind = own.parameters[name].kind
        if kind is Parameter.VAR_POSITIONAL:
            names |= {f"{name}_{place}": each for place, each in enumerate(given)}
        elif kind is Parameter.VAR_KEYWORD:
            names |= given
        else:
            names[name] = given
    return names


def not_given(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Name of each argument of a module's forward that is not given -> its default."""
    own = signature(module.forward).parameters
    several = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    left = [name for name, each in list(own.items())[len(args) :] if each.kind not in several and name not in kwargs]
    return {name: own[name].default for name in left if own[name].default is not Parameter.empty}
