"""Rules for the functions of torch.nn.functional that layers are made of."""

from typing import Any

from toonport.porting.expressions import OMIT, Expr, Writer
from toonport.porting.registry import Rule, is_tensor, rank, refuse_unless, registering, sides
from toonport.porting.values import Own, Value

RULES: dict[str, Rule] = {}
rule = registering(RULES)


rule("linear")(
    lambda w, input, weight, bias=None: w.call("ops.dense", input, weight, *([] if bias is None else [bias]))
)


@rule("embedding")
def _embedding(w: Writer, input: Any, weight: Any, padding_idx: Any = None, *more: Any, **ignored: Any) -> Expr:
    refuse_unless(padding_idx is None, "embedding: with padding_idx")
    return w.call("ops.gather", weight, input, 0)


@rule("conv2d", "conv1d", "conv3d")
def _conv(
    w: Writer, input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: Any = 1,
) -> Expr:  # fmt: skip
    """MindSpore's default pads nothing and takes no number of pixels."""
    axes = rank(input) - 2
    refuse_unless(axes == 2, f"{w.hint}: as a function")
    if isinstance(padding, str):
        padding = same_padding(weight.shape[2:], sides(stride, axes), sides(dilation, axes), padding)
    pads = sides(padding, axes)
    if len(pads) == 2 * axes:
        refuse_unless(pads[::2] == pads[1::2], f"{w.hint}: with an uneven padding")
        pads = pads[::2]
    pads = one_of(pads)
    stride, dilation = (one_of(sides(each, axes)) for each in (stride, dilation))
    return w.call("ops.conv2d", input, weight, bias, stride, "pad", pads, dilation, groups)


@rule("conv_transpose2d")
def _conv_transpose(
    w: Writer, input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
    groups: Any = 1, dilation: Any = 1,
) -> Expr:  # fmt: skip
    plain = not any(sides(output_padding, 2)) and groups == 1 and one_of(sides(dilation, 2)) == 1
    refuse_unless(plain and rank(input) == 4, "conv_transpose2d: with output_padding, groups or dilation")
    return w.own_function("conv_transpose2d", input, weight, bias, sides(stride, 2), sides(padding, 2))


def one_of(values: tuple[Any, ...]) -> Any:
    """Return one number where all are the same."""
    return values[0] if all(value == values[0] for value in values) else values


def same_padding(
    kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...], padding: str
) -> tuple[int, ...]:
    """Return PyTorch's padding "valid" or "same" as the rows before and after on each axis.

    Where the number of rows is odd, PyTorch pads one more after the end.
    """
    if padding == "valid":
        return (0,) * 2 * len(kernel)
    refuse_unless(all(each == 1 for each in stride), "convolution: padding='same' with a stride")
    total = [factor * (side - 1) for side, factor in zip(kernel, dilation, strict=True)]
    return tuple(rows for each in total for rows in (each // 2, each - each // 2))


@rule("batch_norm")
def _batch_norm(
    w: Writer, input: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Expr:  # fmt: skip
    """Statistics of the batch, or those that are given; not those of the network, which it would have to move."""
    if not training:
        return w.own_function("normalized_by", input, running_mean, running_var, weight, bias, eps)
    refuse_unless(not isinstance(running_mean, Own), "batch_norm: as a function that moves statistics of the network")
    return w.own_function("batch_norm", input, weight, bias, eps)


@rule("layer_norm")
def _layer_norm(
    w: Writer, input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Expr:
    return w.own_function("layer_norm", input, len(tuple(normalized_shape)), weight, bias, eps)


@rule("rms_norm")
def _rms_norm(w: Writer, input: Any, normalized_shape: Any, weight: Any = None, eps: Any = None) -> Expr:
    return w.own_function("rms_norm", input, len(tuple(normalized_shape)), weight, eps or 1.1920928955078125e-07)


@rule("group_norm")
def _group_norm(
    w: Writer, input: Any, num_groups: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Expr:
    return w.own_function("group_norm", input, num_groups, weight, bias, eps)


@rule("instance_norm")
def _instance_norm(
    w: Writer, input: Any, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None,
    use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Expr:  # fmt: skip
    refuse_unless(running_mean is None, "instance_norm: with running statistics")
    return w.own_function("group_norm", input, input.shape[1], weight, bias, eps)


@rule("normalize")
def _normalize(w: Writer, input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Any = None) -> Expr:
    refuse_unless(p == 2, "normalize: with another p than 2")
    return w.own_function("unit_length", input, dim, eps)


@rule("local_response_norm")
def _local_response_norm(
    w: Writer, input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Expr:
    return w.own_function("local_response_norm", input, size, alpha, beta, k)


rule("cosine_similarity")(lambda w, x1, x2, dim=1, eps=1e-08: w.call("ops.cosine_similarity", x1, x2, dim, eps))
rule("dropout")(lambda w, input, p=0.5, training=True, inplace=False: _dropping(w, "ops.dropout", input, p, training))
rule("dropout2d", "feature_dropout")(
    lambda w, input, p=0.5, training=True, inplace=False: _dropping(w, "ops.dropout2d", input, p, training)
)
rule("dropout1d", "dropout3d")(
    lambda w, input, p=0.5, training=True, inplace=False: _dropping(w, f"ops.{w.hint}", input, p, training)
)


def _dropping(w: Writer, function: str, input: Any, p: float, training: bool) -> Expr:
    """Dropout in the mode of the module, unless the source says another one."""
    if p == 0:
        return w.expr(input)
    said = "self.training" if training is w.training else repr(training)
    return Expr(f"{function}({w.text(input)}, {w.text(p)}, training={said})")


@rule("max_pool2d", "max_pool1d", "max_pool3d", "max_pool2d_with_indices")
def _max_pool(
    w: Writer, input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Expr:  # fmt: skip
    axes = rank(input) - 2
    refuse_unless(axes == 2 and not return_indices, f"{w.hint}: of {axes} axes, or with indices")
    stride = kernel_size if stride in (None, [], ()) else stride
    refuse_unless(one_of(sides(dilation, 2)) == 1, "max_pool2d: with dilation")
    ceil = {"ceil_mode": True} if ceil_mode else {}
    return w.own_function("max_pool2d", input, sides(kernel_size, 2), sides(stride, 2), sides(padding, 2), **ceil)


@rule("avg_pool2d", "avg_pool1d", "avg_pool3d")
def _avg_pool(
    w: Writer, input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: Any = None,
) -> Expr:  # fmt: skip
    refuse_unless(rank(input) == 4, f"{w.hint}: as a function")
    stride = kernel_size if stride in (None, [], ()) else stride
    return w.call(
        "ops.avg_pool2d", input, one_of(sides(kernel_size, 2)), one_of(sides(stride, 2)), one_of(sides(padding, 2)),
        ceil_mode, count_include_pad, *([divisor_override] if divisor_override else []),
    )  # fmt: skip


@rule("adaptive_avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool3d")
def _adaptive_avg_pool(w: Writer, input: Any, output_size: Any) -> Expr:
    size = sides(output_size, rank(input) - 2)
    if all(side == 1 for side in size if not is_tensor(side)):
        return w.call("ops.mean", input, tuple(range(2, rank(input))), True)
    refuse_unless(rank(input) == 4, f"{w.hint}: to another size than 1")
    return w.call("ops.adaptive_avg_pool2d", input, size)


@rule("adaptive_max_pool2d", "adaptive_max_pool1d", "adaptive_max_pool3d")
def _adaptive_max_pool(w: Writer, input: Any, output_size: Any, return_indices: bool = False) -> Expr:
    refuse_unless(not return_indices and rank(input) == 4, f"{w.hint}: with indices")
    return w.call("ops.adaptive_max_pool2d", input, sides(output_size, 2))


@rule("interpolate", "upsample", "upsample_nearest", "upsample_bilinear")
def _interpolate(
    w: Writer, input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: Any = None, recompute_scale_factor: Any = None, antialias: bool = False,
) -> Expr:  # fmt: skip
    """By size: MindSpore takes no scale for nearest neighbours, and rounds scales in its own way elsewhere."""
    if w.hint == "upsample_bilinear":
        mode, align_corners = "bilinear", True
    return resized(w, input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)


def resized(
    w: Writer, input: Any, size: Any, scale: Any, mode: str, align_corners: Any, recompute: Any = None,
    antialias: bool = False,
) -> Expr:  # fmt: skip
    """Write the resizing of pictures [N, C, H, W] to a size or by a factor."""
    refuse_unless(rank(input) == 4, f"interpolate: of {rank(input) - 2} axes")
    refuse_unless(mode in {"nearest", "bilinear"} and not antialias, f"interpolate: mode={mode}, antialias={antialias}")
    if size is None:
        factors = sides(scale, 2)
        if not all(float(factor).is_integer() for factor in factors):
            return _resized_by(w, input, factors, mode, align_corners, recompute)
        name = w.atom(input)
        words = [
            f"{name}.shape[{axis}] * {w.number(int(factor))}" for axis, factor in zip((2, 3), factors, strict=True)
        ]
        target = f"({', '.join(words)})"
    else:
        target = w.text(sides(size, 2))
    corners = f", align_corners={bool(align_corners)}" if mode == "bilinear" else ""
    return Expr(f'ops.interpolate({w.text(input)}, {target}, mode="{mode}"{corners})')


def _resized_by(w: Writer, input: Any, factors: Any, mode: str, align_corners: Any, recompute: Any) -> Expr:
    """By fractions; where sides would be rounded, PyTorch goes on with the factor unless the corners are aligned."""
    refuse_unless(not recompute, "interpolate: with recompute_scale_factor")
    corners = bool(align_corners) if mode == "bilinear" else OMIT
    plain = tuple(float(factor) for factor in factors)
    whole = all((side * factor).is_integer() for side, factor in zip(input.shape[2:], plain, strict=True))
    refuse_unless(whole or bool(align_corners), f"interpolate: by the factor {plain[0]}, which rounds sides")
    return w.own_function("resized_by", input, plain, mode=mode if mode != "nearest" else OMIT, align_corners=corners)


@rule("pad")
def _pad(w: Writer, input: Any, pad: Any, mode: str = "constant", value: Any = None) -> Expr:
    """MindSpore's graphs know no circular padding, and their gradient of a constant border is wrong."""
    if mode == "constant":
        return w.own_function("padded", input, tuple(pad), *([value] if value else []))
    if mode == "circular":
        rows = [each.example if isinstance(each, Value) else each for each in pad]
        refuse_unless(min(rows) >= 0, "pad: circular by negative numbers")
        return w.own_function("wrapped", input, tuple(pad))
    refuse_unless(mode in {"reflect", "replicate"}, f"pad: mode={mode}")
    return w.call("ops.pad", input, tuple(pad), mode=mode)


rule("pixel_shuffle", "pixel_unshuffle")(
    lambda w, input, factor=None, **more: w.call(f"ops.{w.hint}", input, factor or next(iter(more.values())))
)
rule("channel_shuffle")(lambda w, input, groups: w.own_function("channel_shuffle", input, groups))


@rule("im2col")
def _im2col(
    w: Writer, input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Expr:  # fmt: skip
    """MindSpore's gradient of it is not PyTorch's."""
    refuse_unless(rank(input) == 4, "unfold: of something else than pictures")
    return w.own_function("unfold", input, *(sides(each, 2) for each in (kernel_size, dilation, padding, stride)))


@rule("grid_sample")
def _grid_sample(
    w: Writer, input: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: Any = None
) -> Expr:
    return w.call("ops.grid_sample", input, grid, mode, padding_mode, bool(align_corners))


@rule("scaled_dot_product_attention")
def _attention(
    w: Writer, query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: Any = None, enable_gqa: bool = False,
) -> Expr:  # fmt: skip
    refuse_unless(not is_causal and not enable_gqa, "scaled_dot_product_attention: causal or with groups of queries")
    refuse_unless(dropout_p == 0, "scaled_dot_product_attention: with dropout")
    keywords = {"mask": attn_mask if attn_mask is not None else OMIT, "scale": scale if scale is not None else OMIT}
    return w.own_function("scaled_dot_product_attention", query, key, value, **keywords)


@rule("one_hot")
def _one_hot(w: Writer, tensor: Any, num_classes: int = -1) -> Expr:
    refuse_unless(num_classes > 0, "one_hot: without a number of classes")
    return w.call("ops.one_hot", tensor, num_classes)
