"""Candidate bugs for experiments: one operation of the reference computed otherwise, while everything else stays.

A rewrite looks at every call of a PyTorch operation that a layer makes. So the candidates come from what the layer
computes, not from a list of layers.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

from parity_tests.harness import rewrites
from parity_tests.harness.rewrites import Call, Candidate, Cause, Change, Changed, Rewritten, in_call, is_tensor, on

NUMBERS = {"eps": (10.0, 0.1, 100.0, 0.01, 1000.0, 0.0), "slope": (0.0, 0.01, 0.1, 0.2, 0.3, 0.05, 1.0)}
SMALL = 1e-2  # a number below it that is added or given as eps is an epsilon
SPATIAL = ((2, 3), (0, 2, 3), (1, 2, 3), (0, 1, 2, 3))  # axes of statistics
PADDINGS = ("reflect", "constant", "replicate", "circular")
MOST_SUMS = 12  # sums of a layer that are looked at one by one
STATISTICS = ("mean", "var", "var_mean", "std", "sum")
ACTIVATIONS = ("relu", "leaky_relu", "prelu", "tanh", "sigmoid", "softmax")
MAXIMA = ("amax", "adaptive_max_pool2d", "max_pool2d", "max")
MEANS = ("adaptive_avg_pool2d", "avg_pool2d")


def candidates(names: Sequence[str]) -> Iterator[Candidate]:
    """Yield the rewrites that could matter to a layer that calls these operations, the likeliest first."""
    called = set(names)
    yield from _norms(called)
    yield from _activations(called)
    yield from _shapes(called)
    yield from _products(called)
    yield from _sums(names)


def detachments(names: Sequence[str]) -> Iterator[Candidate]:
    """Yield the rewrites that cut the gradient of one kind of operation, in all of its calls or in one of them."""
    for name, often in Counter(names).items():
        yield Cause(Change.DETACHED, where=name), on({name}, _cut)
        for place in range(often if often > 1 else 0):
            yield Cause(Change.DETACHED, f"call {place + 1}", name), in_call(name, place, _cut)


def _cut(call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
    return _detached(call(*args, **kw))


def _detached(result: Any) -> Any:
    if isinstance(result, tuple):
        return tuple(_detached(each) for each in result)
    return result.detach() if is_tensor(result) else result


def _norms(called: set[str]) -> Iterator[Candidate]:
    for factor in NUMBERS["eps"]:
        yield Cause(Change.EPSILON, f"× {factor:g}"), _small_numbers(factor)
    if called & {"var", "var_mean", "std", "div", "truediv", "instance_norm", "batch_norm"}:
        yield Cause(Change.BIASED, "n instead of n - 1"), _variance(lambda n: (n - 1) / n)
        yield Cause(Change.BIASED, "n - 1 instead of n"), _variance(lambda n: n / (n - 1))
        for own in SPATIAL:
            rewrite = _variance(lambda n: (n - 1) / n, own)
            yield Cause(Change.BIASED, "n instead of n - 1", f"statistics over {own}"), rewrite
    for places in SPATIAL:
        if called & {*STATISTICS, "instance_norm"}:
            yield Cause(Change.AXES, str(places)), _axes(places)
    for name in called & {"instance_norm", "batch_norm", "layer_norm", "group_norm"}:
        plain = on({name}, lambda call, args, kw: call(*args, **{**kw, "weight": None, "bias": None}))
        yield Cause(Change.AFFINE, "left out", name), plain
    if "rsub" in called:
        yield Cause(Change.SHARE), _share()
    if "batch_norm" in called:
        flip = on({"batch_norm"}, lambda call, args, kw: call(*args, **{**kw, "training": not kw["training"]}))
        yield Cause(Change.STATISTICS), flip
        other = on({"batch_norm"}, lambda call, args, kw: call(*args, **{**kw, "momentum": 1 - kw["momentum"]}))
        yield Cause(Change.MOMENTUM, "1 - momentum"), other


def _small_numbers(factor: float) -> Rewritten:
    def small(value: Any) -> Any:
        """A number that looks like an epsilon times the factor; others as they are."""
        return value * factor if isinstance(value, float) and 0 < value < SMALL else value

    def rewrite(name: str, call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        """Compute with another epsilon."""
        values = [value for value in (*args, *kw.values()) if isinstance(value, float)]
        if name == "leaky_relu" or not any(0 < value < SMALL for value in values):
            return None
        return call(*map(small, args), **{key: small(value) for key, value in kw.items()})

    return rewrite


def _variance(factor: Callable[[float], float], axes: tuple[int, ...] | None = None) -> Rewritten:
    """Variances times a function of how many numbers each is taken of."""

    def scaled(call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        """Compute, and scale what is a variance."""
        found = call(*args, **kw)
        if axes is not None and tuple(kw.get("dim", args[1] if len(args) > 1 else ())) != axes:
            return found
        variance = found[0] if isinstance(found, tuple) else found
        own = variance * factor(args[0].numel() / variance.numel())
        return (own, *found[1:]) if isinstance(found, tuple) else own

    def rewrite(name: str, call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        """Rewrite a variance, or what a fused norm makes with it."""
        if name in {"var", "var_mean"}:
            return scaled(call, args, kw)
        if name == "instance_norm" and axes is None:
            x = args[0]
            count, spread = x[0, 0].numel(), x.var((2, 3), unbiased=False, keepdim=True)
            return call(*args, **kw) * ((spread + kw["eps"]) / (spread * factor(count) + kw["eps"])).sqrt()
        return None

    return rewrite


def _axes(axes: tuple[int, ...]) -> Rewritten:
    def rewrite(name: str, call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        """Take statistics over other axes."""
        if name == "instance_norm":
            x = args[0]
            mean, var = x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)
            unit = (x - mean) / (var + kw["eps"]).sqrt()
            return unit if kw["weight"] is None else unit * _column(kw["weight"]) + _column(kw["bias"])
        dim = kw.get("dim", args[1] if len(args) > 1 else None)
        if name not in STATISTICS or not isinstance(dim, tuple | list) or tuple(dim) not in SPATIAL:
            return None
        if "dim" in kw:
            return call(*args, **{**kw, "dim": axes})
        return call(args[0], axes, *args[2:], **kw)

    return rewrite


def _column(vector: Any) -> Any:
    return vector[:, None, None]


def _share() -> Rewritten:
    """a * x + (1 - a) * y with a and 1 - a exchanged: 1 - a gives a, and a product with a is one with 1 - a."""

    def rewrite(name: str, call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        """Exchange the two shares of a mix."""
        if name == "rsub" and _is_share(args[0]):
            return args[0] * 1
        if name == "mul" and any(map(_is_share, args)):
            return call(*(1 - arg if _is_share(arg) else arg for arg in args), **kw)
        return None

    return rewrite


def _is_share(value: Any) -> bool:
    import torch

    return isinstance(value, torch.nn.Parameter) and bool(((value >= 0) & (value <= 1)).all()) and value.ndim in (2, 4)


def _activations(called: set[str]) -> Iterator[Candidate]:
    import torch
    from torch.nn import functional as F

    for name in called & {"relu", "leaky_relu", "prelu"}:
        for slope in NUMBERS["slope"]:
            yield (
                Cause(Change.SLOPE, f"{slope:g}", name),
                on({name}, _instead(partial(F.leaky_relu, negative_slope=slope))),
            )
        yield Cause(Change.ACTIVATION, "ReLU6", name), on({name}, lambda call, args, kw: args[0].clamp(0, 6))
    if "prelu" in called:
        shared = on({"prelu"}, lambda call, args, kw: call(args[0], args[1][:1]))
        yield Cause(Change.SLOPE, "the first channel's for all", "prelu"), shared
    for name in called & set(ACTIVATIONS):
        yield Cause(Change.ACTIVATION, "left out", name), on({name}, lambda call, args, kw: args[0] * 1)
        for other in (torch.sigmoid, torch.tanh):
            yield Cause(Change.ACTIVATION, other.__name__, name), on({name}, _instead(other))
    if "gelu" in called:
        for form in ("tanh", "none"):
            approximated = on({"gelu"}, _instead(partial(F.gelu, approximate=form)))
            yield Cause(Change.ACTIVATION, "by tanh" if form == "tanh" else "exact", "gelu"), approximated
    if "softmax" in called:
        for axis in (-1, -2, 1, 0):
            yield Cause(Change.SOFTMAX_AXIS, str(axis)), on({"softmax"}, _instead(partial(torch.softmax, dim=axis)))
        yield (
            Cause(Change.SOFTMAX_AXIS, "of the transposed scores"),
            on({"softmax"}, lambda call, args, kw: torch.softmax(args[0].mT, -1).mT),
        )


def _instead(function: Callable[[Any], Any]) -> Changed:
    """A function of the operation's first argument in its place."""
    return lambda call, args, kw: function(args[0])


def _weighted(changed: Callable[[Any], Any]) -> Changed:
    return lambda call, args, kw: call(args[0], changed(args[1]), *args[2:], **kw)


def _shapes(called: set[str]) -> Iterator[Candidate]:
    import torch
    from torch.nn import functional as F

    if "pad" in called:
        for mode in PADDINGS:
            yield Cause(Change.PADDING_MODE, mode), on({"pad"}, _padded_as(mode))
        for what, moved in (("before", lambda a, b: (a + b, 0)), ("behind", lambda a, b: (0, a + b)),
                            ("other side", lambda a, b: (b, a)), ("both", lambda a, b: (max(a, b),) * 2)):  # fmt: skip
            yield Cause(Change.PADDING_SIDE, what), on({"pad"}, _sides(moved))
    if called & {"interpolate", "upsample"}:
        for what, how in (("nearest", {"mode": "nearest"}), ("bilinear", {"mode": "bilinear"}),
                          ("bilinear, align_corners", {"mode": "bilinear", "align_corners": True}),
                          ("nearest-exact", {"mode": "nearest-exact"}),
                          ("bicubic", {"mode": "bicubic"})):  # fmt: skip
            yield Cause(Change.UPSAMPLING, what), on({"interpolate"}, _resized(how))
        yield Cause(Change.UPSAMPLING, "bilinear, TensorFlow 1's"), on({"interpolate"}, _from_corners)
        for what, axes in (("shifted across", (3,)), ("shifted down", (2,)), ("shifted both ways", (2, 3))):
            yield Cause(Change.UPSAMPLING, what), on({"interpolate"}, _shifted(axes))
    if "cat" in called:
        yield Cause(Change.ORDER), on({"cat"}, lambda call, args, kw: call(args[0][::-1], *args[1:], **kw))
    if called & set(MAXIMA):
        yield Cause(Change.POOLING, "mean for maximum"), _pooling(MAXIMA, F.adaptive_avg_pool2d, torch.mean)
    if called & set(MEANS):
        yield Cause(Change.POOLING, "maximum for mean"), _pooling(MEANS, F.adaptive_max_pool2d, torch.amax)


def _amounts(args: tuple[Any, ...], kw: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(kw.get("pad", args[1] if len(args) > 1 else ()))


def _padded_as(mode: str) -> Changed:
    from torch.nn import functional as F

    return lambda call, args, kw: F.pad(args[0], list(_amounts(args, kw)), mode)


def _sides(moved: Callable[[int, int], tuple[int, int]]) -> Changed:
    def padded(call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        """Pad by other amounts."""
        amounts = _amounts(args, kw)
        pairs = [moved(*amounts[at : at + 2]) for at in range(0, len(amounts), 2)]
        return call(args[0], tuple(amount for pair in pairs for amount in pair), **_without(kw, "pad"))

    return padded


def _without(kw: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in kw.items() if key != name}


def _resized(how: Mapping[str, Any]) -> Changed:
    from torch.nn import functional as F

    def resized(call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        """Enlarge in another way to the same size."""
        return F.interpolate(args[0], size=call(*args, **kw).shape[2:], **how)

    return resized


def _from_corners(call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
    """Bilinear, with the first pixels of both pictures at one place."""
    import torch

    x, whole = args[0], call(*args, **kw)
    for axis in (2, 3):
        places = torch.arange(whole.shape[axis], dtype=x.dtype) * (x.shape[axis] / whole.shape[axis])
        lower = places.long()
        shape = [-1 if axis == other else 1 for other in range(4)]
        share = (places - lower).reshape(shape)
        upper = x.index_select(axis, (lower + 1).clamp(max=x.shape[axis] - 1))
        x = x.index_select(axis, lower) * (1 - share) + upper * share
    return x


def _shifted(axes: tuple[int, ...]) -> Changed:
    def shifted(call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        """Shift by one pixel; the last one is repeated."""
        return moved_by_one(call(*args, **kw), axes, 1)

    return shifted


def moved_by_one(x: Any, axes: Sequence[int], by: int, around: bool = False) -> Any:
    """Move a tensor by one place along axes: what leaves comes back at the other end, or the last place is repeated."""
    import torch

    for axis in axes:
        length = x.shape[axis]
        places = torch.arange(length) + by
        x = x.index_select(axis, places % length if around else places.clamp(0, length - 1))
    return x


def _pooling(names: Sequence[str], pooled: Call, reduced: Call) -> Rewritten:
    def rewrite(name: str, call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        """Pool the other way."""
        if name not in names or not is_tensor(args[0]):
            return None
        if name.startswith("adaptive"):
            return pooled(args[0], args[1])
        return reduced(args[0], args[1], **kw) if len(args) > 1 and name.startswith("a") else None

    return rewrite


def _products(called: set[str]) -> Iterator[Candidate]:
    layers = called & {"conv2d", "linear", "conv_transpose2d", "conv1d", "conv3d"}
    for name in layers:
        yield Cause(Change.BIAS, "left out", name), on({name}, lambda call, args, kw: call(*args[:2], None, *args[3:]))
        for what, changed in _weights():
            yield Cause(Change.WEIGHT, what, name), on({name}, _weighted(changed))
        for (what, bits), all_of_it in product((("TF32 or float16", 11), ("bfloat16", 8)), (False, True)):  # digits
            words = f"rounded to {what}{', bias and result, too' * all_of_it}"
            yield Cause(Change.FACTORS, words, name), on({name}, rewrites.rounded(bits, all_of_it))
        for by in (-1, 1):
            yield Cause(Change.CONVOLUTION, f"padding {by:+d}", name), on({name}, _padded_by(by))
    if "conv_transpose2d" in called:
        for down, across in ((1, 1), (-1, -1), (0, 1), (1, 0), (0, -1), (-1, 0)):
            cause = Cause(Change.CONVOLUTION, f"cropped {down:+d}, {across:+d} pixels aside", "conv_transpose2d")
            yield cause, on({"conv_transpose2d"}, _cropped(down, across))
    if "bmm" in called or "matmul" in called:
        name = "bmm" if "bmm" in called else "matmul"
        rewrite = in_call(name, 0, lambda call, args, kw: call(*args, **kw) / args[0].shape[-1] ** 0.5)
        yield Cause(Change.SOFTMAX_SCALE, "divided by the root of the width", name), rewrite
    for name in called & {"div", "truediv"}:
        yield Cause(Change.SIGMA, "", name), on({name}, lambda call, args, kw: _undivided(call, args, kw))


def _sums(names: Sequence[str]) -> Iterator[Candidate]:
    """Sides of sums, and gains of one number, left out."""
    for name in ("add", "add_"):
        for place in range(min(names.count(name), MOST_SUMS)):
            for side in (0, 1):
                cause = Cause(Change.SUM, f"{'second' if side else 'first'} side of sum {place + 1} left out")
                yield cause, in_call(name, place, _without_side(side))
    if "mul" in names:
        yield Cause(Change.GAIN), on({"mul"}, _without_gain)


def _without_side(side: int) -> Changed:
    def kept(call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        """Only the other side of a sum of two tensors."""
        whole = call(*args, **kw)
        kept = args[1 - side]
        return kept * 1 if is_tensor(kept) and kept.shape == whole.shape and is_tensor(args[side]) else whole

    return kept


def _without_gain(call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
    import torch

    gains = [isinstance(arg, torch.nn.Parameter) and arg.numel() == 1 for arg in args]
    return args[gains.index(False)] * 1 if sum(gains) == 1 else call(*args, **kw)


def _cropped(down: int, across: int) -> Changed:
    from torch.nn import functional as F

    def cropped(call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        """Crop what a transposed convolution spreads out at another place."""
        x, weight, bias, stride, padding, *_ = args
        height, width = call(*args, **kw).shape[2:]
        whole = F.pad(call(x, weight, None, stride, 0, 0, *args[6:]), (2, 2, 2, 2))
        top, left = padding[0] + 2 + down, padding[1] + 2 + across
        part = whole[:, :, top : top + height, left : left + width]
        return part if bias is None else part + _column(bias)

    return cropped


def _undivided(call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
    return args[0] * 1 if is_tensor(args[0]) and is_tensor(args[1]) and args[1].numel() == 1 else call(*args, **kw)


def _padded_by(by: int) -> Changed:
    def padded(call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        """Convolve with another padding."""
        return call(*args[:4], tuple(side + by for side in args[4]), *args[5:], **kw)

    return padded


def _weights() -> Iterator[tuple[str, Callable[[Any], Any]]]:
    yield "transposed", lambda weight: weight.transpose(0, 1)
    yield "inputs reversed", lambda weight: weight.flip(1)
    yield "outputs reversed", lambda weight: weight.flip(0)
    yield "turned by half", lambda weight: weight.flip(-1, -2)
    yield "height and width exchanged", lambda weight: weight.transpose(-1, -2)
    yield "rounded to float16", lambda weight: weight.half().to(weight.dtype)
    yield "zero", lambda weight: weight * 0
