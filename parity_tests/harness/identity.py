"""What a side computes depends on, but for weights and inputs: its code and how its layers are set."""

import hashlib
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.harness.legs import legs_in_use
from parity_tests.harness.sides.base import Side

FRAMEWORKS = ("torch", "mindspore", "numpy")


def identity_of(side: Side) -> str:
    """Hash of a side's precision and legs, of the code that it runs, and of how each of its layers is set."""
    settings = [[path, described] for path, described in side.settings().items()]
    return digest(side.name, legs_in_use().words, code_version(side), settings)


def code_version(side: Side) -> str:
    """Hash of the frameworks' versions and of the source of every package that a layer's class comes from."""
    classes = {kind for layer in side.layers.values() for kind in type(layer).__mro__}
    own = {kind.__module__ for kind in classes} | {Side.__module__}
    roots = {name.partition(".")[0] for name in own} - {"builtins", "abc", *FRAMEWORKS}
    sources = sorted(path for root in roots for path in _sources(root))
    installed = [f"{name} {metadata.version(name)}" for name in FRAMEWORKS]
    return digest(*installed, *(path.read_bytes() for path in sources))


def _sources(root: str) -> list[Path]:
    module: Any = sys.modules.get(root)
    if hasattr(module, "__path__"):
        return [path for folder in module.__path__ for path in Path(folder).rglob("*.py")]
    file = getattr(module, "__file__", None)  # built-in modules have none
    return [Path(file)] if file else []


def digest(*parts: Any) -> str:
    """SHA-256 over texts, bytes, arrays (with type and shape) and lists or mappings of them, in order."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, Mapping):
            part = [item for name in sorted(part) for item in (name, part[name])]
        if isinstance(part, list):
            found.update(f"list {len(part)} {digest(*part)}".encode())
        elif isinstance(part, np.ndarray):
            found.update(f"array {part.dtype} {part.shape}".encode())
            found.update(np.ascontiguousarray(part).data)
        else:
            data = part if isinstance(part, bytes) else str(part).encode()
            found.update(f"{type(part).__name__} {len(data)} ".encode() + data)
    return found.hexdigest()
