"""Adam's moments that others keep beside their weights, for a run that starts from such a file.

MindSpore's ModelCheckpoint saves them under the names of the weights ("moment1.conv.weight"), with the count of steps
as "global_step". A PyTorch optimizer's state dict has the numbers of its parameters in their place, in the order in
which the networks of the optimizer have them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from convert.family import Training, resolve
from convert.identify import Network
from convert.tensors import Array, Checkpoint, Entry
from parity_tests.harness.trainers import MOMENTS

BY_NAME = re.compile(r"^((?:.+\.)?)(moment1|exp_avg)\.(.+)$")
SECONDS = {"moment1": "moment2", "exp_avg": "exp_avg_sq"}
BY_NUMBER = re.compile(r"^((?:.+\.)?)state\.(\d+)\.(exp_avg|exp_avg_sq)$")
COUNT = re.compile(r"(?:^|\.)global_step$")

Pair = tuple[Entry, Entry]  # both moments of one parameter
Owned = tuple[str, str]  # part, PyTorch name


@dataclass
class Kept:
    """What of a file goes on in a run: moments of phases whose every network came from it."""

    moments: dict[tuple[str, str, str], Array] = field(default_factory=dict)  # see `Trainer.moments`
    counts: dict[str, int] = field(default_factory=dict)  # updates that each of these phases has behind it


def kept_moments(checkpoint: Checkpoint, networks: Mapping[str, Network], training: Training) -> Kept:
    """Return the moments of a file that belong to its networks, by the phases of a training.

    Args:
        checkpoint: the opened file, with all that lies beside the weights.
        networks: by part, those that were found in it.
        training: of the family. A phase with a network from elsewhere gets no moments, nor does one whose moments are
            not all there, have other shapes, or have no count of steps.
    """
    kept = Kept()
    for phase, parts in training.phases.items():
        if not all(part in networks for part in parts):
            continue
        owned = [(part, name) for part in parts for name in _trained(networks[part])]
        found = _by_name(checkpoint, networks, owned) or _by_number(checkpoint, networks, owned)
        if found:
            pairs, kept.counts[phase] = found
            for (part, name), pair in pairs.items():
                row = next(row for row in networks[part].plan.rows if row.torch == name)
                for kind, entry in zip(MOMENTS, pair, strict=True):
                    values = entry.read() if entry.spec.shape == row.spec.shape else row.to_torch(entry.read())
                    kept.moments[kind, part, name] = np.asarray(values, np.float32)
    return kept


def _trained(network: Network) -> list[str]:
    """The parameters of a network in PyTorch's order, without what is not trained."""
    import torch

    with torch.device("meta"):
        built = resolve("torch_ref", network.part.class_name)(**network.kwargs)
    return [name for name, value in built.named_parameters() if value.requires_grad]


def _fits(network: Network, name: str, pair: Pair) -> bool:
    row = next(row for row in network.plan.rows if row.torch == name)
    return all(entry.spec.shape in (row.spec.shape, row.mindspore_shape) for entry in pair)


def _by_name(
    checkpoint: Checkpoint, networks: Mapping[str, Network], owned: Sequence[Owned]
) -> tuple[dict[Owned, Pair], int] | None:
    counts = {int(entry.read().reshape(-1)[0]) for name, entry in checkpoint.tensors.items() if COUNT.search(name)}
    by_weight = _named_pairs(checkpoint)
    pairs: dict[Owned, Pair] = {}
    for part, name in owned:
        pair = next((by_weight[tail] for tail in _tails(networks[part].file_names[name]) if tail in by_weight), None)
        if pair is None or not _fits(networks[part], name, pair):
            return None
        pairs[part, name] = pair
    alone = len({id(first) for first, _ in pairs.values()}) == len(pairs)
    return (pairs, counts.pop()) if alone and len(counts) == 1 else None


def _named_pairs(checkpoint: Checkpoint) -> dict[str, Pair]:
    """Name of a weight in the file, and without the prefix of its moments where that leaves no doubt -> moments."""
    exact: dict[str, Pair] = {}
    shortened: dict[str, list[Pair]] = {}
    for name, first in checkpoint.tensors.items():
        found = BY_NAME.match(name)
        second = checkpoint.tensors.get(f"{found[1]}{SECONDS[found[2]]}.{found[3]}") if found else None
        if found and second:
            exact[found[1] + found[3]] = first, second
            shortened.setdefault(found[3], []).append((first, second))
    return {name: pairs[0] for name, pairs in shortened.items() if len(pairs) == 1} | exact


def _tails(name: str) -> Iterator[str]:
    """A name, and the name without its outermost prefixes: wrappers may stand before weights and not before moments."""
    while name:
        yield name
        name = name.partition(".")[2]


def _by_number(
    checkpoint: Checkpoint, networks: Mapping[str, Network], owned: Sequence[Owned]
) -> tuple[dict[Owned, Pair], int] | None:
    """The one optimizer of a file whose parameters are these; a parameter without gradient has no moments in it."""
    fitting = []
    for prefix, states in _optimizers(checkpoint).items():
        complete = all(len(state) == len(MOMENTS) for state in states.values())
        count = _steps(checkpoint, f"{prefix}state.{max(states)}.step")
        if complete and count and max(states) < len(owned):
            pairs = {owned[number]: (state[MOMENTS[0]], state[MOMENTS[1]]) for number, state in states.items()}
            if all(_fits(networks[part], name, pair) for (part, name), pair in pairs.items()):
                fitting.append((pairs, count))
    return fitting[0] if len(fitting) == 1 else None


def _optimizers(checkpoint: Checkpoint) -> dict[str, dict[int, dict[str, Entry]]]:
    """Prefix of each optimizer -> number of a parameter -> its moments by kind."""
    found: dict[str, dict[int, dict[str, Entry]]] = {}
    for name, entry in checkpoint.tensors.items():
        if match := BY_NUMBER.match(name):
            found.setdefault(match[1], {}).setdefault(int(match[2]), {})[match[3]] = entry
    return found


def _steps(checkpoint: Checkpoint, name: str) -> int:
    """The count of steps under a name: a tensor, or a number in files of older versions; 0 when there is none."""
    if name in checkpoint.tensors:
        return int(checkpoint.tensors[name].read())
    number = re.match(r"(?:int|float) (\d+)", checkpoint.extras.get(name, ""))
    return int(number[1]) if number else 0
