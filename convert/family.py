"""What a family of networks is: its parts, other spellings of their files, how it is trained and fed with photos."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from convert.recipes.settings import Settings
from convert.tensors import Array, Entry

Shapes = Mapping[str, tuple[int, ...]]
Kwargs = dict[str, Any]
CHANNELS = ("input_nc", "in_channels", "in_channel")  # constructor arguments that are the channels of the input


@dataclass(frozen=True)
class Spelling:
    """Another spelling of a network's tensors, used by files of another system."""

    name: str  # the system whose files are meant
    renames: tuple[tuple[str, str], ...] = ()  # (pattern, replacement) pairs, file name -> PyTorch name
    # tensors of layers the reference does not have, as (layer type of the reference at that place, name -> value with
    # which the tensor has no effect, or None where it never has one). Files whose tensors hold exactly these values
    # lose nothing when they are left out; any other value is refused.
    neutral: tuple[tuple[str, tuple[tuple[str, float | None], ...]], ...] = ()
    refusals: tuple[tuple[str, str], ...] = ()  # (pattern of an unexpected name, reason) pairs that explain a refusal
    # tensors of the file -> the same under the same names with the values that the reference needs, e.g. kernels in
    # PyTorch's order of axes; None when the file is not of this system.
    prepare: Callable[[Mapping[str, Entry]], Mapping[str, Entry] | None] | None = None
    unused: tuple[str, ...] = ()  # patterns of names in the file that the network has no place for and does not need
    note: str = ""  # what `prepare` did, for the ledger and the user
    channels: str = ""  # order of colours that such files are made for, "" where that is the family's


@dataclass(frozen=True)
class Part:
    """One network of a family."""

    name: str  # name inside the family's checkpoint file, e.g. "genA2B".
    class_name: str  # "file.Class", the same in `torch_ref` and `ms_models`
    kwargs: Mapping[str, Any]  # constructor arguments of the released weights
    # constructor arguments from a checkpoint's shapes, or None when it is another network
    infer: Callable[[Shapes], Kwargs | None]
    input_shape: tuple[int, int, int, int]  # input of the released configuration, [N, C, H, W]
    # constructor arguments -> smallest side that the network runs, for probes
    smallest: Callable[[Mapping[str, Any]], int]
    outputs: tuple[str, ...]  # names of the tensors that the network returns, in order
    # constructor arguments -> by how many pixels either side may grow beyond the smallest; None: only squares of that
    # size run
    growth: Callable[[Mapping[str, Any]], int | None]
    spellings: tuple[Spelling, ...] = ()  # other spellings that are understood
    # constructor arguments of its other architectures, by which a file that lacks a tensor is recognised
    variants: tuple[Mapping[str, Any], ...] = ()
    # (PyTorch name, hash of its float32 values, order of colours) of published weights that are made for another order
    # than the family's
    published: tuple[tuple[str, str, str], ...] = ()

    def channels(self, kwargs: Mapping[str, Any]) -> int:
        """Channels of the pictures that the network takes when it is built with these arguments."""
        return int(next((kwargs[name] for name in CHANNELS if name in kwargs), self.input_shape[1]))


@dataclass(frozen=True)
class Translated:
    """A network put into another system's network that is the same function."""

    # part, kwargs: what it has become
    part: str
    kwargs: Mapping[str, Any]
    tensors: Mapping[str, tuple[str, Array]]  # PyTorch name there -> (name in the source, values)
    # full name, or its last part -> value of tensors that only the other network has
    filled: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what was changed or left out, for the ledger and the user


Style = Callable[[str, Mapping[str, Any], Mapping[str, Array]], Translated]


@dataclass(frozen=True)
class FrozenNetwork:
    """A network of another family that a training step uses but does not train, e.g. for Face-ID or content."""

    # family, part: where it is registered
    family: str
    part: str
    narrow: Mapping[str, Any] = field(default_factory=dict)  # constructor arguments that make it small, for parity runs


@dataclass(frozen=True)
class Branch:
    """Another way through a training step, which a parity run takes in a step of its own."""

    settings: Mapping[str, Any]  # beside those of `Training.parity`
    networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # constructor arguments of other networks

    @property
    def name(self) -> str:
        """What tells it from the others, for reports."""
        architectures = {f"{kwargs['architecture']} networks" for kwargs in self.networks.values()}
        return ", ".join((*(f"{name} {value}" for name, value in self.settings.items()), *sorted(architectures)))


@dataclass(frozen=True)
class Training:
    """How a family is trained."""

    # "file.Class" of the training step, the same in `torch_ref` and `ms_models`; called as Class(networks by part,
    # settings, frozen network or None)
    step: str
    settings: type[Settings]  # class of its settings
    # letter that the phase's loss terms start with and that names its optimiser -> parts that it trains, in the order
    # in which the step runs them
    phases: Mapping[str, tuple[str, ...]]
    narrow: Mapping[str, Any]  # constructor arguments that make the networks small, for parity runs
    # height and width of the pictures in parity runs, as small as all networks run and not square if they allow it
    picture: tuple[int, int]
    frozen: FrozenNetwork | None = None  # the network that the step uses without training it
    # settings in which the source system differs from the defaults of the settings' class
    defaults: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)  # settings that switch on, in parity runs, what rests else
    resumed: Mapping[str, Any] = field(default_factory=dict)  # what of them changes where a parity run is resumed
    branches: tuple[Branch, ...] = ()  # what parity runs take a step of beside these settings
    # other name of a setting, as the source's flags have it -> the setting
    synonyms: Mapping[str, str] = field(default_factory=dict)
    multiple: int = 4  # sides of training pictures are multiples of this
    # constructor arguments -> what else they must be multiples of for such a network
    own_multiple: Callable[[Mapping[str, Any]], int] = lambda kwargs: 1
    widths: tuple[str, ...] = ()  # constructor arguments that are channels of a network's first layer
    side_argument: str | None = None  # constructor argument that is the side of the training pictures

    @property
    def parts(self) -> tuple[str, ...]:
        """Every part that is trained, in the order of the phases."""
        return tuple(part for parts in self.phases.values() for part in parts)

    def phase_of(self, part: str) -> str:
        """Letter of the phase that trains `part`."""
        return next(phase for phase, parts in self.phases.items() if part in parts)


@dataclass(frozen=True)
class Cartoonize:
    """How a family's generator is fed with a photo, and what becomes of its output.

    Pictures are [N, 3, H, W] in [-1, 1] on both ends.
    """

    part: str  # the generator that draws cartoons
    # what of a photo the network was trained on: "portrait", the face turned upright, cropped and cut out on white;
    # "face", the same with its background; "whole", the photo
    frame: str = "whole"
    # side of the square picture that the network is given, in pixels; None: the photo's own size
    side: int | None = 256
    multiple: int = 4  # both sides of a picture must be multiples of this
    shorter_limit: int | None = None  # with `side` None, a photo whose shorter side is longer than this is made smaller
    # constructor arguments -> the one side that such a network takes, None where it takes others
    fixed_side: Callable[[Mapping[str, Any]], int | None] = lambda kwargs: None
    # order in which the network was trained, "RGB" or "BGR"; `convert.channels` says which files differ
    channels: str = "RGB"
    # "file.function" in `torch_ref` that is called with input and output, both float32 tensors [N, 3, H, W], and
    # returns the finished output; None: the output is finished
    after: str | None = None
    then: str | None = None  # a part that goes on with the first output of `part` and draws; None: `part` draws itself


@dataclass(frozen=True)
class Family:
    """A system of networks that are trained and shipped together."""

    name: str  # the word used on the command line
    # title, paper, source, licence: where it comes from
    title: str
    paper: str
    source: str
    licence: str
    parts: tuple[Part, ...]  # its networks, in the order of the released file
    # what a user should know, e.g. bugs of the source that are kept or mended.
    notes: tuple[str, ...] = field(default=())
    training: Training | None = None  # how it is trained, None where it is not
    cartoonize: Cartoonize | None = None  # how its generator is fed with photos, None where it has none
    # whether its PyTorch file is one state dict with names such as netG_A.l1.0.bias, not one per part
    flat_file: bool = False
    # name of a system of this family -> what puts a network (part, constructor arguments, PyTorch name -> values) into
    # that system's, or raises InputError with the reasons why it cannot be
    styles: Mapping[str, Style] = field(default_factory=dict)


def resolve(package: str, class_name: str) -> Any:
    """Import and return a network class, e.g. resolve("torch_ref", "ugatit.ResnetGenerator")."""
    module, _, name = class_name.rpartition(".")
    return getattr(importlib.import_module(f"{package}.{module}"), name)
