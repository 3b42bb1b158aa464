"""What MindSpore needs before any framework is imported, what it calls the devices, and how it computes on them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

from convert.devices import ASCEND, CPU, GPU, refusal
from convert.errors import first_line

TARGETS = {CPU: "CPU", GPU: "GPU", ASCEND: "Ascend"}


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
    """Run operations and graphs in the calling thread, on CPU, where queues cost more than what is queued.

    Operation by operation, a training step of a narrow network takes an eighth of the processor time: measured with
    MindSpore 2.8 on two cores, 14 s against 1.8 s (U-GAT-IT) and 5.7 s against 0.7 s (DTN). Compiled, who waits for the
    queue keeps a core busy that the graph could use: 0.25 s a step against 0.12 s (DTN).
    """
    import mindspore
    from mindspore.common.api import _pynative_executor

    if device_in_use() == CPU:
        mindspore.runtime.launch_blocking()
        _pynative_executor.disable_frontend_and_bprop_pipeline()


def device_in_use() -> str:
    """Return the device on which MindSpore runs now, one of `DEVICES`."""
    import mindspore

    return str(mindspore.get_context("device_target")).lower()


def choose_device(device: str) -> None:
    """Make MindSpore use one of `DEVICES`. Raises InputError: it is not usable here."""
    if device in (CPU, device_in_use()):  # MindSpore does not take a device twice
        return
    import mindspore

    try:
        mindspore.set_device(TARGETS[device])
    except (RuntimeError, ValueError) as error:
        raise refusal(device, f"MindSpore {mindspore.__version__} ({first_line(error)})") from error


def devices_found() -> list[str]:
    """Return those of `DEVICES` that MindSpore can use here."""
    from mindspore import device_context

    found = [CPU]
    for name, probe in ((GPU, device_context.gpu), (ASCEND, device_context.ascend)):
        try:
            found += [name] if probe.is_available() else []
        except (AttributeError, RuntimeError, ValueError):  # a build without this device
            continue
    return found


@contextmanager
def computing(tf32: bool = False) -> Iterator[None]:
    """Multiply float32 numbers as float32 on the device in use, or as TF32 (on Ascend HF32), and deterministically.

    Left to itself, MindSpore convolves in TF32 or HF32. On a GPU what was set before is put back at the end; MindSpore
    does not say what it was on Ascend, and can be made deterministic once only.
    """
    device = device_in_use()
    if device == CPU:
        yield
        return
    import mindspore
    from mindspore import device_context

    if mindspore.get_context("deterministic") != "ON":
        mindspore.set_deterministic(True)
    if device == ASCEND:
        device_context.ascend.op_precision.conv_allow_hf32(tf32)
        device_context.ascend.op_precision.matmul_allow_hf32(tf32)
        yield
        return
    own = device_context.gpu.op_precision
    settings = {"conv_allow_tf32": own.conv_allow_tf32, "matmul_allow_tf32": own.matmul_allow_tf32}
    before = {name: bool(mindspore.get_context(name)) for name in settings}
    for allow in settings.values():
        allow(tf32)
    try:
        yield
    finally:
        for name, allow in settings.items():
            allow(before[name])
