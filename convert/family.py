"""What a family of networks is: its parts, other spellings of their files, how it is trained and fed with photos."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from convert.recipes.settings import Settings
from convert.tensors import Array, Entry

__all__ = [
    "Cartoonize",
    "Family",
    "FrozenNetwork",
    "Kwargs",
    "Part",
    "Shapes",
    "Spelling",
    "Style",
    "Training",
    "Translated",
    "resolve",
]

Shapes = Mapping[str, tuple[int, ...]]
Kwargs = dict[str, Any]


@dataclass(frozen=True)
class Spelling:
    """Another spelling of a network's tensors, used by files of another system.

    Attributes:
        name: the system whose files are meant.
        renames: (pattern, replacement) pairs, file name -> PyTorch name.
        neutral: tensors of layers the reference does not have, as (layer type of the reference at that
            place, name -> value with which the tensor has no effect, or None where it never has one). Files
            whose tensors hold exactly these values lose nothing when they are left out; any other value is
            refused.
        refusals: (pattern of an unexpected name, reason) pairs that explain a refusal.
        prepare: tensors of the file -> the same under the same names with the values that the reference needs, e.g.
            kernels in PyTorch's order of axes; None when the file is not of this system.
        unused: patterns of names in the file that the network has no place for and does not need.
        note: what `prepare` did, for the ledger and the user.
    """

    name: str
    renames: tuple[tuple[str, str], ...] = ()
    neutral: tuple[tuple[str, tuple[tuple[str, float | None], ...]], ...] = ()
    refusals: tuple[tuple[str, str], ...] = ()
    prepare: Callable[[Mapping[str, Entry]], Mapping[str, Entry] | None] | None = None
    unused: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Part:
    """One network of a family.

    Attributes:
        name: name inside the family's checkpoint file, e.g. "genA2B".
        class_name: "file.Class", the same in `torch_ref` and `ms_models`.
        kwargs: constructor arguments of the released weights.
        infer: constructor arguments from a checkpoint's shapes, or None when it is another network.
        input_shape: input of the released configuration, [N, C, H, W].
        smallest: constructor arguments -> smallest side that the network runs, for probes.
        outputs: names of the tensors that the network returns, in order.
        spellings: other spellings that are understood.
    """

    name: str
    class_name: str
    kwargs: Mapping[str, Any]
    infer: Callable[[Shapes], Kwargs | None]
    input_shape: tuple[int, int, int, int]
    smallest: Callable[[Mapping[str, Any]], int]
    outputs: tuple[str, ...]
    spellings: tuple[Spelling, ...] = ()


@dataclass(frozen=True)
class Translated:
    """A network put into another system's network that is the same function.

    Attributes:
        part, kwargs: what it has become.
        tensors: PyTorch name there -> (name in the source, values).
        filled: full name, or its last part -> value of tensors that only the other network has.
        notes: what was changed or left out, for the ledger and the user.
    """

    part: str
    kwargs: Mapping[str, Any]
    tensors: Mapping[str, tuple[str, Array]]
    filled: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Style = Callable[[str, Mapping[str, Any], Mapping[str, Array]], Translated]


@dataclass(frozen=True)
class FrozenNetwork:
    """A network of another family that a training step uses but does not train, e.g. for Face-ID or content.

    Attributes:
        family, part: where it is registered.
        narrow: constructor arguments that make it small, for parity runs.
    """

    family: str
    part: str
    narrow: Mapping[str, Any] = field(default_factory=dict)


def _any_multiple(kwargs: Mapping[str, Any]) -> int:
    return 1


@dataclass(frozen=True)
class Training:
    """How a family is trained.

    Attributes:
        step: "file.Class" of the training step, the same in `torch_ref` and `ms_models`; called as
            Class(networks by part, settings, frozen network or None).
        settings: class of its settings.
        phases: letter that the phase's loss terms start with and that names its optimiser -> parts that it
            trains, in the order in which the step runs them.
        narrow: constructor arguments that make the networks small, for parity runs.
        side: side of square pictures in parity runs, the smallest that all networks run, in pixels.
        synonyms: other name of a setting, as the source's flags have it -> the setting.
        multiple: sides of training pictures are multiples of this.
        own_multiple: constructor arguments -> what else they must be multiples of for such a network.
        widths: constructor arguments that are channels of a network's first layer.
        side_argument: constructor argument that is the side of the training pictures.
        frozen: the network that the step uses without training it.
        defaults: settings in which the source system differs from the defaults of the settings' class.
        pretrain_steps: steps of the source's pre-training, which the setting `pretrain` switches to; None where there
            is none.
    """

    step: str
    settings: type[Settings]
    phases: Mapping[str, tuple[str, ...]]
    narrow: Mapping[str, Any]
    side: int
    frozen: FrozenNetwork | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    pretrain_steps: int | None = None
    synonyms: Mapping[str, str] = field(default_factory=dict)
    multiple: int = 4
    own_multiple: Callable[[Mapping[str, Any]], int] = _any_multiple
    widths: tuple[str, ...] = ()
    side_argument: str | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """Every part that is trained, in the order of the phases."""
        return tuple(part for parts in self.phases.values() for part in parts)

    def phase_of(self, part: str) -> str:
        """Letter of the phase that trains `part`."""
        return next(phase for phase, parts in self.phases.items() if part in parts)


def _any_side(kwargs: Mapping[str, Any]) -> int | None:
    return None


@dataclass(frozen=True)
class Cartoonize:
    """How a family's generator is fed with a photo, and what becomes of its output.

    Pictures are [N, 3, H, W] in [-1, 1] on both ends.

    Attributes:
        part: the generator that draws cartoons.
        then: a part that goes on with the first output of `part` and draws; None: `part` draws itself.
        frame: what of a photo the network was trained on: "portrait", the face turned upright, cropped and cut out
            on white; "face", the same with its background; "whole", the photo.
        side: side of the square picture that the network is given, in pixels; None: the photo's own size.
        multiple: both sides of a picture must be multiples of this.
        shorter_limit: with `side` None, a photo whose shorter side is longer than this is made smaller.
        fixed_side: constructor arguments -> the one side that such a network takes, None where it takes others.
        channels: order in which the network was trained, "RGB" or "BGR".
        after: "file.function" in `torch_ref` that is called with input and output, both float32 tensors
            [N, 3, H, W], and returns the finished output; None: the output is finished.
    """

    part: str
    frame: str = "whole"
    side: int | None = 256
    multiple: int = 4
    shorter_limit: int | None = None
    fixed_side: Callable[[Mapping[str, Any]], int | None] = _any_side
    channels: str = "RGB"
    after: str | None = None
    then: str | None = None


@dataclass(frozen=True)
class Family:
    """A system of networks that are trained and shipped together.

    Attributes:
        name: the word used on the command line.
        title, paper, source, licence: where it comes from.
        parts: its networks, in the order of the released file.
        notes: what a user should know, e.g. bugs of the source that are kept or mended.
        training: how it is trained, None where it is not.
        cartoonize: how its generator is fed with photos, None where it has none.
        flat_file: whether its PyTorch file is one state dict with names such as netG_A.l1.0.bias, not one per part.
        styles: name of a system of this family -> what puts a network (part, constructor arguments, PyTorch
            name -> values) into that system's, or raises InputError with the reasons why it cannot be.
    """

    name: str
    title: str
    paper: str
    source: str
    licence: str
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = field(default=())
    training: Training | None = None
    cartoonize: Cartoonize | None = None
    flat_file: bool = False
    styles: Mapping[str, Style] = field(default_factory=dict)


def resolve(package: str, class_name: str) -> Any:
    """Import and return a network class, e.g. resolve("torch_ref", "ugatit.ResnetGenerator")."""
    module, _, name = class_name.rpartition(".")
    return getattr(importlib.import_module(f"{package}.{module}"), name)
