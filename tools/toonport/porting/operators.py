"""What the functions and methods of PyTorch are called, and which of them only ask, or read values."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from convert.devices import CPU
from toonport.porting.values import UnportableError

# functions that share their name with a method that does something else
RENAMED = {functional.unfold: "im2col", functional.fold: "col2im"}
# asked of a tensor without making another one; the answer goes into the code as it is
ASKED = {
    "dtype", "device", "ndim", "dim", "is_floating_point", "requires_grad", "is_cuda", "is_contiguous", "stride",
    "layout", "is_sparse", "is_quantized", "is_complex", "is_mps", "is_meta", "names", "element_size", "get_device",
    "data_ptr", "result_type", "is_nested", "is_xpu", "grad_fn", "is_leaf", "grad", "storage_offset", "is_same_size",
    "is_tensor", "is_inference", "_version", "_base", "itemsize", "nbytes", "_backward_hooks",
    "__hash__", "__repr__", "__str__", "__format__",
    "retain_grad", "promote_types", "get_default_dtype", "can_cast", "finfo", "iinfo", "register_hook", "assert_async",
}  # fmt: skip
# gives values of tensors to Python, which then may do anything with them
READ = {
    "__bool__": "a decision by the values of a tensor",
    "__int__": "a number out of a tensor",
    "__float__": "a number out of a tensor",
    "__index__": "a number out of a tensor",
    "__contains__": "a decision by the values of a tensor",
    "item": "a number out of a tensor",
    "tolist": "numbers out of a tensor",
    "numpy": "an array out of a tensor",
    "__array__": "an array out of a tensor",
    "equal": "a decision by the values of a tensor",
    "allclose": "a decision by the values of a tensor",
}


ANSWERED = frozenset({*ASKED, *READ, "__get__", "__len__"})  # gives no tensor


def require_known(func: Any, name: str, at: Callable[[], str]) -> None:
    """Raise UnportableError where a function sets something on a tensor, or chooses types; `at` says where."""
    if func.__name__ == "__set__" and name not in {"requires_grad", "grad"}:
        raise UnportableError(f"{name}: is set on a tensor in the forward{at()}")
    if torch.is_autocast_enabled(CPU):
        raise UnportableError(f"autocast: its choice of types is not written{at()}")


def name_of(func: Any) -> str:
    """Name of a function of PyTorch; of a property, that of the property."""
    if func in RENAMED:
        return RENAMED[func]
    name = getattr(func, "__name__", type(func).__name__)
    if name in {"__get__", "__set__"}:
        return str(getattr(func.__self__, "__name__", getattr(getattr(func.__self__, "fget", None), "__name__", name)))
    return str(name)


def canonical(name: str) -> str:
    """One name for the forms of an operator: function, method, in place, Python's operator."""
    bare = name.removeprefix("linalg_").removeprefix("special_").strip("_") or name
    return SAME.get(bare, bare)


SAME = {
    "iadd": "add", "radd": "add", "isub": "sub", "subtract": "sub", "imul": "mul", "rmul": "mul", "multiply": "mul",
    "itruediv": "div", "truediv": "div", "idiv": "div", "true_divide": "div", "divide": "div", "rtruediv": "rdiv",
    "floor_divide": "floordiv", "ifloordiv": "floordiv", "remainder": "mod", "negative": "neg", "ipow": "pow",
    "absolute": "abs", "concat": "cat", "concatenate": "cat", "swapaxes": "transpose", "swapdims": "transpose",
    "greater": "gt", "less": "lt", "greater_equal": "ge", "less_equal": "le", "not_equal": "ne", "bitwise_and": "and",
    "logical_and": "and", "iand": "and", "or": "or", "bitwise_or": "or", "logical_or": "or", "invert": "logical_not",
    "bitwise_not": "logical_not", "clip": "clamp", "movedim": "moveaxis", "view": "reshape", "view_as": "reshape_as",
    "fix": "trunc", "imatmul": "matmul", "H": "mT",
}  # fmt: skip


def changes(name: str) -> bool:
    """Whether an operator writes into its first argument."""
    return name == "__setitem__" or (name.endswith("_") and not name.startswith("__")) or name.startswith("__i")
