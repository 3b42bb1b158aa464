"""The same MindSpore network with other names, nested, flattened, in another order or fused: rewritten by rules."""

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mindspore import Parameter, nn, ops

Known = dict[str, Any]  # path of a layer in the network as it was written -> the layer that took its place


def _parents(cell: nn.Cell) -> Iterator[nn.Cell]:
    """Every cell that holds others and finds them as attributes or one after the other, the innermost first."""
    for _, layer in reversed(list(cell.cells_and_names())):
        if layer._cells and not isinstance(layer, nn.CellList | nn.CellDict):
            yield layer


def _rehome(cell: nn.Cell, children: Mapping[str, nn.Cell]) -> None:
    """Give a cell children under other names; its code finds those that it had as before."""
    kind, before = type(cell), dict(cell._cells) | cell.__dict__.get("_before", {})

    class Rehomed(kind):
        def __getattr__(self, name: str) -> Any:
            before = self.__dict__["_before"]
            return before[name] if name in before else super().__getattr__(name)

    Rehomed.__name__ = kind.__name__
    for name in list(cell._cells):
        del cell._cells[name]
    object.__setattr__(cell, "_before", before)
    cell.__class__ = Rehomed
    cell._cells.update(children)


def rename(cell: nn.Cell, chance: random.Random, known: Known) -> nn.Cell:
    """Every layer has another name."""
    for parent in _parents(cell):
        names = chance.sample(["alpha", "beta_", "gate", "head", "knot", "loop", "node", "part", "stem", "unit"], 10)
        own = {f"{names[place % 10]}{place}": child for place, child in enumerate(parent._cells.values())}
        _rehome(parent, own)
    return cell


def exchange(cell: nn.Cell, chance: random.Random, known: Known) -> nn.Cell:
    """Layers of one parent have each other's names."""
    for parent in _parents(cell):
        names, children = list(parent._cells), list(parent._cells.values())
        chance.shuffle(names)
        _rehome(parent, dict(zip(names, children, strict=True)))
    return cell


def reorder(cell: nn.Cell, chance: random.Random, known: Known) -> nn.Cell:
    """Layers were built in another order."""
    for parent in _parents(cell):
        own = list(parent._cells.items())
        chance.shuffle(own)
        _rehome(parent, dict(own))
    return cell


def nest(cell: nn.Cell, chance: random.Random, known: Known) -> nn.Cell:
    """Some of the layers of each parent lie in a cell of their own that is never called."""
    for parent in _parents(cell):
        own = dict(parent._cells)
        inner = nn.Cell()
        moved = [name for name in own if chance.random() < 0.7]
        inner._cells.update({name: own.pop(name) for name in moved})
        _rehome(parent, {**own, "inner": inner} if moved else own)
    return cell


def flatten(cell: nn.Cell, chance: random.Random, known: Known) -> nn.Cell:
    """All layers lie in the network itself; what held them is called, but is no layer."""
    leaves = {path: layer for path, layer in cell.cells_and_names() if path and not layer._cells}
    for parent in _parents(cell):
        if parent is not cell and not parent._params:
            _rehome(parent, {})
    kept = {path: layer for path, layer in cell.cells_and_names() if path and layer._params and layer._cells}
    _rehome(cell, {path.replace(".", "_"): layer for path, layer in {**leaves, **kept}.items()})
    return cell


def wrap(cell: nn.Cell, chance: random.Random, known: Known) -> nn.Cell:
    """The network lies in another one that calls it."""

    class Wrapped(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.net = cell

        def construct(self, *args: Any) -> Any:
            return self.net(*args)

    return Wrapped().set_train(False)


class ConvBias(nn.Cell):
    """A convolution that is written with functions."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = Parameter(conv.weight), Parameter(conv.bias)
        self.run = conv.conv2d

    def construct(self, x: Any) -> Any:
        return ops.bias_add(self.run(x, self.weight), self.bias)


class Biased(nn.Cell):
    """A convolution in a layer that adds its bias."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.bias = Parameter(conv.bias)
        conv.bias, conv.has_bias = None, False
        self.conv = conv

    def construct(self, x: Any) -> Any:
        return ops.bias_add(self.conv(x), self.bias)


def _instead(made: Callable[[nn.Conv2d], nn.Cell]) -> Callable[[nn.Cell, random.Random, Known], nn.Cell]:
    def rule(cell: nn.Cell, chance: random.Random, known: Known) -> nn.Cell:
        """Put another layer in the place of every convolution with a bias."""
        paths = {id(layer): path for path, layer in known.items()}
        for parent in _parents(cell):
            for name, child in list(parent._cells.items()):
                if type(child) is nn.Conv2d and child.has_bias:
                    other = made(child)
                    known[paths[id(child)]] = other
                    parent._cells[name] = other
            if isinstance(parent, nn.SequentialCell):
                parent.cell_list = list(parent._cells.values())
        return cell

    return rule


def name_sequences(cell: nn.Cell, chance: random.Random, known: Known) -> nn.Cell:
    """Sequences are networks with named layers."""

    class Chain(nn.Cell):
        def __init__(self, layers: list[nn.Cell]) -> None:
            super().__init__()
            for place, layer in enumerate(layers):
                setattr(self, f"{type(layer).__name__.lower()}_{place + 1}", layer)

        def construct(self, x: Any) -> Any:
            for layer in self._cells.values():
                x = layer(x)
            return x

    for parent in _parents(cell):
        for name, child in list(parent._cells.items()):
            if isinstance(child, nn.SequentialCell):
                parent._cells[name] = Chain(list(child._cells.values()))
        if isinstance(parent, nn.SequentialCell):
            parent.cell_list = list(parent._cells.values())
    return cell


def functional(cell: nn.Cell, chance: random.Random, known: Known) -> nn.Cell:
    """What has no weights is a function, but for dropout, which would not learn of the mode."""
    for parent in _parents(cell):
        kept = {name: child for name, child in parent._cells.items() if _has_weights_or_mode(child)}
        _rehome(parent, kept)
    return cell


def _has_weights_or_mode(cell: nn.Cell) -> bool:
    return any(True for _ in cell.get_parameters()) or isinstance(cell, nn.Dropout)


RULES: dict[str, tuple[Callable[[nn.Cell, random.Random, Known], nn.Cell], ...]] = {
    "renamed": (rename,),
    "names exchanged": (exchange,),
    "nested": (nest,),
    "flattened": (flatten,),
    "reordered": (reorder, exchange, rename),
    "functions for layers": (functional, rename),
    "convolution and bias in one function": (_instead(ConvBias), rename),
    "bias outside of the convolution": (_instead(Biased), rename),
    "sequences with names": (name_sequences, exchange),
    "wrapped, nested and reordered": (nest, reorder, wrap),
}


def variant(cell: nn.Cell, name: str, seed: int = 0) -> tuple[nn.Cell, dict[str, str]]:
    """Rewrite a network by the rules of a name.

    Returns:
        The network, and path of each layer with tensors before -> after.
    """
    known: Known = {path: layer for path, layer in cell.cells_and_names() if layer._params}
    for rule in RULES[name]:
        cell = rule(cell, random.Random(f"{name}{seed}"), known)
    places = {id(layer): path for path, layer in cell.cells_and_names()}
    return cell, {path: places[id(layer)] for path, layer in known.items()}
