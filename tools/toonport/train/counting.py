"""What the networks of a run hold and make at a size, counted without computing anything."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from convert.plan import build_plan, build_without_values
from convert.registry import part_named
from toonport.train.config import RunConfig, trained_family
from toonport.train.sizing import PARAMETER_BYTES
from toonport.train.start import arguments_of


@dataclass(frozen=True)
class Counted:
    """Bytes of a run's networks."""

    held: int  # of weights, gradients and moments
    made: int  # of all values that one pass makes, through each of those that take pictures


class _Making(TorchDispatchMode):
    """Adds up the bytes of what operations make; views make nothing."""

    made = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do an operation, and count its results."""
        found = func(*args, **kwargs or {})
        if not func.is_view:
            self.made += sum(value.nbytes for value in tree_leaves(found) if isinstance(value, torch.Tensor))
        return found


def count(config: RunConfig) -> Counted:
    """Count what the networks of a run hold and make at its size and batch.

    Raises InputError: the checkpoint of --init, or the size of the pictures, does not fit the run.
    """
    family, _ = trained_family(config.family)
    arguments = arguments_of(config)
    parts = {name: part_named(family, name) for name in arguments}
    largest = max(part.input_shape[2] for part in parts.values())  # side of the released pictures
    sides = config.size, config.size
    held = made = 0
    outputs: dict[int, torch.Size] = {}  # channels of what networks of pictures return -> its shape
    for name, part in sorted(parts.items(), key=lambda item: item[1].input_shape[2] < largest):
        held += sum(math.prod(shape) for shape in build_plan(part, arguments[name]).shapes.values()) * PARAMETER_BYTES
        channels = part.channels(arguments[name])
        given = (config.batch, channels, *sides) if part.input_shape[2] == largest else outputs.get(channels)
        if given is None:
            continue
        network = build_without_values(part.class_name, arguments[name]).train()
        with _Making() as making:
            returned = network(torch.empty(given, device="meta"))
        outputs |= {value.shape[1]: value.shape for value in tree_leaves(returned) if value.ndim == 4}
        made += making.made
    return Counted(held, made)
