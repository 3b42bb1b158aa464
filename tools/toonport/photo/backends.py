"""Backends that may be missing: a table says of each whether it can run here, and opens it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from convert.errors import InputError

T = TypeVar("T")
LANDMARK_NAMES, MATTE_NAMES = ("dlib", "face-alignment"), ("selfie", "head")  # the first is what is used


@dataclass(frozen=True)
class Usable:
    """Whether a backend can run here, and if not, what to do."""

    usable: bool
    detail: str


@dataclass(frozen=True)
class Backend(Generic[T]):
    """A backend: `examine` says whether it can run here, without loading it; `load` opens it."""

    examine: Callable[[], Usable]
    load: Callable[..., T]


def open_backend(kind: str, backends: Mapping[str, Backend[T]], name: str, argument: Any) -> T:
    """Return `name` of the backends of one kind, loaded with an argument.

    Raises InputError: unknown, not installed, or its weights are not there; says what to do.
    """
    if name not in backends:
        raise InputError(f"unknown {kind} backend '{name}'; known: {', '.join(backends)}")
    state = backends[name].examine()
    if not state.usable:
        raise InputError(f"{kind} by {name}: {state.detail}")
    return backends[name].load(argument)
