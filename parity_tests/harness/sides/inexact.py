"""PyTorch with the errors that MindSpore's kernels of some functions make, for the runs that measure noise."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from parity_tests.tolerances import KERNELS, ULP, Kernel


@contextmanager
def inexact_kernels(seed: int) -> Iterator[None]:
    """Compute float32 functions of KERNELS as inexactly as MindSpore does, by seeded random errors; seed 0: exactly."""
    if seed == 0:
        yield
        return
    with _mode(seed):
        yield


@contextmanager
def watched_kernels(found: Callable[[], None]) -> Iterator[None]:
    """Call `found` whenever a function of KERNELS is computed."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watched(TorchDispatchMode):
        """Looks at names alone."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            """See `TorchDispatchMode`."""
            if func.overloadpacket.__name__.removesuffix("_") in KERNELS:
                found()
            return func(*args, **(kwargs or {}))

    with Watched():
        yield


def _mode(seed: int) -> Any:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    generator = torch.Generator().manual_seed(seed)

    def inexact(kernel: Kernel, value: Any) -> Any:
        """A result with errors up to half of the kernel's."""
        size = kernel.relative * value.abs().clamp(max=1) ** kernel.power * value.abs() + kernel.absolute
        return value + (ULP * (torch.rand(value.shape, generator=generator) - 0.5)) * size

    class Inexact(TorchDispatchMode):
        """Changes what functions of KERNELS return, in place where they work in place."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            """See `TorchDispatchMode`."""
            found = func(*args, **(kwargs or {}))
            name = func.overloadpacket.__name__
            kernel = KERNELS.get(name.removesuffix("_"))
            first = found[0] if isinstance(found, tuple) else found
            if kernel is None or first.dtype != torch.float32:
                return found
            changed = inexact(kernel, first)
            if name.endswith("_"):
                return first.copy_(changed)
            return (changed, *found[1:]) if isinstance(found, tuple) else changed

    return Inexact()
