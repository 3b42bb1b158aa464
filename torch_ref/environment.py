"""What PyTorch calls the devices, and how it computes on them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from convert.devices import ASCEND, CPU, GPU, refusal

CUDA = "cuda"
EXACT, TF32, BF16 = "ieee", "tf32", "bf16"


def place_of(device: str) -> str:
    """Return what PyTorch calls one of `DEVICES`. Raises InputError: it is not usable here."""
    import torch

    if device == CPU:
        return CPU
    if device == GPU and torch.cuda.is_available():
        return CUDA
    raise refusal(device, f"PyTorch {torch.__version__}{'' if torch.version.cuda else ', built for the CPU'}")


def device_beside(port: str) -> str:
    """Return the device for PyTorch beside a port: the same, but the CPU beside Ascend, which PyTorch does not know."""
    return CPU if port == ASCEND else port


@contextmanager
def computing(device: str, tf32: bool = False) -> Iterator[None]:
    """Multiply float32 numbers as float32, or on a GPU as TF32; a GPU also computes the same bits every time.

    Left to itself, PyTorch convolves in TF32 on GPUs that can. What was set before is put back at the end.

    Args:
        device: one of `DEVICES`.
        tf32: round the factors of products to TF32's 10 bits, as GPUs do for speed.
    """
    import torch

    before = [part.fp32_precision for part in products().values()]
    deterministic, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    _multiply([TF32 if tf32 else EXACT] * 3 + [EXACT] * 2)
    if device == GPU:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses to be deterministic
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        _multiply(before)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark


def products() -> dict[str, Any]:
    """Return kind of operation -> what holds, as `fp32_precision`, how PyTorch multiplies float32 numbers in it."""
    from torch import backends

    gpu: Any = backends.cudnn
    cpu: Any = backends.mkldnn
    return {
        "products on a GPU": backends.cuda.matmul,
        "convolutions on a GPU": gpu.conv,
        "recurrent networks on a GPU": gpu.rnn,
        "products on the CPU": cpu.matmul,
        "convolutions on the CPU": cpu.conv,
    }


def _multiply(precisions: Sequence[str]) -> None:
    """Set the precision of each of `products`; first by the older names, which PyTorch wants to agree with them."""
    import torch

    gpu, convolution, _, cpu, _ = precisions
    torch.set_float32_matmul_precision("medium" if cpu == BF16 else "high" if gpu == TF32 else "highest")
    torch.backends.cudnn.allow_tf32 = convolution == TF32
    for part, precision in zip(products().values(), precisions, strict=True):
        part.fp32_precision = precision
