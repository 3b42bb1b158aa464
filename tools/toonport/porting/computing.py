"""Rules for layers that sum up, norm or change each number: how each type of torch.nn is constructed in MindSpore.

The traps in which both differ are said where a rule goes round them.
"""

from typing import Any

from torch import nn

from toonport.porting.made import Made, Optional, Raw, layer
from toonport.porting.nets import one_of, same_padding
from toonport.porting.registry import LayerRule, Shapes, refuse_unless, registering, torch_name

RULES: dict[type, LayerRule] = {}
rule = registering(RULES)


def _rows(m: Any) -> tuple[int, ...]:
    """PyTorch's padding as rows before and after on each axis."""
    if isinstance(m.padding, str):
        return same_padding(m.kernel_size, m.stride, m.dilation, m.padding)
    return tuple(rows for each in m.padding for rows in (each, each))


def _padding(m: Any) -> Any:
    """PyTorch's padding as MindSpore's `padding` with pad_mode="pad"."""
    series = len(m.kernel_size) == 1 and not isinstance(m.padding, str)
    return m.padding[0] if series else one_of(_rows(m))


def _convolution(callee: str, m: Any, padding: Any) -> Made:
    """MindSpore's defaults are no bias and padding "same"."""
    return layer(
        callee,
        ("in_channels", m.in_channels),
        ("out_channels", m.out_channels),
        ("kernel_size", one_of(m.kernel_size)),
        stride=Optional(one_of(m.stride), 1),
        pad_mode=Raw('"pad"'),
        padding=Optional(padding, 0),
        dilation=Optional(one_of(m.dilation), 1),
        group=Optional(m.groups, 1),
        has_bias=Optional(m.bias is not None, False),
    )


@rule(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def _conv(m: Any, shapes: Shapes) -> Made:
    if m.padding_mode == "zeros":
        return _convolution(f"nn.Conv{len(m.kernel_size)}d", m, _padding(m))
    of_pictures = isinstance(m, nn.Conv2d) and m.padding_mode in {"reflect", "replicate", "circular"}
    refuse_unless(of_pictures, f"{torch_name(m)}: padding_mode={m.padding_mode}")
    above, below, left, right = _rows(m)
    return layer(
        "PaddedConv2d",
        ("in_channels", m.in_channels),
        ("out_channels", m.out_channels),
        ("kernel_size", one_of(m.kernel_size)),
        ("rows", (left, right, above, below)),
        ("mode", m.padding_mode),
        stride=Optional(one_of(m.stride), 1),
        dilation=Optional(one_of(m.dilation), 1),
        group=Optional(m.groups, 1),
        has_bias=Optional(m.bias is not None, False),
    )


@rule(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def _conv_transpose(m: Any, shapes: Shapes) -> Made:
    """MindSpore's own output_padding leaves zeros in the last rows: they are less padding there, by definition."""
    pads = tuple(rows for p, more in zip(m.padding, m.output_padding, strict=True) for rows in (p, p - more))
    refuse_unless(min(pads) >= 0, f"{torch_name(m)}: output_padding above padding")
    refuse_unless(len(pads) == 4 or not any(m.output_padding), f"{torch_name(m)}: output_padding")
    padding = one_of(m.padding) if len(pads) == 2 else one_of(pads)
    return _convolution(f"nn.Conv{len(m.kernel_size)}dTranspose", m, padding)


@rule(nn.Linear)
def _linear(m: Any, shapes: Shapes) -> Made:
    bias = Optional(m.bias is not None, True)
    return layer("nn.Dense", ("in_channels", m.in_features), ("out_channels", m.out_features), has_bias=bias)


@rule(nn.Bilinear)
def _bilinear(m: Any, shapes: Shapes) -> Made:
    first, second, out = m.in1_features, m.in2_features, m.out_features
    bias = Optional(m.bias is not None, True)
    return layer("nn.BiDense", ("in1_channels", first), ("in2_channels", second), ("out_channels", out), has_bias=bias)


@rule(nn.Embedding)
def _embedding(m: Any, shapes: Shapes) -> Made:
    refuse_unless(m.max_norm is None and not m.scale_grad_by_freq, "Embedding: max_norm or scale_grad_by_freq")
    refuse_unless(m.padding_idx is None, "Embedding: padding_idx, whose gradient MindSpore does not leave out")
    return layer("nn.Embedding", ("vocab_size", m.num_embeddings), ("embedding_size", m.embedding_dim))


@rule(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
def _batch_norm(m: Any, shapes: Shapes) -> Made:
    """MindSpore's momentum is the share of the old statistics that is kept."""
    name = torch_name(m)
    refuse_unless(m.momentum is not None, f"{name}: momentum=None, a cumulative average")
    kind = next(kind.__name__ for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d) if isinstance(m, kind))
    if not m.affine or not m.track_running_stats:
        named = {"affine": Optional(m.affine, True), "tracked": Optional(m.track_running_stats, True)}
        eps, momentum = Optional(m.eps, 1e-5), Optional(round(1 - m.momentum, 10), 0.9)
        size = ("num_features", m.num_features)
        return layer("BatchNorm", size, eps=eps, momentum=momentum, **named)
    if kind == "BatchNorm1d" and any(len(shape) != 2 for shape in shapes[:1]):
        kind = "SeriesBatchNorm1d"
    return layer(
        kind if kind.startswith("Series") else f"nn.{kind}",
        ("num_features", m.num_features),
        eps=Optional(m.eps, 1e-5),
        momentum=Optional(round(1 - m.momentum, 10), 0.9),
    )


@rule(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
def _instance_norm(m: Any, shapes: Shapes) -> Made:
    """MindSpore has no kernel for it on CPU."""
    if m.track_running_stats:
        named = {"momentum": Optional(round(1 - m.momentum, 10), 0.9), "affine": Optional(m.affine, False)}
        eps = Optional(m.eps, 1e-5)
        return layer("TrackedInstanceNorm", ("num_features", m.num_features), eps=eps, **named)
    eps, affine = Optional(m.eps, 1e-5), Optional(m.affine, False)
    return layer("InstanceNorm", ("num_features", m.num_features), eps=eps, affine=affine)


@rule(nn.GroupNorm)
def _group_norm(m: Any, shapes: Shapes) -> Made:
    """MindSpore's own takes pictures only, and keeps weights that PyTorch lacks where it has none."""
    pictures = m.affine and all(len(shape) == 4 for shape in shapes[:1])
    callee = "nn.GroupNorm" if pictures else "GroupNorm"
    affine: dict[str, Any] = {} if pictures else {"affine": Optional(m.affine, True)}
    eps = Optional(m.eps, 1e-5)
    return layer(callee, ("num_groups", m.num_groups), ("num_channels", m.num_channels), eps=eps, **affine)


@rule(nn.LayerNorm)
def _layer_norm(m: Any, shapes: Shapes) -> Made:
    """MindSpore's epsilon is 1e-7 unless it is said, and its axes begin at the last."""
    shape = tuple(m.normalized_shape)
    if m.weight is None or m.bias is None:
        weight, bias = Optional(m.weight is not None, True), Optional(m.bias is not None, True)
        named = {"epsilon": m.eps, "has_weight": weight, "has_bias": bias}
        return layer("LayerNorm", ("normalized_shape", shape), **named)
    first = Optional(-len(shape), -1)
    named = {"begin_norm_axis": first, "begin_params_axis": first, "epsilon": m.eps}
    return layer("nn.LayerNorm", ("normalized_shape", shape), **named)


rule(nn.LocalResponseNorm)(
    lambda m, shapes: layer("LocalResponseNorm", ("size", m.size), alpha=m.alpha, beta=m.beta, k=m.k)
)


PLAIN = {
    nn.ReLU: "nn.ReLU", nn.ReLU6: "nn.ReLU6", nn.Sigmoid: "nn.Sigmoid", nn.SiLU: "nn.SiLU", nn.Mish: "nn.Mish",
    nn.Hardswish: "nn.HSwish", nn.Hardsigmoid: "nn.HSigmoid", nn.Softsign: "nn.Softsign",
    nn.LogSigmoid: "nn.LogSigmoid", nn.Softmax2d: "nn.Softmax2d", nn.Identity: "nn.Identity",
    nn.Tanhshrink: "nn.Tanhshrink",
}  # fmt: skip


def _plain(callee: str) -> LayerRule:
    return lambda m, shapes: layer(callee)


RULES.update({kind: _plain(callee) for kind, callee in PLAIN.items()})


# MindSpore's own kernel on CPU is off by up to 1e-4 beyond 4.
rule(nn.Tanh)(lambda m, shapes: layer("Tanh"))
# MindSpore's own has a wrong gradient on CPU.
rule(nn.SELU)(lambda m, shapes: layer("SELU"))
# MindSpore's default slope is 0.2, PyTorch's 0.01.
rule(nn.LeakyReLU)(lambda m, shapes: layer("nn.LeakyReLU", ("alpha", m.negative_slope)))
rule(nn.PReLU)(lambda m, shapes: layer("nn.PReLU", ("channel", m.num_parameters)))
# MindSpore approximates by tanh unless it is told otherwise; PyTorch does not.
rule(nn.GELU)(lambda m, shapes: layer("nn.GELU", approximate=Optional(m.approximate == "tanh", True)))
# MindSpore's kernel on CPU knows alpha 1 only.
rule(nn.ELU)(lambda m, shapes: layer("nn.ELU") if m.alpha == 1 else layer("ELU", ("alpha", m.alpha)))
rule(nn.CELU)(lambda m, shapes: layer("nn.CELU", alpha=Optional(m.alpha, 1.0)))
rule(nn.Hardtanh)(
    lambda m, shapes: layer("nn.Hardtanh", min_val=Optional(m.min_val, -1.0), max_val=Optional(m.max_val, 1.0))
)


@rule(nn.Softmax, nn.LogSoftmax, nn.Softmin)
def _softmax(m: Any, shapes: Shapes) -> Made:
    refuse_unless(m.dim is not None, f"{torch_name(m)}: without dim")
    return layer(f"nn.{torch_name(m)}", axis=m.dim)


rule(nn.Hardshrink, nn.Softshrink)(
    lambda m, shapes: layer({"Hardshrink": "nn.HShrink", "Softshrink": "nn.SoftShrink"}[torch_name(m)], lambd=m.lambd)
)
rule(nn.Threshold)(lambda m, shapes: layer("nn.Threshold", ("threshold", m.threshold), ("value", m.value)))
