"""Likely causes of a difference, ranked: what the signature of the blamed layer points at.

They are guesses, for where no experiment can be made (`experiments`): training steps and ONNX files. The signatures are
those that the planted bugs of `mutants/` leave. A cause is a hint for a person, never part of the verdict.
"""

from collections.abc import Callable, Iterable, Sequence

from parity_tests.harness.judge import ALONE, Verdict, blamed, holds_other
from parity_tests.harness.measurement import Kind, Measurement, Mode, Values

NORMS = ("InstanceNorm2d", "ZooInstanceNorm2d", "AdaLIN", "LIN", "SoftAdaLIN")
EPS_RATIO = 30.0  # a wrong epsilon stands this much higher on the low-spread probe
EPS_CHANGE = 1e-2  # a wrong epsilon changes the size of ordinary feature maps by less
BIAS_SHARE = 0.9


class Signature:
    """Where and how the layer of the tensor that is blamed first (`head`) differs, as far as verdicts tell."""

    def __init__(self, head: Measurement, verdicts: Sequence[Verdict]) -> None:
        direct = Mode.ONNX if head.mode is Mode.ONNX else Mode.ISOLATED
        own = [verdict for verdict in verdicts if verdict.measurement.layer == head.layer]
        bad = [verdict for verdict in own if not verdict.equal]
        alone = [verdict for verdict in bad if verdict.measurement.mode is direct]
        outputs = [verdict for verdict in alone if verdict.measurement.quantity.kind is not Kind.STATE]
        modes = {verdict.measurement.mode for verdict in bad}
        hints = next((one for one in (verdict.measurement.hints for verdict in outputs) if "ratio" in one), {})
        self.head, self.layer_type = head, head.layer_type
        self.onnx = head.mode is Mode.ONNX  # a layer of an ONNX file, seen in the run of the whole file only
        self.first = _is_first(head, verdicts)  # of the layers that are found in that file
        # whether it holds other layers, none of which differs
        self.container = holds_other(head.layer, {verdict.measurement.layer for verdict in verdicts})
        # worst multiple of the budget at its outputs, on ordinary and on low-spread input
        self.plain, self.low_spread = (_worst(outputs, values) for values in (Values.RECORDED, Values.LOW_SPREAD))
        self.only = _only_mode(own, alone)
        self.state = len(outputs) < len(alone)  # what it leaves behind (vectors, statistics) differs
        self.gradient = bool(modes & {Mode.GRADIENTS, Mode.BLOCK_GRADIENTS})
        self.weights = Mode.WEIGHTS in modes
        self.ratio = hints.get("ratio", 1.0)  # least-squares factor between port and reference
        self.ring = hints.get("ring", 0)  # pixels of the border outside of which nothing differs; 0: the inside too
        self.channel = hints.get("channel", 0.0)  # share of the squared difference constant within each channel


def _worst(outputs: Iterable[Verdict], values: Values) -> float:
    return max((one.multiple for one in outputs if one.measurement.probe.values is values), default=0.0)


def _only_mode(own: Iterable[Verdict], alone: Iterable[Verdict]) -> bool | None:
    """The only mode in which it differs, when both were run: False for eval, True for train."""
    ran, failing = ({verdict.measurement.probe.training for verdict in some} - {None} for some in (own, alone))
    return next(iter(failing)) if len(ran) > 1 and len(failing) == 1 else None


def _is_first(head: Measurement, verdicts: Iterable[Verdict]) -> bool:
    in_file = (verdict.measurement for verdict in verdicts if verdict.measurement.mode is Mode.ONNX)
    return head.mode is Mode.ONNX and head.order == min(measurement.order for measurement in in_file)


Row = tuple[Callable[[Signature], bool], str]


def _norm(s: Signature) -> bool:
    return s.layer_type in NORMS


def _batch_norm(s: Signature) -> bool:
    return s.layer_type.startswith("BatchNorm")


def _no_output(s: Signature) -> bool:
    return s.plain == s.low_spread == 0.0


def _about(*kinds: Kind, phase: str = "") -> Callable[[Signature], bool]:
    """Of a training step: whether it differs in tensors of these kinds, and in this phase if one is named."""
    return lambda s: s.head.quantity.kind in kinds and phase in ("", s.head.quantity.phase)


ROWS: tuple[Row, ...] = (
    (lambda s: s.head.probe.compiled and s.head.mode in ALONE,
     "right operation by operation: compiled to a graph (ms.jit), MindSpore computes something else"),
    (lambda s: s.weights, "the weights differ: convert again and compare the ledger"),
    (lambda s: s.gradient and _no_output(s) and not s.state,
     "forward equal, gradient not: something is detached (stop_gradient, or no gradient through a norm)"),
    (_about(Kind.CHANGE, phase="D"), "discriminator update: weight decay, Adam, rate"),
    (_about(Kind.RATE), "the learning-rate schedule is off"),
    (_about(Kind.MEAN, Kind.ROOT_MEAN_SQUARE),
     "the gradient (a loss term detached or weighted otherwise, clipping, pieces of a batch), decay, or the betas"),
    (_about(Kind.CHANGE), "the update: Adam's eps or bias correction, clipping, weight decay"),
    (_about(Kind.LOSS), "a loss term: its formula, weight, inputs, or the order of the phases"),
    (lambda s: s.onnx and s.first and s.ring == 0, "what the file is fed with: range, order of colours, layout"),
    (lambda s: _norm(s) and s.low_spread > EPS_RATIO * max(s.plain, 1.0), "epsilon of the norm"),
    (lambda s: _norm(s) and s.container, "the mix of content and style: order of inputs, soft weights"),
    (lambda s: _norm(s) and 1e-4 < s.ratio - 1 < 0.06 and s.plain > 1.5 * s.low_spread and s.channel < 0.7,
     "ratio n/(n-1): biased variance"),
    (lambda s: s.onnx and _norm(s) and abs(s.ratio - 1) < EPS_CHANGE, "epsilon of the norm"),
    (lambda s: s.layer_type == "InstanceNorm2d", "statistics over the wrong axes (batch norm), or running ones"),
    (_norm, "rho (value, or rho and 1 - rho swapped), or statistics over the wrong axes (batch norm)"),
    (lambda s: s.layer_type == "ReflectionPad2d" and s.ring > 0, "border only: padding mode"),
    (lambda s: s.layer_type == "ReflectionPad2d", "padding: sides or amount"),
    (lambda s: s.layer_type == "Upsample", "interpolation: nearest, bilinear, align_corners, or a shift"),
    (lambda s: _batch_norm(s) and s.only is False,
     "batch norm: batch statistics at inference, or its epsilon"),
    (lambda s: _batch_norm(s) and s.state, "batch norm: momentum (MindSpore's is 1 - PyTorch's)"),
    (_batch_norm, "batch norm: epsilon, or the statistics it uses"),
    (lambda s: s.layer_type == "Self_Attention", "attention: axis of the softmax, scaling, gain, or what is added"),
    (lambda s: s.layer_type == "ConvTranspose2d" and not s.weights,
     "transposed convolution: padding, output padding, a shift by one pixel, or another weight"),
    (lambda s: s.layer_type == "SpectralNorm",
     "moving spectral norm: axis of the flattened weight, or when it moves (in eval mode, too)"),
    (lambda s: s.state and s.only is False, "spectral norm: iterates in eval mode"),
    (lambda s: s.state and s.only is True, "spectral norm: number of power iterations in train mode"),
    (lambda s: s.layer_type in {"LeakyReLU", "ReLU", "PReLU"}, "activation: slope, or another activation"),
    (lambda s: s.layer_type in {"Tanh", "Sigmoid", "Softmax"}, "activation: left out, or over another axis"),
    (lambda s: s.container, "the wiring inside: pooling, order, sum, concatenation, or which weight is used"),
    (lambda s: s.channel > BIAS_SHARE, "constant within each channel: bias missing or wrong"),
    (lambda s: abs(s.ratio - 1) > 1e-3 and 0.7 < s.ratio < 3 and s.layer_type in {"Conv2d", "Linear"},
     "scale: spectral norm missing or wrong, or another weight"),
    (lambda s: s.layer_type in {"Conv2d", "Linear"}, "another weight: transposed, swapped, rounded, or stride/padding"),
    (lambda s: s.onnx, "what the file computes between the layer before it and this one"),
)  # fmt: skip


def likely_causes(verdicts: Sequence[Verdict], limit: int = 2) -> list[str]:
    """Return up to `limit` likely causes of the first difference, likeliest first; empty when equal."""
    first = next(iter(blamed(verdicts)), None)
    if first is None:
        return []
    signature = Signature(first.measurement, verdicts)
    return [cause for fits, cause in ROWS if fits(signature)][:limit]
