"""What Adam makes of gradients, also where it is changed: bugs of an optimiser; see `training_causes`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from parity_tests.harness.measurement import Kind
from parity_tests.harness.rewrites import Cause, Change
from parity_tests.harness.sides.base import Array
from parity_tests.harness.training import State
from parity_tests.harness.training_noise import Key, Results

NONE_ADDED = 1e-4  # of the right share: less is none


@dataclass(frozen=True)
class Update:
    """Adam's update of a weight from the moments after it."""

    rate: float
    beta1: float
    beta2: float
    eps: float
    number: float  # of updates so far, infinite where nothing is corrected
    first: bool = True  # whether the mean is corrected
    second: bool = True  # whether the mean square is

    def change(self, mean: Array, root: Array) -> Array:
        """Change of a weight, for the mean and the root of the mean square."""
        first = 1 - self.beta1**self.number if self.first else 1.0
        second = np.sqrt(1 - self.beta2**self.number) if self.second else 1.0
        return np.asarray(-self.rate / first * mean / (root / second + self.eps))

    def early(self, mean: Array, root: Array) -> Array:
        """The same with eps added before the correction."""
        first, second = 1 - self.beta1**self.number, np.sqrt(1 - self.beta2**self.number)
        return np.asarray(-self.rate * second / first * mean / (root + self.eps))

    def inside(self, mean: Array, root: Array) -> Array:
        """The same with eps under the root."""
        first, second = 1 - self.beta1**self.number, np.sqrt(1 - self.beta2**self.number)
        return np.asarray(-self.rate / first * mean / np.sqrt(np.square(root / second) + self.eps))

    def signed(self, mean: Array, root: Array) -> Array:
        """Gradient descent in place of Adam."""
        return np.asarray(-self.rate * mean / (1 - self.beta1**self.number))


@dataclass(frozen=True)
class Mixture:
    """Shares of the old moment and of the gradient, or its square, by which all weights' moments fit best."""

    # kept, added: shares; right: of the old one, as it should be
    kept: float
    added: float
    right: float
    made: Results  # the moments that they make, in the form in which they are compared

    @classmethod
    def of(cls, port: Results, wanted: Results, old: Results, beta: float, power: int) -> "Mixture":
        """Fit the port's moments.

        Args:
            port: what it made.
            wanted: the right ones.
            old: those before, as the optimiser keeps them.
            beta: the share of these that stays.
            power: 1 for means, 2 for roots of mean squares, of which the optimiser keeps the squares.
        """
        new = {key: (value**power - beta * old[key]) / (1 - beta) for key, value in wanted.items()}
        keys = [key for key in wanted if key in port and port[key].shape == wanted[key].shape]
        first, second, found = (
            np.concatenate([np.ravel(values[key]) for key in keys] or [np.zeros(1)]).astype(float)
            for values in (old, new, {key: np.float64(port[key]) ** power for key in keys})
        )
        kept, added = np.linalg.lstsq(np.stack([first, second], 1), found, rcond=None)[0]
        made = {key: kept * old[key] + added * new[key] for key in wanted}
        roots = {key: np.sqrt(value.clip(0)) if power > 1 else value for key, value in made.items()}
        return cls(float(kept), float(added), beta, roots)

    def __str__(self) -> str:
        if abs(self.added) < NONE_ADDED * (1 - self.right):
            return (
                "left as it was" if abs(self.kept - 1) < NONE_ADDED or not self.kept else f"{self.kept:.4g} × the old"
            )
        return f"{self.kept:.4g} × the old + {self.added:.4g} × the new"


def updates(right: Update) -> Iterator[tuple[Cause, Callable[[Array, Array], Array]]]:
    """Yield other updates as causes."""

    def of(words: str) -> Cause:
        return Cause(Change.UPDATE, words)

    yield of("without bias correction"), replace(right, first=False, second=False).change
    yield of("mean without bias correction"), replace(right, first=False).change
    yield of("mean square without bias correction"), replace(right, second=False).change
    yield of("eps before the bias correction"), right.early
    yield of("eps under the root"), right.inside
    yield of("without the mean square"), right.signed
    yield of("left out"), lambda mean, root: np.zeros_like(mean)
    for other in (-1, 1):
        if right.number + other > 0:
            yield of(f"number of updates {other:+d}"), replace(right, number=right.number + other).change
    for power in (-8, -6, -4, -3, -2, -1, 1, 2, 3, 4, 5):
        yield of(f"eps × {10.0**power:g}"), replace(right, eps=right.eps * 10.0**power).change
    yield of("eps negative"), replace(right, eps=-right.eps).change


def moments_of(results: Results, change: Key) -> tuple[Array, Array] | None:
    """The mean and the root of the mean square behind the change of a weight, None where it has none."""
    layer, quantity = change
    mean, root = (results.get((layer, replace(quantity, kind=kind))) for kind in (Kind.MEAN, Kind.ROOT_MEAN_SQUARE))
    return None if mean is None or root is None else (np.asarray(mean, float), np.asarray(root, float))


def part_and_name(key: Key) -> tuple[str, str]:
    """The network of a weight, and its name there."""
    layer, quantity = key
    part, _, name = f"{layer}.{quantity.name}".partition(".")
    return part, name


def weight_of(state: State, key: Key) -> Array | None:
    """The weight whose change a tensor is, at the start of the step."""
    part, name = part_and_name(key)
    return state.weights[part].get(name)


def factor_between(port: Results, truth: Mapping[Key, Array]) -> float:
    """The factor between all tensors of the port and the right ones."""
    same = {key: value for key, value in truth.items() if key in port and port[key].shape == value.shape}
    known = [(np.asarray(port[key], float).ravel(), value.ravel()) for key, value in same.items()]
    power = sum(float(np.vdot(value, value)) for _, value in known)
    return sum(float(np.vdot(found, value)) for found, value in known) / power if power else 0.0


def decayed(
    port: Results, wanted: Mapping[Key, Array], weights: Mapping[Key, Array | None], rate: float
) -> tuple[float, float] | None:
    """The share of each weight that the update takes away, too, per unit of the rate, and the distance it leaves."""
    pairs = [(np.float64(port[key]) - wanted[key], np.float64(w)) for key, w in weights.items() if w is not None]
    power = sum(float(np.vdot(weight, weight)) for _, weight in pairs)
    if not power or not rate:
        return None
    share = -sum(float(np.vdot(extra, weight)) for extra, weight in pairs) / power / rate
    made = {key: wanted[key] - (0.0 if w is None else share * rate * w) for key, w in weights.items()}
    return share, distance(port, made)


def distance(found: Results, wanted: Mapping[Key, Array]) -> float:
    """Root of all squared differences, each kind as a share of its size; infinite where a tensor is absent."""
    errors: dict[Kind, list[float]] = {}
    for key, value in wanted.items():
        own = found.get(key)
        if own is None or own.shape != value.shape:
            return float("inf")
        error, size = (float(np.sum(np.square(x))) for x in (np.float64(own) - value, np.float64(value)))
        kept = errors.setdefault(key[1].kind, [0.0, 0.0])
        kept[0] += error
        kept[1] += size
    return max((np.sqrt(error / size) if size else float(error > 0) for error, size in errors.values()), default=0.0)
