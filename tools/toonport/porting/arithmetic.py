"""Rules for operators that compute number by number, and for sums and other reductions.

One function per operator, with PyTorch's own arguments; what an argument asks for and no rule knows is refused by name.
The traps of MindSpore's kernels that a rule goes round are said where it does.
"""

from typing import Any

from toonport.porting.expressions import ADDED, COMPARED, MULTIPLIED, OMIT, SIGNED, Expr, Writer
from toonport.porting.registry import Rule, flat, is_tensor, other_type, rank, refuse_unless, registering

RULES: dict[str, Rule] = {}
rule = registering(RULES)


def _operator(sign: str, level: int) -> Rule:
    """A rule that writes an operator of Python's; `alpha` is PyTorch's factor of the second operand."""

    def write(w: Writer, input: Any, other: Any, *, alpha: Any = 1, rounding_mode: Any = None) -> Expr:
        """Write it."""
        if rounding_mode is not None:
            refuse_unless(rounding_mode == "floor", f"div: rounding_mode={rounding_mode}")
            return Expr(f"{w.text(input, MULTIPLIED)} // {w.text(other, SIGNED)}", MULTIPLIED)
        second = w.text(other, level + 1)
        if alpha != 1:
            second = f"{w.text(alpha)} * {w.text(other, SIGNED)}"
        return Expr(f"{w.text(input, level)} {sign} {second}", level)

    return write


def _swapped(sign: str, level: int) -> Rule:
    """A rule that writes an operator with the operands the other way round."""
    return lambda w, input, other: Expr(f"{w.text(other, level)} {sign} {w.text(input, level + 1)}", level)


OPERATORS = {
    "add": ("+", ADDED), "sub": ("-", ADDED), "mul": ("*", MULTIPLIED), "div": ("/", MULTIPLIED),
    "floordiv": ("//", MULTIPLIED), "mod": ("%", MULTIPLIED),
    "gt": (">", COMPARED), "lt": ("<", COMPARED), "ge": (">=", COMPARED), "le": ("<=", COMPARED),
    "eq": ("==", COMPARED), "ne": ("!=", COMPARED),
}  # fmt: skip
RULES.update({name: _operator(sign, level) for name, (sign, level) in OPERATORS.items()})
RULES.update({"rsub": _swapped("-", ADDED), "rdiv": _swapped("/", MULTIPLIED)})


rule("pow")(lambda w, input, exponent: Expr(f"{w.atom(input)} ** {w.text(exponent, SIGNED)}", SIGNED))
rule("rpow")(lambda w, input, other: Expr(f"{w.atom(other)} ** {w.text(input, SIGNED)}", SIGNED))
rule("neg")(lambda w, input: Expr(f"-{w.atom(input)}", SIGNED))
rule("and")(lambda w, input, other: w.call("ops.logical_and", input, other))
rule("or")(lambda w, input, other: w.call("ops.logical_or", input, other))
rule("ceil")(lambda w, input: w.call("ops.ceil", input) if is_tensor(input) else Expr(f"int(-(-{w.atom(input)} // 1))"))
rule("floor")(lambda w, input: w.call("ops.floor" if is_tensor(input) else "int", input))
rule("round")(lambda w, input: w.call("ops.round" if is_tensor(input) else "round", input))


# of one tensor, and the same function in MindSpore
UNARY = {
    "relu": "ops.relu", "relu6": "ops.relu6", "sigmoid": "ops.sigmoid", "exp": "ops.exp", "expm1": "ops.expm1",
    "log": "ops.log", "log1p": "ops.log1p", "log2": "ops.log2", "log10": "ops.log10", "sqrt": "ops.sqrt",
    "rsqrt": "ops.rsqrt", "abs": "ops.abs", "sign": "ops.sign", "sin": "ops.sin",
    "cos": "ops.cos", "tan": "ops.tan", "asin": "ops.asin", "acos": "ops.acos", "atan": "ops.atan", "sinh": "ops.sinh",
    "cosh": "ops.cosh", "erf": "ops.erf", "square": "ops.square", "reciprocal": "ops.reciprocal", "trunc": "ops.trunc",
    "silu": "ops.silu", "mish": "ops.mish", "hardswish": "ops.hardswish",
    "softsign": "ops.softsign", "logsigmoid": "ops.logsigmoid", "log_sigmoid": "ops.logsigmoid", "isnan": "ops.isnan",
    "logical_not": "ops.logical_not", "detach": "ops.stop_gradient", "zeros_like": "ops.zeros_like",
    "ones_like": "ops.ones_like", "erfc": "ops.erfc", "isinf": "ops.isinf", "isfinite": "ops.isfinite",
}  # fmt: skip


def _unary(function: str) -> Rule:
    def write(w: Writer, input: Any, inplace: Any = None, *, dtype: Any = None, **ignored: Any) -> Expr:
        """Write it; the type of new tensors follows the old one's."""
        if dtype is not None and dtype != input.example.dtype:
            return w.call(function, input, dtype=dtype)
        return w.call(function, input)

    return write


RULES.update({name: _unary(function) for name, function in UNARY.items()})


# MindSpore's own kernel on CPU is off by up to 1e-4 beyond 4.
rule("tanh")(lambda w, input: w.own_function("tanh", input))
rule("hardsigmoid")(lambda w, input, inplace=False: w.call("ops.hardsigmoid", input))
rule("leaky_relu")(lambda w, input, negative_slope=0.01, inplace=False: w.call("ops.leaky_relu", input, negative_slope))


@rule("elu")
def _elu(w: Writer, input: Any, alpha: float = 1.0, inplace: Any = False) -> Expr:
    """MindSpore's kernel on CPU knows alpha 1 only."""
    return w.call("ops.elu", input) if alpha == 1 else w.own_function("elu", input, alpha)


# MindSpore's own has a wrong gradient on CPU.
rule("selu")(lambda w, input, inplace=False: w.own_function("selu", input))
rule("celu")(lambda w, input, alpha=1.0, inplace=False: w.call("ops.celu", input, alpha))
rule("gelu")(lambda w, input, *, approximate="none": w.call("ops.gelu", input, approximate=approximate))
rule("softplus")(lambda w, input, beta=1, threshold=20: w.call("ops.softplus", input, beta, threshold))
rule("hardtanh")(
    lambda w, input, min_val=-1.0, max_val=1.0, inplace=False: w.call("ops.clamp", input, min_val, max_val)
)
rule("clamp")(lambda w, input, min=None, max=None: w.call("ops.clamp", input, min, max))
rule("clamp_min")(lambda w, input, min: w.call("ops.clamp", input, min))
rule("clamp_max")(lambda w, input, max: w.call("ops.clamp", input, None, max))
rule("glu")(lambda w, input, dim=-1: w.own_function("glu", input, dim))
rule("prelu")(lambda w, input, weight: w.call("ops.prelu", input, weight))


@rule("softmax")
def _softmax(w: Writer, input: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Expr:
    refuse_unless(dim is not None, "softmax: without dim")
    return w.call("ops.softmax", input, dim, dtype=dtype if other_type(input, dtype) else OMIT)


@rule("log_softmax")
def _log_softmax(w: Writer, input: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Expr:
    refuse_unless(dim is not None, "log_softmax: without dim")
    return w.call("ops.log_softmax", of_type(w, input, dtype), dim)


BINARY = {
    "maximum": "ops.maximum", "minimum": "ops.minimum", "atan2": "ops.atan2", "fmod": "ops.fmod",
    "outer": "ops.outer", "bmm": "ops.bmm", "matmul": "ops.matmul", "mm": "ops.matmul", "mv": "ops.matmul",
    "xlogy": "ops.xlogy", "cross": "ops.cross",
}  # fmt: skip


def _binary(function: str) -> Rule:
    return lambda w, input, other: w.call(function, input, other)


RULES.update({name: _binary(function) for name, function in BINARY.items()})


@rule("dot", "inner", "vdot")
def _dot(w: Writer, input: Any, other: Any) -> Expr:
    refuse_unless(rank(input) == rank(other) == 1, f"{w.hint}: of other than vectors")
    return Expr(f"ops.sum({w.text(input, MULTIPLIED)} * {w.text(other, SIGNED)})")


rule("rmatmul")(lambda w, input, other: w.call("ops.matmul", other, input))


@rule("addmm", "baddbmm")
def _addmm(w: Writer, input: Any, first: Any, second: Any, *, beta: Any = 1, alpha: Any = 1) -> Expr:
    refuse_unless(beta == 1 and alpha == 1, "addmm: with beta or alpha")
    return Expr(f"{w.text(input, ADDED)} + {w.call('ops.matmul', first, second).text}", ADDED)


@rule("addcmul", "addcdiv")
def _addcmul(w: Writer, input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Expr:
    sign = "*" if w.hint == "addcmul" else "/"
    scaled = f"{w.text(value, MULTIPLIED)} * " if is_tensor(value) or value != 1 else ""
    return Expr(
        f"{w.text(input, ADDED)} + {scaled}{w.text(tensor1, MULTIPLIED)} {sign} {w.text(tensor2, SIGNED)}", ADDED
    )


@rule("lerp")
def _lerp(w: Writer, input: Any, end: Any, weight: Any) -> Expr:
    first, last = w.text(input, ADDED), w.text(end, ADDED)
    return Expr(f"{first} + {w.text(weight, SIGNED)} * ({last} - {w.text(input, MULTIPLIED)})", ADDED)


# reductions


def of_type(w: Writer, input: Any, dtype: Any) -> Expr:
    """A tensor as the type that a reduction is asked for, which PyTorch turns it into first."""
    return w.method(input, "astype", dtype) if other_type(input, dtype) else w.expr(input)


def axes(dim: Any) -> Any:
    """Return axes as MindSpore takes them: one number, or several in a tuple."""
    return tuple(dim) if isinstance(dim, list | tuple) else dim


@rule("mean")
def _mean(w: Writer, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Expr:
    return w.call(
        "ops.mean", of_type(w, input, dtype), *([] if dim is None else [axes(dim)]), *([True] if keepdim else [])
    )


@rule("sum")
def _sum(w: Writer, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Expr:
    return w.call(
        "ops.sum", of_type(w, input, dtype), *([] if dim is None else [axes(dim)]), keepdim=True if keepdim else OMIT
    )


rule("amax", "amin")(
    lambda w, input, dim=None, keepdim=False: w.call(f"ops.{w.hint}", input, axes(dim), *([True] if keepdim else []))
)


@rule("max", "min")
def _max(w: Writer, input: Any, dim: Any = None, keepdim: bool = False) -> Expr:
    """MindSpore's method returns the values alone in graphs; its function returns both, with PyTorch's gradient."""
    if dim is None:
        return w.call(f"ops.a{w.hint}", input)
    if is_tensor(dim):
        return w.call(f"ops.{w.hint}imum", input, dim)
    return w.call(f"ops.{w.hint}", input, dim, *([True] if keepdim else []))


rule("argmax", "argmin")(
    lambda w, input, dim=None, keepdim=False: w.call(f"ops.{w.hint}", input, dim, keepdim=True if keepdim else OMIT)
)


@rule("var", "std")
def _var(w: Writer, input: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, **more: Any) -> Expr:
    """MindSpore's own default is the biased variance, and its gradient NaN where there is none."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    ddof = more.pop("correction", 1 if unbiased is None else int(unbiased))
    refuse_unless(not more, f"{w.hint}: with {', '.join(more)}")
    variance = w.own_function("variance", input, axes(dim), int(ddof), bool(keepdim))
    return variance if w.hint.startswith("var") else _root(w, variance)


@rule("var_mean", "std_mean")
def _var_mean(w: Writer, input: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, **more: Any) -> Expr:
    spread = _var(w, input, dim, unbiased, keepdim, **more)
    return Expr(f"({spread.text}, {_mean(w, input, dim, keepdim).text})")


def _root(w: Writer, value: Expr) -> Expr:
    w.functions.add("root")
    return Expr(f"root({value.text})")


@rule("norm", "vector_norm")
def _norm(w: Writer, input: Any, p: Any = 2, dim: Any = None, keepdim: bool = False, **more: Any) -> Expr:
    order = more.pop("ord", p)
    plain = order in (2, None, "fro") and not any(value is not None for value in more.values())
    refuse_unless(plain, "norm: of another order than 2")
    words = [f"ops.square({w.text(input)})", *([w.text(axes(dim))] if dim is not None else [])]
    return _root(w, Expr(f"ops.sum({', '.join([*words, *(['keepdim=True'] if keepdim else [])])})"))


rule("prod")(
    lambda w, input, dim=None, keepdim=False: w.call("ops.prod", input, dim, keep_dims=True if keepdim else OMIT)
)
rule("cumsum")(lambda w, input, dim, *, dtype=None: w.call("ops.cumsum", of_type(w, input, dtype), dim))
rule("logsumexp")(
    lambda w, input, dim, keepdim=False: w.call("ops.logsumexp", input, axes(dim), *([True] if keepdim else []))
)
rule("any", "all")(
    lambda w, input, dim=None, keepdim=False: w.call(f"ops.{w.hint}", input, axes(dim), *([True] if keepdim else []))
)
rule("topk")(lambda w, input, k, dim=-1, largest=True, sorted=True: w.call("ops.topk", input, k, dim, largest, sorted))
rule("sort")(lambda w, input, dim=-1, descending=False: w.call("ops.sort", input, dim, descending))
rule("argsort")(lambda w, input, dim=-1, descending=False: w.call("ops.argsort", input, dim, descending))


@rule("einsum")
def _einsum(w: Writer, equation: Any, *operands: Any) -> Expr:
    """As a product of matrices, with the axes of both in the order that it needs; MindSpore has no kernel on CPU."""
    operands = flat(operands)
    refuse_unless(isinstance(equation, str) and "." not in equation, "einsum: in sublist form or with an ellipsis")
    inputs, _, output = equation.replace(" ", "").partition("->")
    names = inputs.split(",")
    refuse_unless(len(names) == 2 and bool(output), f"einsum {equation}: of other than two tensors, or without ->")
    first, second = names
    both = set(first) & set(second)
    batch = [each for each in output if each in both]
    summed = [each for each in first if each in both and each not in output]
    left = [each for each in first if each not in both]
    right = [each for each in second if each not in both]
    plain = len(summed) == len(left) == len(right) == 1 and set(output) == {*batch, *left, *right}
    refuse_unless(plain and len(set(first)) == len(first), f"einsum {equation}: not a product of matrices")
    a = _in_order(w, operands[0], first, [*batch, *left, *summed])
    b = _in_order(w, operands[1], second, [*batch, *summed, *right])
    product = Expr(f"ops.matmul({a}, {b})")
    made = "".join([*batch, *left, *right])
    return product if made == output else Expr(f"{product.text}.permute{tuple(made.index(each) for each in output)}")


def _in_order(w: Writer, value: Any, names: str, wanted: list[str]) -> str:
    order = tuple(names.index(each) for each in wanted)
    return w.text(value) if order == tuple(range(len(order))) else f"{w.atom(value)}.permute{order}"
