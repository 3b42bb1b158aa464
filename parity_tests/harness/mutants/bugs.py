"""The rows of the mutation suite: what is planted, where, and what must be blamed for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

from convert.family import resolve
from convert.registry import family_named

__all__ = ["Bug", "NetworkBug", "OnnxBug", "Patch", "Subject", "TrainingBug", "patched"]

Subject = tuple[str, str]  # family and part, or family and "training"
Patch = tuple[str, Any]  # dotted name of something in ms_models, and what stands in its place during the comparison


@dataclass(frozen=True)
class Bug:
    """One planted bug.

    Attributes:
        name: short and unique.
        what: the bug in words.
        subject: what is compared.
        blame: fragments of which one must occur in the blamed layer, its type, its tensor or the training phase.
    """

    name: str
    what: str
    subject: Subject
    blame: tuple[str, ...]

    @property
    def place(self) -> str:
        """What is compared, in words."""
        return " ".join(self.subject)


@dataclass(frozen=True)
class NetworkBug(Bug):
    """A bug of a MindSpore network.

    Attributes:
        change: alters the network or its weights in place, or None.
        patch: what is replaced during the comparison, or None.
        kwargs: constructor arguments, where other than the released configuration made narrow is meant.
    """

    change: Callable[[Any], None] | None = None
    patch: Patch | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingBug(Bug):
    """A bug of a MindSpore training step.

    Attributes:
        settings: the step's settings that the port gets wrong.
        change: alters the port's step object, or None.
        patch: what is replaced during the comparison, or None.
        first_step: where the run starts; late enough for the learning rate to fall where that matters.
        face: whether the run needs the Face-ID term.
        both: settings of both sides.
        steps: training steps to run; 2 where the second shows what the first left behind.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    change: Callable[[Any], None] | None = None
    patch: Patch | None = None
    first_step: int = 1
    face: bool = False
    both: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 1

    def make_step(self, networks: Mapping[str, Any], settings: Any, face_net: Any) -> Any:
        """Build the MindSpore step with the bug in it."""
        training = family_named(self.subject[0]).training
        assert training is not None
        step = resolve("ms_models", training.step)(networks, replace(settings, **self.settings), face_net)
        if self.change:
            self.change(step)
        return step


@dataclass(frozen=True)
class OnnxBug(Bug):
    """A bug of an ONNX file.

    Attributes:
        edit: changes the onnx.ModelProto in place.
    """

    edit: Callable[[Any], None]

    @property
    def place(self) -> str:
        """What is compared, in words."""
        return f"{' '.join(self.subject)}, ONNX"

    def plant(self, model: Any) -> None:
        """Edit a model; a file that the bug does not fit is an error of the suite."""
        before = model.SerializeToString()
        self.edit(model)
        if model.SerializeToString() == before:
            raise ValueError(f"{self.name}: nothing to change in the export of {' '.join(self.subject)}")


def patched(patch: Patch | None) -> AbstractContextManager[Any]:
    """Keep a patch, if there is one, active for the time of a comparison."""
    return mock.patch(*patch) if patch else nullcontext()
