"""Rules for operators that make, shape, cut and join tensors."""

from typing import Any

import torch

from toonport.porting.arithmetic import of_type
from toonport.porting.expressions import OMIT, Expr, Writer
from toonport.porting.registry import Rule, flat, is_tensor, other_type, rank, refuse_unless, registering

RULES: dict[str, Rule] = {}
rule = registering(RULES)


@rule("reshape")
def _reshape(w: Writer, input: Any, *shape: Any, **more: Any) -> Expr:
    shape = flat(shape) or tuple(more.get("shape", more.get("size", ())))
    refuse_unless(not any(isinstance(side, torch.dtype) for side in shape), "view: as another type")
    return w.method(input, "reshape", *shape)


rule("reshape_as")(lambda w, input, other: Expr(f"{w.atom(input)}.reshape({w.atom(other)}.shape)"))
rule("shape")(lambda w, input: Expr(f"{w.atom(input)}.shape"))
rule("numel")(lambda w, input: Expr(f"{w.atom(input)}.size"))


@rule("flatten")
def _flatten(w: Writer, input: Any, start_dim: int = 0, end_dim: int = -1) -> Expr:
    return w.call("ops.flatten", input, start_dim=start_dim, end_dim=end_dim if end_dim != -1 else OMIT)


@rule("unflatten")
def _unflatten(w: Writer, input: Any, dim: int, sizes: Any) -> Expr:
    axis = dim % rank(input)
    before = [f"{w.atom(input)}.shape[{place}]" for place in range(axis)]
    after = [f"{w.atom(input)}.shape[{place}]" for place in range(axis + 1, rank(input))]
    return Expr(f"{w.atom(input)}.reshape({', '.join([*before, *(w.text(side) for side in sizes), *after])})")


rule("permute")(lambda w, input, *dims, **more: w.method(input, "permute", *(flat(dims) or more["dims"])))
rule("moveaxis")(lambda w, input, source, destination: w.call("ops.movedim", input, source, destination))
rule("transpose")(lambda w, input, dim0, dim1: w.method(input, "swapaxes", dim0, dim1))


@rule("T", "t")
def _turned(w: Writer, input: Any) -> Expr:
    return Expr(f"{w.atom(input)}.T") if rank(input) == 2 else w.method(input, "permute", *reversed(range(rank(input))))


rule("mT")(lambda w, input: w.method(input, "swapaxes", -2, -1))


@rule("squeeze")
def _squeeze(w: Writer, input: Any, dim: Any = None) -> Expr:
    """An axis that is longer stays; MindSpore would refuse it."""
    if dim is None:
        return w.method(input, "squeeze")
    dims = dim if isinstance(dim, tuple | list) else (dim,)
    short = tuple(axis for axis in dims if input.shape[axis] == 1)
    return w.method(input, "squeeze", short[0] if len(short) == 1 else short) if short else w.expr(input)


rule("unsqueeze")(lambda w, input, dim: w.method(input, "unsqueeze", dim))
rule("expand", "broadcast_to")(
    lambda w, input, *sizes, size=(), implicit=None: w.call("ops.broadcast_to", input, flat(sizes or (size,)))
)
rule("expand_as")(lambda w, input, other: Expr(f"ops.broadcast_to({w.text(input)}, {w.atom(other)}.shape)"))
rule("repeat", "tile")(
    lambda w, input, *sizes, repeats=(), dims=(): w.call("ops.tile", input, flat(sizes or (repeats or dims,)))
)


@rule("repeat_interleave")
def _repeat_interleave(w: Writer, input: Any, repeats: Any, dim: Any = None) -> Expr:
    refuse_unless(not is_tensor(repeats) and dim is not None, "repeat_interleave: by a tensor, or without dim")
    return w.call("ops.repeat_interleave", input, repeats, dim)


rule("cat")(lambda w, tensors, dim=0, **more: w.call("ops.cat", tuple(tensors), more.get("axis", dim)))
rule("stack")(lambda w, tensors, dim=0: w.call("ops.stack", tuple(tensors), dim))
rule("chunk")(lambda w, input, chunks, dim=0: w.call("ops.chunk", input, chunks, dim))


@rule("split", "split_with_sizes")
def _split(w: Writer, input: Any, split_size_or_sections: Any = None, dim: int = 0, **more: Any) -> Expr:
    sizes = more.get("split_size", split_size_or_sections)
    return w.call("ops.split", input, list(sizes) if isinstance(sizes, tuple | list) else sizes, dim)


rule("unbind")(lambda w, input, dim=0: w.call("ops.unbind", input, dim))


@rule("getitem")
def _getitem(w: Writer, input: Any, index: Any) -> Expr:
    parts = index if isinstance(index, tuple) else (index,)
    masks = [part for part in parts if is_tensor(part) and part.example.dtype == torch.bool]
    refuse_unless(not masks, "indexing by a mask: the shape of the result depends on values")
    text, parts = _every(w, input, parts)
    words = ", ".join(w.text(part) for part in parts)
    plain = all((isinstance(part, slice) and part == slice(None)) or part is Ellipsis for part in parts)
    return Expr(text if plain and text != w.atom(input) else f"{text}[{words}]")


def _every(w: Writer, input: Any, parts: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """What is left to index where only every so many elements are taken, and how; MindSpore has no gradient of that."""
    text, left = w.atom(input), list(parts)
    counted = [part for part in parts if part is not None and part is not Ellipsis]
    for place, part in enumerate(parts):
        if not isinstance(part, slice) or part.step in (None, 1):
            continue
        refuse_unless(None not in parts, "indexing by steps and by new axes at once")
        step: Any = getattr(part.step, "example", part.step)
        stop = getattr(part.stop, "example", part.stop)
        refuse_unless(step > 0 and (stop is None or stop >= 0), "indexing by steps from the end")
        before = parts[:place]
        axis = place + (rank(input) - len(counted) - 1 if Ellipsis in before else 0)
        bounds = [w.text(axis), w.text(part.start or 0), w.text(part.step)] + (
            [] if stop is None else [w.text(part.stop)]
        )
        text, left[place] = f"every({text}, {', '.join(bounds)})", slice(None)
        w.functions.add("every")
    return text, tuple(left)


@rule("setitem")
def _setitem(w: Writer, input: Any, index: Any, value: Any) -> Expr:
    parts = index if isinstance(index, tuple) else (index,)
    refuse_unless(not any(is_tensor(part) for part in parts), "writing elements at places that a tensor says")
    words = [_place(w, part) for part in parts]
    w.functions.add("with_elements")
    return Expr(f"with_elements({w.text(input)}, ({', '.join(words)},), {w.text(value)})")


def _place(w: Writer, part: Any) -> str:
    """One part of an index, outside of brackets."""
    if isinstance(part, slice):
        bounds = [part.start, part.stop] if part.step is None else [part.start, part.stop, part.step]
        return f"slice({', '.join(w.text(bound) for bound in bounds)})"
    return w.text(part)


rule("select")(
    lambda w, input, dim, index: Expr(f"{w.atom(input)}[{', '.join([':'] * (dim % rank(input)) + [w.text(index)])}]")
)
rule("narrow")(lambda w, input, dim, start, length: w.call("ops.narrow", input, dim, start, length))
rule("index_select")(lambda w, input, dim, index: w.call("ops.index_select", input, dim, index))
rule("gather")(lambda w, input, dim, index: w.call("ops.gather_elements", input, dim, index))
rule("take_along_dim")(lambda w, input, indices, dim: w.call("ops.gather_elements", input, dim, indices))


@rule("roll")
def _roll(w: Writer, input: Any, shifts: Any, dims: Any = None) -> Expr:
    """MindSpore has no kernel for it on CPU that takes several axes."""
    refuse_unless(dims is not None, "roll: without dims")
    several = isinstance(dims, tuple | list)
    return w.own_function("roll", input, tuple(shifts) if several else (shifts,), tuple(dims) if several else (dims,))


rule("flip")(lambda w, input, *axes, dims=(): w.call("ops.flip", input, flat(axes or (dims,))))
# What PyTorch does for memory alone.
rule("contiguous", "clone", "requires_grad", "data", "alias", "lift_fresh", "positive", "real_tensor")(
    lambda w, input, *args, **more: w.expr(input)
)


@rule("copy")
def _copy(w: Writer, input: Any, src: Any, non_blocking: bool = False) -> Expr:
    """What is written into the whole of a tensor."""
    alike = is_tensor(src) and src.shape == input.shape and not other_type(src, input.example.dtype)
    refuse_unless(alike, "copy_: of another shape or type")
    return w.expr(src)


rule("fill")(lambda w, input, value: w.call("ops.full_like", input, value))
rule("zero")(lambda w, input: w.call("ops.zeros_like", input))


@rule("to", "type")
def _to(w: Writer, input: Any, *args: Any, **more: Any) -> Expr:
    """Another type; devices are the caller's choice."""
    asked = [each for each in (*args, *more.values()) if isinstance(each, torch.dtype)]
    like = [each.example.dtype for each in args if is_tensor(each)]
    dtype = next(iter([*asked, *like]), input.example.dtype)
    return of_type(w, input, dtype)


rule("type_as")(lambda w, input, other: _to(w, input, other))


TYPES = {
    "float": torch.float32, "half": torch.float16, "double": torch.float64, "bfloat16": torch.bfloat16,
    "long": torch.int64, "int": torch.int32, "bool": torch.bool,
}  # fmt: skip


def _typed(dtype: torch.dtype) -> Rule:
    return lambda w, input, memory_format=None: _to(w, input, dtype)


RULES.update({name: _typed(dtype) for name, dtype in TYPES.items()})


rule("masked_fill")(lambda w, input, mask, value: w.call("ops.masked_fill", input, mask, value))
rule("where")(lambda w, condition, input, other: w.call("ops.where", condition, input, other))
rule("tril", "triu")(lambda w, input, diagonal=0: w.call(f"ops.{w.hint}", input, diagonal))


# new tensors


def _new_type(dtype: Any) -> Any:
    return dtype or torch.get_default_dtype()


rule("zeros", "ones")(
    lambda w, *size, dtype=None, **more: w.call(f"ops.{w.hint}", flat(size or (more["size"],)), _new_type(dtype))
)


@rule("empty", "new_empty", "new_zeros", "new_ones", "empty_like")
def _new(w: Writer, *args: Any, dtype: Any = None, **more: Any) -> Expr:
    """What is not yet written is 0."""
    function = "ops.ones" if w.hint == "new_ones" else "ops.zeros"
    if w.hint == "empty_like":
        return w.call("ops.zeros_like", args[0])
    like, size = (None, args) if w.hint == "empty" else (args[0], args[1:])
    kind = dtype or (like.example.dtype if like is not None else torch.get_default_dtype())
    return w.call(function, flat(size or (more.get("size", ()),)), kind)


@rule("full")
def _full(w: Writer, size: Any, fill_value: Any, *, dtype: Any = None, **more: Any) -> Expr:
    default = torch.get_default_dtype() if isinstance(fill_value, float) else torch.int64
    return w.call("ops.full", tuple(size), fill_value, dtype=dtype or default)


@rule("new_full")
def _new_full(w: Writer, input: Any, size: Any, fill_value: Any, *, dtype: Any = None, **more: Any) -> Expr:
    return w.call("ops.full", tuple(size), fill_value, dtype=dtype or input.example.dtype)


rule("full_like")(lambda w, input, fill_value, **more: w.call("ops.full_like", input, fill_value))


@rule("arange")
def _arange(w: Writer, *args: Any, dtype: Any = None, **more: Any) -> Expr:
    refuse_unless(not {"start", "end", "step"} & set(more), "arange: by keywords")
    whole = all(isinstance(each, int) or not isinstance(getattr(each, "example", each), float) for each in args)
    return w.call("ops.arange", *args, dtype=dtype or (torch.int64 if whole else torch.get_default_dtype()))


@rule("linspace")
def _linspace(w: Writer, start: Any, end: Any, steps: Any, *, dtype: Any = None, **more: Any) -> Expr:
    refuse_unless(dtype in (None, torch.float32), "linspace: of another type than float32")
    return w.call("ops.linspace", start, end, steps)


@rule("tensor")
def _tensor(w: Writer, data: Any, *, dtype: Any = None, **more: Any) -> Expr:
    example = torch.tensor(_numbers(data))
    return w.call("Tensor", data, dtype or example.dtype)


def _numbers(data: Any) -> Any:
    """Numbers as the run had them."""
    if isinstance(data, tuple | list):
        return [_numbers(each) for each in data]
    return getattr(data, "example", data)


rule("meshgrid")(lambda w, *tensors, indexing="ij": w.call("ops.meshgrid", *flat(tensors), indexing=indexing))


@rule("bernoulli")
def _bernoulli(w: Writer, input: Any, p: Any = None, **more: Any) -> Expr:
    """By dropout, so that comparisons can put it at rest."""
    refuse_unless(isinstance(p, float), "bernoulli: with a probability for each element")
    return w.own_function("random_mask", input, p)


rule("new_tensor")(lambda w, input, data, *, dtype=None, **more: w.call("Tensor", data, dtype or input.example.dtype))
