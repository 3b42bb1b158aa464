"""What a measurement is: which tensor of which layer, on which input, in which mode, and how far off it is.

Words for people are made of these types by `report.words`, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import prod
from typing import Any

from parity_tests.tolerances import Mode

# why a layer is compared within what holds it
NOT_COMPARABLE = "not comparable alone: the port has no such layer, or one that is called otherwise"
OTHER_LAYOUT = "not comparable alone: the port's layer is fed another layout"


class Kind(str, Enum):
    """What a tensor is to its layer."""

    WEIGHT = "weight"
    OUTPUT = "output"
    STATE = "state"  # what a run leaves behind: a spectral norm's vector, a running statistic
    INPUT_GRADIENT = "gradient of input"
    GRADIENT = "gradient"  # of a parameter
    DROPOUT = "dropout"  # what a layer that leaves out random elements does, whatever they are
    LOSS = "loss"
    RATE = "learning rate"
    CHANGE = "change"  # of a weight or a state since training began
    MEAN = "mean"  # Adam's first moment
    REFUSAL = "refusal"  # of numbers that are not finite, before a weight is moved
    ROOT_MEAN_SQUARE = "root mean square"  # of Adam's second: rounding of a gradient is as large in it as in the first


class Rest(str, Enum):
    """What did not move in a training run, so that its bugs cannot show."""

    RATE = "rate"  # the learning rate of a phase was constant
    POOL = "pool"  # an image pool handed out nothing older
    LOWER_LIMIT = "lower limit"  # no weight was raised to a limit after an update
    UPPER_LIMIT = "upper limit"  # no weight was lowered to one
    TERM = "term"  # a loss term was 0 in every step
    SETTING = "setting"  # a setting that switches, or is 0 or 1, had one value only
    BATCH = "batch"  # the batch was a single picture
    SQUARE = "square"  # pictures were square
    LATER_STEPS = "later steps"  # there was one step only
    ACCUMULATION = "accumulation"  # no batch was worked through in pieces
    RESUMING = "resuming"  # the run was not taken up from a checkpoint
    WORKERS = "workers"  # one process trained, whatever number it was told


@dataclass(frozen=True)
class Resting:
    """One thing that did not move in a training run."""

    kind: Rest
    name: str = ""  # of the phase, pool, loss term or setting
    value: str = ""  # of the setting


class Beyond(str, Enum):
    """A side of a kink."""

    BELOW = "below"
    ABOVE = "above"


@dataclass(frozen=True)
class Unreached:
    """A side of a kink or clamp on which no number of a run lay, so that a bug there cannot show."""

    operation: str  # PyTorch's name, e.g. "relu6"
    layer: str  # in which it is
    kink: float  # where it bends
    side: Beyond


@dataclass(frozen=True)
class Quantity:
    """Which tensor of a layer."""

    kind: Kind  # what it is
    name: str = ""  # of the weight, state, loss term or named output; "" where `index` or the kind says all
    index: int | None = None  # which input or output, None if there is only one or it has a name
    call: int = 0  # which call of the layer in the run, from 0
    of: int | None = None  # whose output's gradient it is, where the layer has several
    phase: str = ""  # of the training step, e.g. "D" or "G"; "" outside of training.


class Values(str, Enum):
    """What numbers a layer was fed: those of the run, or these made from them."""

    RECORDED = "as recorded"
    LOW_SPREAD = "low spread"  # shrunk to a spread at which a wrong epsilon shows
    LARGE = "large"  # twenty times as large or more, beyond clamps and into saturation
    OFFSET = "offset"  # a low spread around a large mean, like white paper
    TIES = "ties"  # a few different numbers with exact zeros, and one channel of a single number


@dataclass(frozen=True)
class Probe:
    """What the networks were run on."""

    # height and width of the pictures, () for vectors, None where nothing was run or a training step was
    size: tuple[int, ...] | None = None
    batch: int | None = None  # number of pictures, None where it is not known
    training: bool | None = None  # whether the networks were in train mode, None where they have no modes
    values: Values = Values.RECORDED  # what the layer was fed
    step: int | None = None  # number of the training step, from 1
    call: int | None = None  # which run of several in a row, from 1
    changed: bool = False  # whether all weights were given other values since the run before
    compiled: bool = False  # whether the port ran as a compiled graph

    @classmethod
    def of(cls, inputs: Sequence[Any], training: bool | None = None) -> Probe:
        """The probe that a network's inputs make, the first of them pictures [N, C, H, W] or vectors."""
        shape = tuple(inputs[0].shape) if len(inputs) else ()
        return cls(shape[2:] if len(shape) == 4 else (), shape[0] if shape else None, training)

    @property
    def pixels(self) -> int:
        """Number of pixels of a picture; 0 where there are none."""
        return prod(self.size) if self.size else 0


@dataclass(frozen=True)
class Measurement:
    """One tensor of one layer, measured on both sides against float64 PyTorch."""

    mode: Mode  # how it was measured; the row of its budget
    probe: Probe  # on which input
    layer: str  # dotted path of the layer ("" is the network itself)
    layer_type: str  # its class name, or the runtime that ran the whole of an exported file; "" of training steps
    quantity: Quantity  # which of its tensors
    order: int  # position in the order of computation
    count: int = 0  # number of elements
    scale: float = 0.0  # root mean square of the true values, or of the terms they are summed from, if larger
    # root-mean-square error of PyTorch in `dtype`, the largest of several runs whose input was moved by about one unit
    # in the last place
    noise: float = 0.0
    error: float = 0.0  # root-mean-square error of the port
    difference: float = 0.0  # largest |port - PyTorch in `dtype`|
    relative: float = 0.0  # ||port - PyTorch|| / ||PyTorch||, both in `dtype`
    input_error: float | None = None  # the port's error at the layer's input as a multiple of the noise there, if known
    problem: str = ""  # why the tensor could not be compared (shape, missing, not a number), else ""
    dtype: str = "float32"  # precision of the port and of the reference's own run
    not_run: str = ""  # why the framework cannot run the layer in that precision on that device, else ""
    not_finite: int = 0  # elements that are NaN or infinite at the same places on both sides, left out of the numbers
    undecided: float = 0.0  # share of the elements that rounding decides
    # whether it is the change of a weight whose gradient cancels to nothing but rounding, such as that of a bias before
    # an instance norm: no output and no loss rests on it
    idle: bool = False
    # known bug -> root-mean-square change that it would make here
    effects: Mapping[str, float] = field(default_factory=dict)
    # facts about the difference that point at a cause, e.g. {"ratio": 1.016}; no verdict depends on them.
    hints: Mapping[str, float] = field(default_factory=dict)

    @property
    def missing(self) -> bool:
        """Whether it was not run, and is not compared within what holds it or under another name either."""
        within = {NOT_COMPARABLE, OTHER_LAYOUT}
        return bool(self.not_run) and self.not_run not in within and self.mode is not Mode.WEIGHTS
