"""Rules for layers: how each layer type of torch.nn is constructed in MindSpore, with the traps that differ.

A layer type without a rule is traced like a user's own class, and its operators need rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from toonport.port.made import Made, Optional, Raw, layer
from toonport.port.nets import one_of, same_padding
from toonport.port.registry import refuse_unless
from toonport.port.values import UnportableError

Shapes = Sequence[tuple[int, ...]]  # of what the layer is called with
LayerRule = Callable[[Any, Shapes], Made]
RULES: dict[type, LayerRule] = {}


def rule(*kinds: type) -> Callable[[LayerRule], LayerRule]:
    """Register the rule of layer types."""

    def register(function: LayerRule) -> LayerRule:
        """Register a rule."""
        RULES.update(dict.fromkeys(kinds, function))
        return function

    return register


# ---- convolutions


def _sides(pads: tuple[int, ...]) -> Any:
    """Rows before and after on each axis, as one number where all are the same."""
    return one_of(pads)


def _padding(m: Any) -> Any:
    """PyTorch's padding as MindSpore's `padding` with pad_mode="pad"."""
    axes = len(m.kernel_size)
    if isinstance(m.padding, str):
        return _sides(same_padding(m.kernel_size, m.stride, m.dilation, m.padding))
    return m.padding[0] if axes == 1 else _sides(tuple(rows for each in m.padding for rows in (each, each)))


def _convolution(callee: str, m: Any, padding: Any, own: Sequence[str] = ()) -> Made:
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
        own=own,
    )


@rule(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def _conv(m: Any, shapes: Shapes) -> Made:
    refuse_unless(m.padding_mode == "zeros", f"{type(m).__name__}: padding_mode={m.padding_mode}")
    return _convolution(f"nn.Conv{len(m.kernel_size)}d", m, _padding(m))


@rule(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def _conv_transpose(m: Any, shapes: Shapes) -> Made:
    """MindSpore's own output_padding leaves zeros in the last rows: they are less padding there, by definition."""
    pads = tuple(rows for p, more in zip(m.padding, m.output_padding, strict=True) for rows in (p, p - more))
    refuse_unless(min(pads) >= 0, f"{type(m).__name__}: output_padding above padding")
    refuse_unless(len(pads) == 4 or not any(m.output_padding), f"{type(m).__name__}: output_padding")
    padding = one_of(m.padding) if len(pads) == 2 else _sides(pads)
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


# ---- norms


@rule(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
def _batch_norm(m: Any, shapes: Shapes) -> Made:
    """MindSpore's momentum is the share of the old statistics that is kept."""
    name = type(m).__name__
    refuse_unless(m.momentum is not None, f"{name}: momentum=None, a cumulative average")
    kind = next(kind.__name__ for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d) if isinstance(m, kind))
    if not m.affine or not m.track_running_stats:
        named = {"affine": Optional(m.affine, True), "tracked": Optional(m.track_running_stats, True)}
        eps, momentum = Optional(m.eps, 1e-5), Optional(round(1 - m.momentum, 10), 0.9)
        size = ("num_features", m.num_features)
        return layer("BatchNorm", size, eps=eps, momentum=momentum, **named, own=["BatchNorm"])
    if kind == "BatchNorm1d" and any(len(shape) != 2 for shape in shapes[:1]):
        kind = "SeriesBatchNorm1d"
    own = [kind] if kind.startswith("Series") else []
    return layer(
        kind if own else f"nn.{kind}",
        ("num_features", m.num_features),
        eps=Optional(m.eps, 1e-5),
        momentum=Optional(round(1 - m.momentum, 10), 0.9),
        own=own,
    )


@rule(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
def _instance_norm(m: Any, shapes: Shapes) -> Made:
    """MindSpore has no kernel for it on CPU."""
    if m.track_running_stats:
        named = {"momentum": Optional(round(1 - m.momentum, 10), 0.9), "affine": Optional(m.affine, False)}
        eps = Optional(m.eps, 1e-5)
        return layer(
            "TrackedInstanceNorm", ("num_features", m.num_features), eps=eps, **named, own=["TrackedInstanceNorm"]
        )
    name = "InstanceNorm2d" if isinstance(m, nn.InstanceNorm2d) else "InstanceNorm"
    eps, affine = Optional(m.eps, 1e-5), Optional(m.affine, False)
    return layer(name, ("num_features", m.num_features), eps=eps, affine=affine, own=[name])


@rule(nn.GroupNorm)
def _group_norm(m: Any, shapes: Shapes) -> Made:
    """MindSpore's own takes pictures only, and keeps weights that PyTorch lacks where it has none."""
    pictures = m.affine and all(len(shape) == 4 for shape in shapes[:1])
    callee, own = ("nn.GroupNorm", []) if pictures else ("GroupNorm", ["GroupNorm"])
    affine = {} if pictures else {"affine": Optional(m.affine, True)}
    eps = Optional(m.eps, 1e-5)
    return layer(callee, ("num_groups", m.num_groups), ("num_channels", m.num_channels), eps=eps, **affine, own=own)


@rule(nn.LayerNorm)
def _layer_norm(m: Any, shapes: Shapes) -> Made:
    """MindSpore's epsilon is 1e-7 unless it is said, and its axes begin at the last."""
    shape = tuple(m.normalized_shape)
    if m.weight is None or m.bias is None:
        weight, bias = Optional(m.weight is not None, True), Optional(m.bias is not None, True)
        named = {"epsilon": m.eps, "has_weight": weight, "has_bias": bias}
        return layer("LayerNorm", ("normalized_shape", shape), **named, own=["LayerNorm"])
    first = Optional(-len(shape), -1)
    named = {"begin_norm_axis": first, "begin_params_axis": first, "epsilon": m.eps}
    return layer("nn.LayerNorm", ("normalized_shape", shape), **named)


@rule(nn.LocalResponseNorm)
def _local_response_norm(m: Any, shapes: Shapes) -> Made:
    return layer("LocalResponseNorm", ("size", m.size), alpha=m.alpha, beta=m.beta, k=m.k, own=["LocalResponseNorm"])


# ---- activations


PLAIN = {
    nn.ReLU: "nn.ReLU", nn.ReLU6: "nn.ReLU6", nn.Sigmoid: "nn.Sigmoid", nn.SiLU: "nn.SiLU", nn.Mish: "nn.Mish",
    nn.Hardswish: "nn.HSwish", nn.Hardsigmoid: "nn.HSigmoid", nn.Softsign: "nn.Softsign",
    nn.LogSigmoid: "nn.LogSigmoid", nn.Softmax2d: "nn.Softmax2d", nn.Identity: "nn.Identity",
    nn.Tanhshrink: "nn.Tanhshrink",
}  # fmt: skip


def _plain(callee: str) -> LayerRule:
    def made(m: Any, shapes: Shapes) -> Made:
        """A layer without arguments."""
        return layer(callee)

    return made


RULES.update({kind: _plain(callee) for kind, callee in PLAIN.items()})


@rule(nn.Tanh)
def _tanh(m: Any, shapes: Shapes) -> Made:
    """MindSpore's own kernel on CPU is off by up to 1e-4 beyond 4."""
    return layer("Tanh", own=["Tanh"])


@rule(nn.SELU)
def _selu(m: Any, shapes: Shapes) -> Made:
    """MindSpore's own has a wrong gradient on CPU."""
    return layer("SELU", own=["SELU"])


@rule(nn.LeakyReLU)
def _leaky_relu(m: Any, shapes: Shapes) -> Made:
    """MindSpore's default slope is 0.2, PyTorch's 0.01."""
    return layer("nn.LeakyReLU", ("alpha", m.negative_slope))


@rule(nn.PReLU)
def _prelu(m: Any, shapes: Shapes) -> Made:
    return layer("nn.PReLU", ("channel", m.num_parameters))


@rule(nn.GELU)
def _gelu(m: Any, shapes: Shapes) -> Made:
    """MindSpore approximates by tanh unless it is told otherwise; PyTorch does not."""
    return layer("nn.GELU", approximate=Optional(m.approximate == "tanh", True))


@rule(nn.ELU)
def _elu(m: Any, shapes: Shapes) -> Made:
    """MindSpore's kernel on CPU knows alpha 1 only."""
    return layer("nn.ELU") if m.alpha == 1 else layer("ELU", ("alpha", m.alpha), own=["ELU"])


@rule(nn.CELU)
def _celu(m: Any, shapes: Shapes) -> Made:
    return layer("nn.CELU", alpha=Optional(m.alpha, 1.0))


@rule(nn.Hardtanh)
def _hardtanh(m: Any, shapes: Shapes) -> Made:
    return layer("nn.Hardtanh", min_val=Optional(m.min_val, -1.0), max_val=Optional(m.max_val, 1.0))


@rule(nn.Softmax, nn.LogSoftmax, nn.Softmin)
def _softmax(m: Any, shapes: Shapes) -> Made:
    refuse_unless(m.dim is not None, f"{type(m).__name__}: without dim")
    return layer(f"nn.{type(m).__name__}", axis=m.dim)


@rule(nn.Hardshrink, nn.Softshrink)
def _shrink(m: Any, shapes: Shapes) -> Made:
    return layer({nn.Hardshrink: "nn.HShrink", nn.Softshrink: "nn.SoftShrink"}[type(m)], lambd=m.lambd)


@rule(nn.Threshold)
def _threshold(m: Any, shapes: Shapes) -> Made:
    return layer("nn.Threshold", ("threshold", m.threshold), ("value", m.value))


# ---- pooling


@rule(nn.MaxPool2d)
def _max_pool(m: Any, shapes: Shapes) -> Made:
    """MindSpore's own sends the gradient of padded ties elsewhere, and rounds sizes up in its own way."""
    refuse_unless(not m.return_indices and one_of(_pair(m.dilation)) == 1, "MaxPool2d: return_indices or dilation")
    stride = m.stride if m.stride is not None else m.kernel_size
    return layer(
        "MaxPool2d",
        ("kernel_size", _pair(m.kernel_size)),
        ("stride", _pair(stride)),
        padding=Optional(_pair(m.padding), (0, 0)),
        ceil_mode=Optional(bool(m.ceil_mode), False),
        own=["MaxPool2d"],
    )


def _pair(value: Any) -> tuple[int, int]:
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


@rule(nn.MaxPool1d)
def _max_pool1d(m: Any, shapes: Shapes) -> Made:
    refuse_unless(not m.return_indices and not m.ceil_mode and m.dilation == 1, "MaxPool1d: indices, ceil or dilation")
    pads = {"pad_mode": "pad", "padding": one_of(m.padding)} if m.padding not in (0, (0,)) else {}
    return layer("nn.MaxPool1d", kernel_size=one_size(m.kernel_size), stride=one_size(m.stride), **pads)


def one_size(value: Any) -> Any:
    """Return the number of a size of one axis."""
    return value[0] if isinstance(value, tuple | list) else value


@rule(nn.AvgPool2d)
def _avg_pool(m: Any, shapes: Shapes) -> Made:
    """MindSpore's default stride is 1, PyTorch's the kernel."""
    stride = m.stride if m.stride is not None else m.kernel_size
    padded = one_of(_pair(m.padding)) != 0
    return layer(
        "nn.AvgPool2d",
        kernel_size=one_of(_pair(m.kernel_size)),
        stride=one_of(_pair(stride)),
        pad_mode=Optional("pad" if padded or m.ceil_mode else "valid", "valid"),
        padding=Optional(one_of(_pair(m.padding)), 0),
        ceil_mode=Optional(bool(m.ceil_mode), False),
        count_include_pad=Optional(m.count_include_pad, True),
        divisor_override=Optional(m.divisor_override, None),
    )


@rule(nn.AvgPool1d)
def _avg_pool1d(m: Any, shapes: Shapes) -> Made:
    refuse_unless(one_size(m.padding) == 0 and not m.ceil_mode, "AvgPool1d: padding or ceil_mode")
    return layer("nn.AvgPool1d", kernel_size=one_size(m.kernel_size), stride=one_size(m.stride))


@rule(nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
def _adaptive_pool(m: Any, shapes: Shapes) -> Made:
    refuse_unless(not getattr(m, "return_indices", False), "AdaptiveMaxPool2d: return_indices")
    size = m.output_size
    return layer(f"nn.{type(m).__name__}", ("output_size", one_of(_pair(size))))


@rule(nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d)
def _adaptive_pool1d(m: Any, shapes: Shapes) -> Made:
    return layer(f"nn.{type(m).__name__}", ("output_size", one_size(m.output_size)))


# ---- shape and size


@rule(nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad1d, nn.ReplicationPad2d)
def _pad(m: Any, shapes: Shapes) -> Made:
    refuse_unless(min(m.padding) >= 0, f"{type(m).__name__}: negative padding")
    return layer(f"nn.{type(m).__name__}", ("padding", one_of(tuple(m.padding))))


@rule(nn.ZeroPad2d)
def _zero_pad(m: Any, shapes: Shapes) -> Made:
    refuse_unless(min(m.padding) >= 0, "ZeroPad2d: negative padding")
    return layer("nn.ZeroPad2d", ("padding", one_of(tuple(m.padding))))


@rule(nn.ConstantPad1d, nn.ConstantPad2d)
def _constant_pad(m: Any, shapes: Shapes) -> Made:
    refuse_unless(min(m.padding) >= 0, f"{type(m).__name__}: negative padding")
    return layer(f"nn.{type(m).__name__}", ("padding", one_of(tuple(m.padding))), ("value", m.value))


@rule(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)
def _upsample(m: Any, shapes: Shapes) -> Made:
    """MindSpore takes no scale for nearest neighbours; a size is computed from it."""
    name = type(m).__name__
    refuse_unless(m.mode in {"nearest", "bilinear"}, f"{name}: mode={m.mode}")
    refuse_unless(all(len(shape) == 4 for shape in shapes[:1]), f"{name}: of something else than pictures")
    bilinear = {"mode": m.mode, "align_corners": bool(m.align_corners)} if m.mode == "bilinear" else {}
    if m.size is not None:
        return layer("UpsampleTo", ("size", _pair(m.size)), **bilinear, own=["UpsampleTo"])
    factors = _pair(m.scale_factor)
    refuse_unless(factors[0] == factors[1] and float(factors[0]).is_integer(), f"{name}: scale_factor={m.scale_factor}")
    if not bilinear:
        return layer("Upsample", ("scale_factor", int(factors[0])), own=["Upsample"])
    corners = Optional(bool(m.align_corners), False)
    own = ["UpsampleBilinear"]
    return layer("UpsampleBilinear", ("scale_factor", int(factors[0])), align_corners=corners, own=own)


@rule(nn.PixelShuffle)
def _pixel_shuffle(m: Any, shapes: Shapes) -> Made:
    return layer("nn.PixelShuffle", ("upscale_factor", m.upscale_factor))


@rule(nn.PixelUnshuffle)
def _pixel_unshuffle(m: Any, shapes: Shapes) -> Made:
    return layer("nn.PixelUnshuffle", ("downscale_factor", m.downscale_factor))


@rule(nn.ChannelShuffle)
def _channel_shuffle(m: Any, shapes: Shapes) -> Made:
    return layer("ChannelShuffle", ("groups", m.groups), own=["ChannelShuffle"])


@rule(nn.Flatten)
def _flatten(m: Any, shapes: Shapes) -> Made:
    return layer("nn.Flatten", start_dim=Optional(m.start_dim, 1), end_dim=Optional(m.end_dim, -1))


@rule(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
def _dropout(m: Any, shapes: Shapes) -> Made:
    """MindSpore's first argument is the share that is kept."""
    return layer(f"nn.{type(m).__name__}", p=float(m.p))


# ---- sequences


@rule(nn.LSTM, nn.GRU, nn.RNN)
def _recurrent(m: Any, shapes: Shapes) -> Made:
    name = type(m).__name__
    refuse_unless(not getattr(m, "proj_size", 0), f"{name}: proj_size")
    more = {"nonlinearity": Optional(m.nonlinearity, "tanh")} if isinstance(m, nn.RNN) else {}
    return layer(
        f"nn.{name}",
        ("input_size", m.input_size),
        ("hidden_size", m.hidden_size),
        num_layers=Optional(m.num_layers, 1),
        **more,
        has_bias=Optional(m.bias, True),
        batch_first=Optional(m.batch_first, False),
        dropout=Optional(float(m.dropout), 0.0),
        bidirectional=Optional(m.bidirectional, False),
    )


@rule(nn.LSTMCell, nn.GRUCell, nn.RNNCell)
def _recurrent_cell(m: Any, shapes: Shapes) -> Made:
    bias = Optional(m.bias, True)
    return layer(f"nn.{type(m).__name__}", ("input_size", m.input_size), ("hidden_size", m.hidden_size), has_bias=bias)


@rule(nn.MultiheadAttention)
def _attention(m: Any, shapes: Shapes) -> Made:
    plain = m.bias_k is None and not m.add_zero_attn and m._qkv_same_embed_dim
    refuse_unless(plain, "MultiheadAttention: with key biases, zero attention or other sizes of keys")
    return layer(
        "nn.MultiheadAttention",
        ("embed_dim", m.embed_dim),
        ("num_heads", m.num_heads),
        dropout=Optional(float(m.dropout), 0.0),
        has_bias=Optional(m.in_proj_bias is not None, True),
        batch_first=Optional(m.batch_first, False),
    )


# ---- spectral norm


def _spectral(m: Any, moved_first: bool) -> Made:
    if isinstance(m, nn.Linear):
        refuse_unless(not moved_first, "Linear with parametrizations.spectral_norm")
        bias = Optional(m.bias is not None, True)
        sizes = ("dim_in", m.in_features), ("dim_out", m.out_features)
        return layer("SpectralNormLinear", *sizes, bias=bias, own=["SpectralNormLinear"])
    one = len(set(m.kernel_size)) == len(set(m.stride)) == 1 and m.groups == 1 and one_of(m.dilation) == 1
    refuse_unless(one and not isinstance(m.padding, str), "Conv2d with spectral norm: sides, groups or dilation")
    name = "ParametrizedConv2d" if moved_first else "SpectralNormConv2d"
    return layer(
        name,
        ("dim_in", m.in_channels),
        ("dim_out", m.out_channels),
        ("kernel", m.kernel_size[0]),
        stride=Optional(m.stride[0], 1),
        bias=Optional(m.bias is not None, True),
        padding=Optional(m.padding[0], 0),
        own=[name],
    )


def rule_for(m: nn.Module) -> LayerRule | None:
    """Return the rule of a layer, None where it is to be traced.

    A class that inherits the forward of one with a rule, and adds no layers or tensors, has its rule.

    Raises UnportableError: it has hooks, which would not be written.
    """
    wrapped = _wrapped(m)
    if wrapped:
        return wrapped
    if m._forward_hooks or m._forward_pre_hooks:
        raise UnportableError(f"{type(m).__name__}: with hooks, which are not written")
    for kind in type(m).__mro__:
        if kind in RULES:
            return RULES[kind] if type(m).forward is kind.forward else None
    return None


def _wrapped(m: nn.Module) -> LayerRule | None:
    """The rule of a layer whose weight is normed."""
    from torch.nn.utils.spectral_norm import SpectralNorm

    plain = isinstance(m, nn.Conv2d | nn.Linear) and not isinstance(m, nn.modules.conv._ConvTransposeNd)
    hooks = list(m._forward_pre_hooks.values())
    if hooks and all(isinstance(hook, SpectralNorm) for hook in hooks) and plain:
        refuse_unless(hooks[0].n_power_iterations == 1 and hooks[0].dim == 0, "spectral norm: several iterations")
        return lambda m, shapes: _spectral(m, moved_first=False)
    if nn.utils.parametrize.is_parametrized(m):
        names = [type(each).__name__ for each in m.parametrizations["weight"]] if "weight" in m.parametrizations else []
        refuse_unless(names == ["_SpectralNorm"] and plain, f"{type(m).__name__}: parametrized by {', '.join(names)}")
        return lambda m, shapes: _spectral(m, moved_first=True)
    return None
