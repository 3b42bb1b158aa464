"""What is installed, what is usable, what is missing and the one line that installs it."""

import importlib.util
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from convert.devices import CPU
from ms_models.environment import devices_found, environment_needed

CORE = ("mindspore", "torch", "numpy", "onnx", "onnxruntime", "onnxscript", "safetensors", "opencv-python-headless")
OPTIONAL = {
    name: ("optional", f"not installed; pip install 'toonport[{extra}]'")
    for name, extra in (("gradio", "serve"), ("torchmetrics", "evaluate"), ("ray", "ray"), ("pytest", "dev"))
}
PROVEN = Path(__file__).parent / "proven.json"  # written by `make test-versions`
OWN = ("convert", "ms_models", "torch_ref", "parity_tests", "toonport")


@dataclass(frozen=True)
class Finding:
    """One line of the examination; `state` is "ok", "missing", "optional" or "problem"."""

    what: str
    state: str
    detail: str


def examine() -> list[Finding]:
    """Return all findings."""
    return [*_packages(), *_proven(), *_devices(), *_environment(), *_photo_backends(), *shadowed_packages()]


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


def _proven() -> Iterator[Finding]:
    """Say whether the quick suite passed with this MindSpore and this Python, and with which others."""
    rows = json.loads(PROVEN.read_text())
    own = minor(version_of("mindspore") or ""), minor(platform.python_version())
    known = {(minor(row["mindspore"]), minor(row["python"])): row for row in rows if not row["failed"]}
    pairs = ", ".join(f"{mindspore} on Python {python}" for mindspore, python in known)
    words = f"MindSpore {own[0]} on Python {own[1]}: the quick suite passes" if own in known else "this one is not"
    yield Finding("proven combinations", "ok" if own in known else "optional", f"{words}; proven: {pairs}")


def minor(version: str) -> str:
    """Return "2.8" of "2.8.0"."""
    return ".".join(version.split(".")[:2])


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
        yield Finding("torch devices", "ok", CPU + (f", {torch.cuda.get_device_name()}" if cuda else "; no CUDA"))
    if version_of("mindspore"):
        found = devices_found()
        yield Finding("mindspore devices", "ok", ", ".join(found) + ("" if len(found) > 1 else "; no GPU or Ascend"))
    if version_of("onnxruntime") or version_of("onnxruntime-gpu"):
        import onnxruntime

        yield Finding("onnxruntime providers", "ok", ", ".join(onnxruntime.get_available_providers()))


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
