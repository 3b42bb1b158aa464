"""What is installed, what is usable, what is missing and the one line that installs it."""

import importlib.util
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ms_models.environment import environment_needed

CORE = ("mindspore", "torch", "numpy", "onnx", "onnxruntime", "onnxscript", "safetensors", "opencv-python-headless")
OPTIONAL = {
    name: ("optional", f"not installed; pip install 'toonport[{extra}]'")
    for name, extra in (("gradio", "serve"), ("torchmetrics", "evaluate"), ("pytest", "dev"))
}
OWN = ("convert", "ms_models", "torch_ref", "parity_tests", "toonport")


@dataclass(frozen=True)
class Finding:
    """One line of the examination; `state` is "ok", "missing", "optional" or "problem"."""

    what: str
    state: str
    detail: str


def examine() -> list[Finding]:
    """Return all findings."""
    return [*_packages(), *_devices(), *_environment(), *_photo_backends(), *shadowed_packages()]


def _packages() -> Iterator[Finding]:
    yield Finding("python", "ok", platform.python_version())
    needed = {name: ("missing", f"pip install '{name}'") for name in CORE}
    for name, (state, advice) in {**needed, **OPTIONAL}.items():
        version = version_of(name)
        yield Finding(name, "ok" if version else state, version or advice)
    if (version_of("numpy") or "1").split(".")[0] != "1":
        yield Finding("numpy", "problem", "MindSpore is built for numpy 1; pip install 'numpy>=1.26,<2'")
    if version_of("onnxruntime") and version_of("onnxruntime-gpu"):
        yield Finding("onnxruntime", "problem", "both onnxruntime and -gpu are installed; uninstall one")


def version_of(name: str) -> str | None:
    """Version of an installed package, None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[Finding]:
    if version_of("torch"):
        import torch

        cuda = torch.cuda.is_available()
        yield Finding("torch devices", "ok", "cpu" + (f", {torch.cuda.get_device_name()}" if cuda else "; no CUDA"))
    if version_of("mindspore"):
        yield Finding("mindspore devices", "ok", _mindspore_devices())
    if version_of("onnxruntime") or version_of("onnxruntime-gpu"):
        import onnxruntime

        yield Finding("onnxruntime providers", "ok", ", ".join(onnxruntime.get_available_providers()))


def _mindspore_devices() -> str:
    import mindspore

    found = ["cpu"]
    for name in ("gpu", "ascend"):
        probe = getattr(mindspore.device_context, name, None)
        try:
            usable = bool(probe and probe.is_available())
        except (AttributeError, RuntimeError, ValueError):
            usable = False
        found += [name] if usable else []
    return ", ".join(found) + ("" if len(found) > 1 else "; no GPU or Ascend")


def _environment() -> Iterator[Finding]:
    for name, value in environment_needed().items():
        actual = os.environ.get(name)
        state = "ok" if actual == value else "problem"
        yield Finding(f"${name}", state, f"{actual} (this MindSpore needs {value})")


def _photo_backends() -> Iterator[Finding]:
    """What finds faces and cuts them out, for preprocess and cartoonize."""
    from toonport.photo.landmarks import LANDMARKS
    from toonport.photo.matte import MATTES

    for kind, backends in (("landmarks", LANDMARKS), ("matte", MATTES)):
        for name, backend in backends.items():
            state = backend.examine()
            yield Finding(f"{kind} {name}", "ok" if state.usable else "optional", state.detail)


def shadowed_packages() -> Iterator[Finding]:
    """Say of each of our packages whether another one of the same name would be imported instead."""
    home = Path(__file__).resolve().parents[2]
    for name in OWN:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or home not in origin.parents:
            detail = f"{origin} is imported instead of toonport's; uninstall that package or use a fresh environment"
            yield Finding(f"package {name}", "problem", detail)
