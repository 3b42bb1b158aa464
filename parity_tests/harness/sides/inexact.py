"""PyTorch with the errors of other programs' kernels, or of products in TF32, for the runs that measure noise."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from parity_tests.harness.legs import legs_in_use
from parity_tests.harness.sides.base import Array
from parity_tests.tolerances import KERNELS, ULP, Kernel


@contextmanager
def inexact_kernels(seed: int, kernels: Mapping[str, Kernel] = KERNELS) -> Iterator[None]:
    """Compute float32 functions as inexactly as another program does, by seeded random errors.

    Args:
        seed: of the errors; 0: none.
        kernels: those of the program, by name in PyTorch's dispatcher; default: MindSpore's.
    """
    if seed == 0:
        yield
        return
    with _mode(seed, kernels):
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


def _mode(seed: int, kernels: Mapping[str, Kernel]) -> Any:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    generator = torch.Generator().manual_seed(seed)

    def inexact(kernel: Kernel, value: Any) -> Any:
        """A result with errors up to half of the kernel's."""
        size = kernel.relative * value.abs().clamp(max=1) ** kernel.power * value.abs() + kernel.absolute
        return value + (ULP * (torch.rand(value.shape, generator=generator).to(value.device) - 0.5)) * size

    class Inexact(TorchDispatchMode):
        """Changes what the functions return, in place where they work in place."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            """See `TorchDispatchMode`."""
            found = func(*args, **(kwargs or {}))
            name = func.overloadpacket.__name__
            kernel = kernels.get(name.removesuffix("_"))
            first = found[0] if isinstance(found, tuple) else found
            if kernel is None or first.dtype != torch.float32:
                return found
            changed = inexact(kernel, first)
            if name.endswith("_"):
                return first.copy_(changed)
            return (changed, *found[1:]) if isinstance(found, tuple) else changed

    return Inexact()


@contextmanager
def biases_summed_in_turn(seed: int) -> Iterator[None]:
    """Add up the float32 gradient of a convolution's bias as MindSpore's kernel does: pixel by pixel of each picture.

    PyTorch adds in pairs. Where large terms cancel, as in a bias before an instance norm, such rounding is all there is
    of them. Where the sums of several calls cancel, their last places are: each is moved by up to one unit there, up,
    down, or not at all (seed 0: none moves).
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    generator = np.random.default_rng(seed)

    class InTurn(TorchDispatchMode):
        """Changes the bias's gradient."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            """See `TorchDispatchMode`."""
            found = func(*args, **(kwargs or {}))
            if func.overloadpacket.__name__ != "convolution_backward" or found[2] is None:
                return found
            weights, bias = found[:2], found[2]
            if bias.dtype != torch.float32:
                return found
            sums = summed_in_turn(args[0].numpy(force=True))
            if seed:
                sums += generator.integers(-1, 2, sums.shape).astype(np.float32) * np.spacing(sums)
            return *weights, torch.from_numpy(sums).to(bias.device)

    with InTurn():
        yield


def summed_in_turn(gradient: Array) -> Array:
    """Sums of float32 numbers [N, C, ...] over each picture one after the other, then over the pictures, [C]."""
    pictures = gradient.reshape(*gradient.shape[:2], -1)  # [N, C, pixels]
    sums = np.add.accumulate(pictures, axis=2)[:, :, -1]
    return np.ascontiguousarray(np.add.accumulate(sums, axis=0)[-1])


# Operations of PyTorch's dispatcher that multiply -> places of the factors among their arguments
PRODUCTS: Mapping[str, tuple[int, ...]] = {
    "mm": (0, 1),
    "mv": (0, 1),
    "bmm": (0, 1),
    "addmm": (1, 2),
    "addmv": (1, 2),
    "addbmm": (1, 2),
    "baddbmm": (1, 2),
    "convolution": (0, 1),
    "convolution_backward": (0, 1, 2),
    "mkldnn_rnn_layer": tuple(range(7)),
    "_cudnn_rnn": (0, 1),
    "_scaled_dot_product_flash_attention_for_cpu": (0, 1, 2),
    "_scaled_dot_product_efficient_attention": (0, 1, 2),
}
LEFT_OUT = 23 - 10  # bits of a float32's fraction that TF32 lacks


@contextmanager
def tf32_products(seed: int) -> Iterator[None]:
    """Round the float32 factors of products to TF32 where the legs in use allow it, for the runs that measure noise.

    Devices round to the nearest number, or leave the last bits out: odd seeds do the one, even ones the other; seed 0
    changes nothing.
    """
    if seed == 0 or not legs_in_use().tf32:
        yield
        return
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    def rounded(value: Any) -> Any:
        """A float32 tensor with the fraction of TF32; anything else as it is."""
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
            return value
        bits = value.contiguous().view(torch.int32)
        up = (bits >> LEFT_OUT & 1) + (1 << LEFT_OUT - 1) - 1 if seed % 2 else 0
        found = ((bits + up) >> LEFT_OUT << LEFT_OUT).view(torch.float32)
        return torch.where(value.isfinite(), found, value)

    class Rounding(TorchDispatchMode):
        """Changes the factors."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            """See `TorchDispatchMode`."""
            places = PRODUCTS.get(func.overloadpacket.__name__.removesuffix("_"), ())
            own = [rounded(value) if place in places else value for place, value in enumerate(args)]
            return func(*own, **(kwargs or {}))

    with Rounding():
        yield
