"""On which devices the legs of a comparison run: the port, the PyTorch reference and ONNX Runtime; the truth stays on
the CPU.

Like the frameworks' own settings it holds for everything that runs inside: see `Legs.running` and `legs_in_use`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import ms_models.environment as mindspore_environment
import torch_ref.environment as torch_environment
from convert.devices import CPU, GPU, refusal
from convert.errors import InputError

PROVIDERS = {CPU: "CPUExecutionProvider", GPU: "CUDAExecutionProvider"}  # ONNX Runtime's names


@dataclass(frozen=True)
class Legs:
    """Where each leg of a comparison runs, of `DEVICES`, and how it multiplies float32 numbers."""

    port: str = CPU
    reference: str = CPU
    runtime: str = CPU  # of exported files
    tf32: bool = False  # round factors to TF32's 10 bits where a device does so for speed, and grant its noise

    @classmethod
    def asked(cls, port: str, reference: str | None = None, tf32: bool = False) -> "Legs":
        """Return what is asked for.

        Args:
            port: device of the port and of ONNX Runtime.
            reference: of the PyTorch reference in the compared precision; None: the port's, where PyTorch knows it.
            tf32: whether products may be TF32.

        Raises InputError: PyTorch cannot use the device here, or no leg runs where there is TF32.
        """
        chosen = reference or torch_environment.device_beside(port)
        try:
            torch_environment.place_of(chosen)
        except InputError as error:
            advice = "" if reference else f"; --reference-device {CPU} leaves the reference there"
            raise InputError(f"{error}{advice}") from error
        if tf32 and {port, chosen} == {CPU}:
            raise InputError(f"--tf32: no leg runs on a device that rounds so; give --device {GPU}")
        return cls(port, chosen, port, tf32)

    @property
    def words(self) -> str:
        """What a report says."""
        rounding = "TF32 on, and its noise granted" if self.tf32 else "TF32 off on every side"
        return f"port on {self.port}, reference on {self.reference}, truth on {CPU}; {rounding}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let what runs inside be on these devices: MindSpore first, which chooses for the whole process.

        Raises InputError: MindSpore cannot use the device here.
        """
        mindspore_environment.choose_device(self.port)
        token = _LEGS.set(self)
        try:
            with torch_environment.computing(self.reference, self.tf32), mindspore_environment.computing(self.tf32):
                yield
        finally:
            _LEGS.reset(token)


ON_CPU = Legs()
_LEGS: ContextVar[Legs] = ContextVar("legs", default=ON_CPU)


def legs_in_use() -> Legs:
    """Return the legs of the comparison that runs now; outside of one everything is on the CPU."""
    return _LEGS.get()


def provider(device: str, tf32: bool = False) -> tuple[str, dict[str, Any]]:
    """Return what runs ONNX files on a device, with its options, for `onnxruntime.InferenceSession`.

    Left to itself, the one for GPUs convolves in TF32.

    Raises InputError: ONNX Runtime has none here.
    """
    import onnxruntime

    name = PROVIDERS.get(device)
    if name is None or name not in onnxruntime.get_available_providers():
        raise refusal(
            device, f"ONNX Runtime {onnxruntime.__version__}, which has no {name or f'provider for {device}'}"
        )
    return name, {"use_tf32": str(int(tf32))} if device == GPU else {}
