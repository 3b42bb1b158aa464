"""Rules for layers that pool, pad, resize and reshape, and for those of sequences."""

from typing import Any

from torch import nn

from toonport.porting.made import Made, Optional, layer
from toonport.porting.nets import one_of
from toonport.porting.registry import LayerRule, Shapes, pair_of, refuse_unless, registering, torch_name

RULES: dict[type, LayerRule] = {}
rule = registering(RULES)


@rule(nn.MaxPool2d)
def _max_pool(m: Any, shapes: Shapes) -> Made:
    """MindSpore's own sends the gradient of padded ties elsewhere, and rounds sizes up in its own way."""
    refuse_unless(not m.return_indices and one_of(pair_of(m.dilation)) == 1, "MaxPool2d: return_indices or dilation")
    stride = m.stride if m.stride is not None else m.kernel_size
    return layer(
        "MaxPool2d",
        ("kernel_size", pair_of(m.kernel_size)),
        ("stride", pair_of(stride)),
        padding=Optional(pair_of(m.padding), (0, 0)),
        ceil_mode=Optional(bool(m.ceil_mode), False),
    )


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
    padded = one_of(pair_of(m.padding)) != 0
    return layer(
        "nn.AvgPool2d",
        kernel_size=one_of(pair_of(m.kernel_size)),
        stride=one_of(pair_of(stride)),
        pad_mode=Optional("pad" if padded or m.ceil_mode else "valid", "valid"),
        padding=Optional(one_of(pair_of(m.padding)), 0),
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
    return layer(f"nn.{torch_name(m)}", ("output_size", one_of(pair_of(size))))


rule(nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d)(
    lambda m, shapes: layer(f"nn.{torch_name(m)}", ("output_size", one_size(m.output_size)))
)


@rule(nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad1d, nn.ReplicationPad2d)
def _pad(m: Any, shapes: Shapes) -> Made:
    refuse_unless(min(m.padding) >= 0, f"{torch_name(m)}: negative padding")
    return layer(f"nn.{torch_name(m)}", ("padding", one_of(tuple(m.padding))))


@rule(nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d)
def _circular_pad(m: Any, shapes: Shapes) -> Made:
    refuse_unless(min(m.padding) >= 0, f"{torch_name(m)}: negative padding")
    return layer("CircularPad", ("padding", tuple(m.padding)))


@rule(nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)
def _constant_pad(m: Any, shapes: Shapes) -> Made:
    value = Optional(float(m.value), 0.0)
    return layer("ConstantPad", ("padding", tuple(m.padding)), value=value)


@rule(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)
def _upsample(m: Any, shapes: Shapes) -> Made:
    """MindSpore takes no scale for nearest neighbours; a size is computed from it."""
    name = torch_name(m)
    refuse_unless(m.mode in {"nearest", "bilinear"}, f"{name}: mode={m.mode}")
    refuse_unless(all(len(shape) == 4 for shape in shapes[:1]), f"{name}: of something else than pictures")
    bilinear = {"mode": m.mode, "align_corners": bool(m.align_corners)} if m.mode == "bilinear" else {}
    if m.size is not None:
        return layer("UpsampleTo", ("size", pair_of(m.size)), **bilinear)
    factors = pair_of(m.scale_factor)
    refuse_unless(factors[0] == factors[1] and float(factors[0]).is_integer(), f"{name}: scale_factor={m.scale_factor}")
    if not bilinear:
        return layer("Upsample", ("scale_factor", int(factors[0])))
    corners = Optional(bool(m.align_corners), False)
    return layer("UpsampleBilinear", ("scale_factor", int(factors[0])), align_corners=corners)


rule(nn.PixelShuffle)(lambda m, shapes: layer("nn.PixelShuffle", ("upscale_factor", m.upscale_factor)))
rule(nn.PixelUnshuffle)(lambda m, shapes: layer("nn.PixelUnshuffle", ("downscale_factor", m.downscale_factor)))
rule(nn.ChannelShuffle)(lambda m, shapes: layer("ChannelShuffle", ("groups", m.groups)))
rule(nn.Flatten)(
    lambda m, shapes: layer("nn.Flatten", start_dim=Optional(m.start_dim, 1), end_dim=Optional(m.end_dim, -1))
)
# MindSpore's first argument is the share that is kept.
rule(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)(lambda m, shapes: layer(f"nn.{torch_name(m)}", p=float(m.p)))


@rule(nn.LSTM, nn.GRU, nn.RNN)
def _recurrent(m: Any, shapes: Shapes) -> Made:
    name = torch_name(m)
    refuse_unless(not getattr(m, "proj_size", 0), f"{name}: proj_size")
    more: dict[str, Any] = {"nonlinearity": Optional(m.nonlinearity, "tanh")} if isinstance(m, nn.RNN) else {}
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
    return layer(f"nn.{torch_name(m)}", ("input_size", m.input_size), ("hidden_size", m.hidden_size), has_bias=bias)


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
