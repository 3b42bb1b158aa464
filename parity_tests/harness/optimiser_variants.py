"""Optimisers of PyTorch as other frameworks, or a mistake, make them: other settings, and other formulas.

MindSpore 2.x: `nn.Adam` adds eps before the bias correction (v1 of Kingma & Ba's paper), `nn.AdamWeightDecay` corrects
nothing, `nn.RMSProp` begins at a mean square of 1 and has eps under the root, as `nn.Adagrad` has.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

SCALES = (0.0, 0.1, 0.5, 2.0, 10.0)  # of any setting
VALUES: Mapping[str, tuple[float, ...]] = {  # of a setting, in place of its own
    "momentum": (0.0, 0.5, 0.9, 0.99),
    "alpha": (0.9, 0.99, 0.999),
    "rho": (0.9, 0.95, 0.99),
    "weight_decay": (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 0.1),
    "eps": tuple(10.0**-power for power in (10, 8, 7, 6, 5, 4, 3, 16)),
    "lr_decay": (0.0,),
}
BETAS = ((0.0, 0.5, 0.9, 0.99), (0.0, 0.9, 0.99, 0.999))
SWITCHES = ("nesterov", "amsgrad", "centered", "maximize")

Change = Callable[[Any], Any]  # makes of an optimiser another one; the same one where only its settings change
Variant = tuple[str, Change]
Formula = Callable[[Any, Any, Any, Any, int], Any]  # weight, gradient, settings, state, number -> change of the weight


def variants(optimizer: Any) -> Iterator[list[Variant]]:
    """Yield names of variants of a torch.optim.Optimizer, and what makes them: settings or formulas, then both."""
    settings, formulas = list(_settings(optimizer)), list(_formulas(optimizer))
    yield settings + formulas
    yield [
        (f"{other}, {one}", partial(_both, changed, made))
        for (one, changed), (other, made) in product(settings, formulas)
    ]


def _both(first: Change, second: Change, optimizer: Any) -> Any:
    return second(first(optimizer))


def _settings(optimizer: Any) -> Iterator[Variant]:
    group = optimizer.param_groups[0]
    for name, value in group.items():
        if name in SWITCHES and isinstance(value, bool):
            yield f"{name} {not value}", _with(name, not value)
        elif name in VALUES and isinstance(value, float | int):
            others = [*VALUES[name], *(value * scale for scale in SCALES)]
            yield from (
                (f"{name} {it:g} for {value:g}", _with(name, it)) for it in dict.fromkeys(others) if it != value
            )
        elif name == "dampening":
            yield from ((f"dampening {it:g} for {value:g}", _with(name, it)) for it in (0.0, group["momentum"]))
    if "betas" in group:
        yield from _betas(tuple(group["betas"]))
    yield from ((f"rate × {scale:g}", _rate(scale)) for scale in SCALES)


def _betas(own: tuple[float, ...]) -> Iterator[Variant]:
    for place, values in enumerate(BETAS):
        others = ((it, (*own[:place], it, *own[place + 1 :])) for it in values if it != own[place])
        yield from ((f"beta {place + 1} {it:g} for {own[place]:g}", _with("betas", betas)) for it, betas in others)


def _with(name: str, value: Any) -> Change:
    def change(optimizer: Any) -> Any:
        """Give every group the setting."""
        for group in optimizer.param_groups:
            group[name] = value
        return optimizer

    return change


def _rate(scale: float) -> Change:
    def change(optimizer: Any) -> Any:
        """Give every group another rate."""
        optimizer.rate = scale
        return optimizer

    return change


def _formulas(optimizer: Any) -> Iterator[Variant]:
    kind = next((name for name in FORMULAS if name in {base.__name__ for base in type(optimizer).__mro__}), None)
    for words, formula in FORMULAS[kind] if kind else ():
        yield words, partial(_Written, formula=formula)


class _Written:
    """An optimiser whose update is written out as a formula, with the weights and settings of another one."""

    def __init__(self, optimizer: Any, formula: Formula) -> None:
        self.param_groups, self._formula = optimizer.param_groups, formula
        self._states: dict[int, dict[str, Any]] = {}
        self._number = 0

    def step(self) -> None:
        """Change the weights that have a gradient."""
        self._number += 1
        for group in self.param_groups:
            for value in group["params"]:
                if value.grad is not None:
                    state = self._states.setdefault(id(value), {})
                    value.data += self._formula(value.data, value.grad, group, state, self._number)


@dataclass(frozen=True)
class _Adam:
    """Adam's update."""

    eps: str = "outside"  # or "early": before the bias correction; or "inside": under the root
    corrected: tuple[bool, bool] = (True, True)  # whether the mean is, and the mean square
    decoupled: bool = False  # whether weights decay by themselves, as in AdamW

    def __call__(self, weight: Any, gradient: Any, group: Any, state: Any, number: int) -> Any:
        decay, rate, (first, second) = group["weight_decay"], group["lr"], group["betas"]
        if not self.decoupled:
            gradient = gradient + decay * weight
        mean = state["mean"] = first * state.get("mean", 0.0) + (1 - first) * gradient
        square = state["square"] = second * state.get("square", 0.0) + (1 - second) * gradient**2
        one, two = (1 - beta**number if yes else 1.0 for beta, yes in zip((first, second), self.corrected, strict=True))
        if self.eps == "early":
            root = (square**0.5 + group["eps"]) / two**0.5
        elif self.eps == "inside":
            root = (square / two + group["eps"]) ** 0.5
        else:
            root = (square / two) ** 0.5 + group["eps"]
        return -rate * mean / one / root - (rate * decay * weight if self.decoupled else 0.0)


@dataclass(frozen=True)
class _RMSprop:
    """RMSprop's update."""

    start: float = 0.0  # of the mean square
    inside: bool = False  # whether eps is under the root

    def __call__(self, weight: Any, gradient: Any, group: Any, state: Any, number: int) -> Any:
        gradient = gradient + group["weight_decay"] * weight
        share = group["alpha"]
        square = state["square"] = share * state.get("square", self.start) + (1 - share) * gradient**2
        if group["centered"]:
            mean = state["mean"] = share * state.get("mean", 0.0) + (1 - share) * gradient
            square = square - mean**2
        step = gradient / _root(square, group["eps"], self.inside)
        moved = state["moved"] = group["momentum"] * state.get("moved", 0.0) + step
        return -group["lr"] * moved


@dataclass(frozen=True)
class _Adagrad:
    """Adagrad's update."""

    start: float | None = None  # of the sum of squares; None: as it is set
    inside: bool = False  # whether eps is under the root

    def __call__(self, weight: Any, gradient: Any, group: Any, state: Any, number: int) -> Any:
        gradient = gradient + group["weight_decay"] * weight
        start = group["initial_accumulator_value"] if self.start is None else self.start
        total = state["total"] = state.get("total", start) + gradient**2
        rate = group["lr"] / (1 + (number - 1) * group["lr_decay"])
        return -rate * gradient / _root(total, group["eps"], self.inside)


def _root(square: Any, eps: float, inside: bool) -> Any:
    return (square + eps) ** 0.5 if inside else square**0.5 + eps


EARLY, INSIDE = "eps before the bias correction", "eps under the root"
FORMULAS: Mapping[str, tuple[tuple[str, Formula], ...]] = {  # the first name that a class of the optimiser has
    "AdamW": (
        (EARLY, _Adam("early", decoupled=True)),
        (INSIDE, _Adam("inside", decoupled=True)),
        ("without bias correction", _Adam(corrected=(False, False), decoupled=True)),
        ("mean without bias correction", _Adam(corrected=(False, True), decoupled=True)),
        ("mean square without bias correction", _Adam(corrected=(True, False), decoupled=True)),
        ("weight decay added to the gradient", _Adam()),
        (f"weight decay added to the gradient, {EARLY}", _Adam("early")),
    ),
    "Adam": (
        (EARLY, _Adam("early")),
        (INSIDE, _Adam("inside")),
        ("without bias correction", _Adam(corrected=(False, False))),
        ("mean without bias correction", _Adam(corrected=(False, True))),
        ("mean square without bias correction", _Adam(corrected=(True, False))),
        ("weight decay apart from the gradient", _Adam(decoupled=True)),
        (f"weight decay apart from the gradient, {EARLY}", _Adam("early", decoupled=True)),
    ),
    "RMSprop": (
        (INSIDE, _RMSprop(inside=True)),
        ("mean square begins at 1", _RMSprop(1.0)),
        (f"mean square begins at 1, {INSIDE}", _RMSprop(1.0, inside=True)),
    ),
    "Adagrad": (
        (INSIDE, _Adagrad(inside=True)),
        ("sum of squares begins at 0.1", _Adagrad(0.1)),
        ("sum of squares begins at 0", _Adagrad(0.0)),
    ),
}
