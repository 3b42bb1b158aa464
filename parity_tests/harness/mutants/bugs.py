"""The rows of the mutation suite: what is planted, where, and what must be blamed for it."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from unittest import mock

from convert.family import resolve
from convert.registry import family_named

Options = ParamSpec("Options")
Change = Callable[[Any], None]  # alters what it is given in place: a network, a layer, a training step, an ONNX model
Subject = tuple[str, str]  # family and part, or family and "training"
Patch = tuple[str, Any]  # dotted name of something in ms_models, and what stands in its place during the comparison


def planter(plant: Callable[Concatenate[Any, Options], None]) -> Callable[Options, Change]:
    """Let a function of a thing and options take the options alone, and return what changes the thing."""

    @wraps(plant)
    def make(*options: Options.args, **named: Options.kwargs) -> Change:
        """Remember the options until there is something to change."""
        return lambda thing: plant(thing, *options, **named)

    return make


@dataclass(frozen=True)
class Bug:
    """One planted bug."""

    name: str  # short and unique
    what: str  # the bug in words
    subject: Subject  # what is compared
    # fragments of which one must occur in the blamed layer, its type, its tensor or the training phase
    blame: tuple[str, ...]

    @property
    def place(self) -> str:
        """What is compared, in words."""
        return " ".join(self.subject)


@dataclass(frozen=True)
class NetworkBug(Bug):
    """A bug of a MindSpore network."""

    change: Change | None = None  # alters the network or its weights in place, or None
    patch: Patch | None = None  # what is replaced during the comparison, or None
    # constructor arguments, where other than the released configuration made narrow is meant
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingBug(Bug):
    """A bug of a MindSpore training step."""

    settings: Mapping[str, Any] = field(default_factory=dict)  # the step's settings that the port gets wrong
    change: Change | None = None  # alters the port's step object, or None
    patch: Patch | None = None  # what is replaced during the comparison, or None

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
    """A bug of an ONNX file."""

    edit: Change  # changes the onnx.ModelProto in place

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
