"""PyTorch in float64 throughout, also where a network asks for float32 by name, as in `steps.float()`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def in_float64() -> Iterator[None]:
    """Make float64 the type of new tensors and the meaning of float32 in every operation."""
    import torch

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _widened():
            yield
    finally:
        torch.set_default_dtype(default)


def _widened() -> Any:
    import torch
    from torch.overrides import TorchFunctionMode

    types = {torch.float32: torch.float64, torch.complex64: torch.complex128}
    functions = {torch.Tensor.float: torch.Tensor.double}

    def wide(value: Any) -> Any:
        """The type to use where an operation is given one."""
        return types.get(value, value) if isinstance(value, torch.dtype) else value

    class Widened(TorchFunctionMode):
        """Casts to float64 what is to be cast to float32."""

        def __torch_function__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
            """See `TorchFunctionMode`."""
            func = functions.get(func, func)
            named = {name: wide(value) for name, value in (kwargs or {}).items()}
            return func(*(wide(value) for value in args), **named)

    return Widened()
