"""What is asked of a comparison of registry networks, and the weights that it is made from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from convert.devices import CPU
from convert.errors import InputError
from convert.family import Family, Part
from convert.tensors import Array
from parity_tests.harness.legs import Legs
from parity_tests.harness.onnx.runtimes import ONNX_RUNTIME, Runtime
from parity_tests.harness.stages import MODES

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "fp64": "float64"}


def modes_named(text: str) -> tuple[str, ...]:
    """Return the modes that an option's text means, separated by commas; "all" is every one.

    Raises InputError: an unknown mode; lists the known ones.
    """
    known = (*MODES, "train", "onnx")
    chosen = known if text == "all" else tuple(text.split(","))
    if unknown := [mode for mode in chosen if mode not in known]:
        raise InputError(f"unknown mode {', '.join(unknown)}; modes: {', '.join(known)}, all")
    return chosen


@dataclass(frozen=True)
class CompareOptions:
    """What to compare, and how."""

    family: str  # its name in the registry
    part: str = "all"  # one network of it, or "all"
    # checkpoint for both sides, of any format; None: seeded weights in the released configuration
    weights: str | None = None
    ported: str | None = None  # another checkpoint for the MindSpore side
    modes: tuple[str, ...] = MODES  # see `modes_named`
    steps: int = 3  # training steps of the mode "train"
    compiled: bool = False  # whether training steps of the port run as graphs, too
    # returns the input of the whole run, float32 [1, C, H, W], for a shorter side (or height and width) and the step in
    # which the longer side may grow, None for squares only; None: a seeded one
    picture: Callable[[int | tuple[int, int], int | None], Array] | None = None
    size: int | tuple[int, int] | None = None  # side of the picture for the whole run, or H and W; None: as released
    seed: int = 0  # of the picture and of seeded weights
    dtype: str = "float32"  # precision of both sides, a value of DTYPES
    device: str = CPU  # of the port and of ONNX Runtime, one of DEVICES
    captures: Path | None = None  # folder that keeps every tensor of both sides; the reference's are used again
    reuse_port: bool = False  # use the port's captures again too
    onnx: Path | None = None  # file that the mode of that name judges; None: one exported for the comparison
    runtime: Runtime = ONNX_RUNTIME  # what runs that file
    # whether it is an error if the runtime cannot take part; else the report says why it did not
    onnx_required: bool = True
    quick: bool = False  # whether only the quickest runs are made, see `stages.QUICK_LEAVES_OUT`
    pictures: bool = False  # whether networks run once more for the report's pictures
    jobs: int = 1  # pieces of work at a time, each in a process of its own; 1: all in this process
    replay: Path | None = None  # folder for the smallest case of each network that still differs
    reference_device: str | None = None  # of PyTorch in that precision; None: the port's, where PyTorch knows it
    tf32: bool = False  # let devices multiply in TF32, and grant its noise

    @property
    def onnx_obstacle(self) -> str:
        """Why a runtime cannot take part under the other options, or ""."""
        if self.dtype != "float32":
            short = next((short for short, name in DTYPES.items() if name == self.dtype), self.dtype)
            return f"compared in fp32 only, not in {short}"
        return "" if self.device in self.runtime.devices else f"has no kernels for {self.device}"

    @cached_property
    def legs(self) -> Legs:
        """Where each leg runs. Raises InputError: see `Legs.asked`."""
        return Legs.asked(self.device, self.reference_device, self.tf32)


@dataclass(frozen=True)
class Source:
    """A network to compare."""

    # family, part: what it is
    family: Family
    part: Part
    kwargs: Mapping[str, Any]  # how it is built
    reference: Mapping[str, Array]  # PyTorch name -> values
    port: Mapping[str, Array]  # MindSpore name -> values
    facts: Mapping[str, Any]  # where they come from, for the report
    form: str = ""  # which of the part's other architectures it is, or `PLAIN`, compared small; "" for neither

    @property
    def name(self) -> str:
        """What the report calls it."""
        return source_name(self.family, self.part, self.form)


def source_name(family: Family, part: Part, form: str = "") -> str:
    """What reports call a network; `form`: see `Source`."""
    return f"{family.name} {part.name}{', ' if form else ''}{form}"
