"""Verdicts: a measurement against its budget. Nothing is measured here, so saved results can be judged again."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from parity_tests.harness.measurement import Kind, Measurement, Mode
from parity_tests.tolerances import BLIND_SHARE, BUDGETS, FLOOR_UNITS, KINK_SHARE, UNDECIDED_SHARE, Budget

ALONE = {Mode.ISOLATED, Mode.GRADIENTS, Mode.BLOCK_GRADIENTS}
JUMPING = {Mode.BLOCK_GRADIENTS, Mode.TRAINING}  # where kinks lie between what is fed and what is compared
JUMPS = {Kind.GRADIENT, Kind.INPUT_GRADIENT, Kind.MEAN, Kind.ROOT_MEAN_SQUARE, Kind.CHANGE}
Move = tuple[int, int]  # of the numbers that a run starts from: seed, units in the last place
UNMOVED: Move = (0, 0)
# runs at most, the smallest moves first: an element of photo2cartoon's discriminator fell on the other side in three of
# eight runs from numbers that were moved by four units, in none of three from those moved by one
MOVES: tuple[Move, ...] = ((1, 1), (2, 1), *((seed, units) for seed in (1, 2, 3) for units in (4, -4)))


class Outcome(str, Enum):
    """How a comparison ends."""

    EQUAL = "equal"
    DIFFERENT = "different"
    CANNOT_TELL = "cannot tell"  # nothing is out of budget, but too much could not be judged

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Verdict:
    """A measurement with its budget."""

    measurement: Measurement  # the numbers
    budget: float  # largest error that counts as equal
    equal: bool  # whether the port is within it; also true of what was not run, see `measurement.not_run`
    # True when the budget is so wide that a wrong port could be within it too, or rounding decides most of the elements
    blind: bool = False

    @property
    def unproven(self) -> bool:
        """Whether a bug could hide in it that would matter to an output or a loss."""
        return self.blind and not self.measurement.idle

    @property
    def multiple(self) -> float:
        """The port's error as a multiple of its budget; infinite when it could not be compared."""
        if self.measurement.problem:
            return float("inf")
        if self.budget == 0.0:
            return 0.0 if self.measurement.error == 0.0 else float("inf")
        return self.measurement.error / self.budget


def judge(measurement: Measurement, budgets: Mapping[Mode, Budget] = BUDGETS) -> Verdict:
    """Judge one measurement by the budget of its mode; pixels of the input widen it where the row says so."""
    row = budgets[measurement.mode]
    floor = row.floor + row.floor_per_pixel * measurement.probe.pixels
    budget = row.factor * measurement.noise + floor * FLOOR_UNITS[measurement.dtype] * measurement.scale
    equal = not measurement.problem and measurement.error <= budget
    wide = measurement.error > 0 and budget > BLIND_SHARE * measurement.scale
    blind = equal and (wide or measurement.undecided > BLIND_SHARE)
    return Verdict(measurement, budget, equal, blind)


class Kinks:
    """Judges a gradient that is a little out of its budget again, on numbers moved by units in the last place.

    Where rounding carries a single element across a kink, such as the sign in a loss of absolute values or a ReLU deep
    inside, the gradient of every layer before it jumps, maybe in none of the reference's own runs. A right port is
    within its budgets again when its numbers start a little away and the element falls on the other side; a bug stays
    where it is.
    """

    def __init__(self) -> None:
        self._wrong = False  # whether a tensor stayed out of its budget

    def judged_again(self, measured: Measurement, moved: Callable[[Move], Measurement | None]) -> Measurement:
        """The measurement of the first moved run within its budget, else `measured` itself.

        Args:
            measured: on the run that was not moved.
            moved: measures the same tensor on a run that is moved; None: it cannot be run again.
        """
        if self._wrong or judge(measured).equal or not _could_be_a_kink(measured):
            return measured
        for move in MOVES:
            other = moved(move)
            if other and judge(other).equal and not other.not_run:
                return other
        self._wrong = True
        return measured


def _could_be_a_kink(measured: Measurement) -> bool:
    small = not measured.problem and measured.error <= KINK_SHARE * measured.scale
    return small and measured.quantity.kind in JUMPS and measured.mode in JUMPING


def judge_all(measurements: Iterable[Measurement], budgets: Mapping[Mode, Budget] = BUDGETS) -> list[Verdict]:
    """Judge many measurements."""
    return [judge(measurement, budgets) for measurement in measurements]


def outcome(verdicts: Sequence[Verdict]) -> Outcome:
    """Return how a comparison ends, by the share of its tensors that are judged where they were run."""
    if not all(verdict.equal for verdict in verdicts):
        return Outcome.DIFFERENT
    undecided = sum(verdict.unproven or verdict.measurement.missing for verdict in verdicts)
    return Outcome.CANNOT_TELL if undecided > UNDECIDED_SHARE * len(verdicts) else Outcome.EQUAL


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return how several comparisons end together."""
    found = set(outcomes)
    return next((one for one in (Outcome.DIFFERENT, Outcome.CANNOT_TELL) if one in found), Outcome.EQUAL)


def blamed(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts to blame, worst evidence first in the order of computation.

    Wrong weights come first. Then, among layers that were fed the reference's own input, the innermost
    ones: a layer that fails while a layer inside it fails too only passes the fault on. If no such layer
    fails, the first one out of budget in the whole network is returned.
    """
    failing = [verdict for verdict in verdicts if not verdict.equal]
    weights = [verdict for verdict in failing if verdict.measurement.mode is Mode.WEIGHTS]
    if weights:
        return weights
    alone = [verdict for verdict in failing if verdict.measurement.mode in ALONE]
    layers = {verdict.measurement.layer for verdict in alone}
    innermost = [verdict for verdict in alone if not holds_other(verdict.measurement.layer, layers)]
    chosen = innermost or failing
    return sorted(chosen, key=lambda verdict: (verdict.measurement.order, -verdict.multiple))


def blind_spots(verdicts: Sequence[Verdict]) -> dict[str, list[str]]:
    """Return bug -> layers where no probe of this run could have seen it, although it is a bug of such layers."""
    seen: dict[tuple[str, str], bool] = {}
    for verdict in verdicts:
        for bug, effect in verdict.measurement.effects.items():
            key = (bug, verdict.measurement.layer)
            seen[key] = seen.get(key, False) or effect > verdict.budget
    found: dict[str, list[str]] = {}
    for (bug, layer), visible in seen.items():
        if not visible:
            found.setdefault(bug, []).append(layer)
    return found


def holds_other(layer: str, layers: Iterable[str]) -> bool:
    """Whether one of the other layers lies inside a layer."""
    prefix = f"{layer}." if layer else ""
    return any(other != layer and other.startswith(prefix) for other in layers)
