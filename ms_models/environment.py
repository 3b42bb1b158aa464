"""Environment variables that some MindSpore versions need before any framework is imported."""

import os
from importlib import metadata

from convert.errors import InputError, first_line


def environment_needed() -> dict[str, str]:
    """Return the variables that the installed MindSpore needs, as name -> value; empty without MindSpore.

    MindSpore 2.8 fails after onnx or tensorboard has loaded the compiled protobuf; from 2.9 its
    convolutions fall back to reference loops on AVX-512 processors.
    """
    try:
        major, minor = (int(number) for number in metadata.version("mindspore").split(".")[:2])
    except metadata.PackageNotFoundError:
        return {}
    if (major, minor) <= (2, 8):
        return {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    return {"ONEDNN_MAX_CPU_ISA": "AVX2"}


def prepare_environment() -> None:
    """Set the variables that are needed and not set by the user."""
    for name, value in environment_needed().items():
        os.environ.setdefault(name, value)


def launch_directly() -> None:
    """Run operations in the calling thread instead of queues, on CPU, where the queues cost more than the operations.

    A training step of a narrow network takes an eighth of the processor time: measured with MindSpore 2.8 on two
    cores, 14 s against 1.8 s (U-GAT-IT) and 5.7 s against 0.7 s (DTN).
    """
    import mindspore

    if mindspore.get_context("device_target") == "CPU":
        mindspore.runtime.launch_blocking()


def device_in_use() -> str:
    """Return the device on which MindSpore runs now: "cpu", "gpu" or "ascend"."""
    import mindspore

    return str(mindspore.get_context("device_target")).lower()


def choose_device(device: str) -> None:
    """Make MindSpore use a device: "cpu", "gpu" or "ascend". Raises InputError: it is not usable here."""
    if device == "cpu":
        return
    import mindspore

    try:
        mindspore.set_device({"gpu": "GPU", "ascend": "Ascend"}[device])
    except (RuntimeError, ValueError) as error:
        raise InputError(f"device {device} is not usable here: {first_line(error)}") from error
