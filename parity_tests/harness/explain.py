"""Likely causes of a difference, ranked: what the signature of the blamed layer points at.

The signatures are those that the planted bugs of `mutations.py` leave. A cause is a hint for a person, never
part of the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from parity_tests.harness.judge import Verdict, blamed

__all__ = ["Signature", "likely_causes", "signature_of"]

NORMS = ("InstanceNorm2d", "ZooInstanceNorm2d", "AdaLIN", "LIN", "SoftAdaLIN")
EPS_RATIO = 30.0  # a wrong epsilon stands this much higher on the low-spread probe
EPS_CHANGE = 1e-2  # a wrong epsilon changes the size of ordinary feature maps by less
BIAS_SHARE = 0.9


@dataclass(frozen=True)
class Signature:
    """Where and how the blamed layer differs.

    Attributes:
        layer_type: class name of the layer.
        container: whether it holds other layers, none of which differs.
        plain, low_spread: worst multiple of the budget at its outputs, on ordinary and on low-spread input.
        eval_only, train_only: whether only one of the two modes differs, when both were run.
        state: whether what it leaves behind (vectors, statistics) differs.
        gradient: whether its gradients differ.
        weights: whether its weights differ.
        ratio: least-squares factor between port and reference.
        ring: width in pixels of the border outside of which nothing differs; 0 if the inside differs too.
        channel: share of the squared difference that is constant within each channel.
        onnx: whether it is a layer of an ONNX file, seen in the run of the whole file only.
        first: whether it is the first layer that is found in that file.
    """

    layer_type: str
    container: bool
    plain: float
    low_spread: float
    eval_only: bool
    train_only: bool
    state: bool
    gradient: bool
    weights: bool
    ratio: float
    ring: int
    channel: float
    onnx: bool
    first: bool


def signature_of(verdicts: Sequence[Verdict]) -> Signature | None:
    """Return the signature of the layer to blame, or None when nothing differs."""
    first = next(iter(blamed(verdicts)), None)
    if first is None:
        return None
    layer = first.measurement.layer
    own = [one for one in verdicts if one.measurement.layer == layer]
    bad = [one for one in own if not one.equal]
    onnx = first.measurement.mode == "onnx"
    direct = "onnx" if onnx else "isolated"
    outputs = [one for one in bad if one.measurement.mode == direct and "afterwards" not in one.measurement.tensor]
    alone = [one for one in bad if one.measurement.mode == "isolated"]
    modes, failing = ({word for one in rows for word in _mode(one)} for rows in (own, alone))
    hints = next((one.measurement.hints for one in outputs if "ratio" in one.measurement.hints), {})
    prefix = f"{layer}." if layer else ""
    return Signature(
        layer_type=first.measurement.layer_type,
        container=any(o.measurement.layer != layer and o.measurement.layer.startswith(prefix) for o in verdicts),
        plain=max((one.multiple for one in outputs if "low spread" not in one.measurement.probe), default=0.0),
        low_spread=max((one.multiple for one in outputs if "low spread" in one.measurement.probe), default=0.0),
        eval_only=len(modes) > 1 and failing == {"eval"},
        train_only=len(modes) > 1 and failing == {"train"},
        state=any("afterwards" in one.measurement.tensor for one in alone),
        gradient=any("gradients" in one.measurement.mode for one in bad),
        weights=any(one.measurement.mode == "weights" for one in bad),
        ratio=float(hints.get("ratio", 1.0)),
        ring=int(hints.get("ring", 0)),
        channel=float(hints.get("channel", 0.0)),
        onnx=onnx,
        first=onnx
        and first.measurement.order == min(o.measurement.order for o in verdicts if o.measurement.mode == direct),
    )


def _mode(verdict: Verdict) -> set[str]:
    return {"eval", "train"} & set(verdict.measurement.probe.replace(",", "").split())


Row = tuple[Callable[[Signature], bool], str]


def _is(kind: str) -> Callable[[Signature], bool]:
    return lambda one: one.layer_type.startswith(kind)


def _norm(one: Signature) -> bool:
    return one.layer_type in NORMS


def _no_output(one: Signature) -> bool:
    return one.plain == one.low_spread == 0.0


ROWS: tuple[Row, ...] = (
    (lambda s: s.weights, "the weights differ: convert again and compare the ledger"),
    (lambda s: s.gradient and _no_output(s) and not s.state,
     "forward equal, gradient not: something is detached (stop_gradient, or no gradient through a norm)"),
    (lambda s: _is("discriminator")(s) and "update" in s.layer_type, "discriminator update: weight decay, Adam, rate"),
    (lambda s: "learning rate" in s.layer_type, "the learning-rate schedule is off"),
    (lambda s: "moments" in s.layer_type, "Adam's moments: weight decay (missing or decoupled) or the betas"),
    (lambda s: "update" in s.layer_type, "the update: Adam's eps or bias correction, clipping, weight decay"),
    (lambda s: "loss" in s.layer_type, "a loss term: its formula, weight, inputs, or the order of the phases"),
    (lambda s: s.onnx and s.first and s.ring == 0, "what the file is fed with: range, order of colours, layout"),
    (lambda s: _norm(s) and s.low_spread > EPS_RATIO * max(s.plain, 1.0), "epsilon of the norm"),
    (lambda s: _norm(s) and s.container, "the mix of content and style: order of inputs, soft weights"),
    (lambda s: _norm(s) and 1e-4 < s.ratio - 1 < 0.06 and s.plain > 1.5 * s.low_spread and s.channel < 0.7,
     "ratio n/(n-1): biased variance"),
    (lambda s: s.onnx and _norm(s) and abs(s.ratio - 1) < EPS_CHANGE, "epsilon of the norm"),
    (lambda s: s.layer_type == "InstanceNorm2d", "statistics over the wrong axes (batch norm), or running ones"),
    (lambda s: _norm(s), "rho (value, or rho and 1 - rho swapped), or statistics over the wrong axes (batch norm)"),
    (lambda s: s.layer_type == "ReflectionPad2d" and s.ring > 0, "border only: padding mode"),
    (lambda s: s.layer_type == "ReflectionPad2d", "padding: sides or amount"),
    (lambda s: s.layer_type == "Upsample", "interpolation: nearest, bilinear, align_corners, or a shift"),
    (lambda s: s.layer_type.startswith("BatchNorm") and s.eval_only,
     "batch norm: batch statistics at inference, or its epsilon"),
    (lambda s: s.layer_type.startswith("BatchNorm") and s.state, "batch norm: momentum (MindSpore's is 1 - PyTorch's)"),
    (lambda s: s.layer_type.startswith("BatchNorm"), "batch norm: epsilon, or the statistics it uses"),
    (lambda s: s.layer_type == "Self_Attention", "attention: axis of the softmax, scaling, gain, or what is added"),
    (lambda s: s.layer_type == "ConvTranspose2d" and not s.weights,
     "transposed convolution: padding, output padding, a shift by one pixel, or another weight"),
    (lambda s: s.layer_type == "SpectralNorm",
     "moving spectral norm: axis of the flattened weight, or when it moves (in eval mode, too)"),
    (lambda s: s.state and s.eval_only, "spectral norm: iterates in eval mode"),
    (lambda s: s.state and s.train_only, "spectral norm: number of power iterations in train mode"),
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
    signature = signature_of(verdicts)
    if signature is None:
        return []
    return [cause for fits, cause in ROWS if fits(signature)][:limit]
