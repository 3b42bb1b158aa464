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

    def wide(value: Any) -> Any:
        """The type to use where an operation is given one."""
        return torch.float64 if value is torch.float32 else value

    class Widened(TorchFunctionMode):
        """Casts to float64 what is to be cast to float32."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            """See `TorchFunctionMode`."""
            func = torch.Tensor.double if func is torch.Tensor.float else func
            named = {name: wide(value) for name, value in (kwargs or {}).items()}
            return func(*(wide(value) for value in args), **named)

    return Widened()
