"""Checkpoints of networks that are in no family: read and written by the plan of a user's own pair of networks."""

from functools import partial

import numpy as np

from convert.conversion import require_finite
from convert.errors import InputError
from convert.family import Family, Part
from convert.identify import Network
from convert.places import Place, chosen
from convert.plan import Plan, Problems, Row
from convert.tensors import Array, Checkpoint, Entry, TensorSpec

SHOWN = 10
OWN = Family("own", "a user's own network", "", "", "", ())


def own_network(checkpoint: Checkpoint, plan: Plan, name: str, key: str | None = None) -> Network:
    """Find the one network in a file, below whatever people save around it, in the names of either side.

    Args:
        checkpoint: the opened file.
        plan: of the network.
        name: what to call it.
        key: dictionary or prefix of the file to look in.

    Raises InputError: the tensors of no place are the network's, or those of several are.
    """
    found: dict[frozenset[str], tuple[Place, Network]] = {}
    nearest: tuple[int, Problems] | None = None
    for place in chosen(checkpoint, key).all_below:
        for spelling in ("MindSpore", "PyTorch") if checkpoint.format == "ckpt" else ("PyTorch", "MindSpore"):
            network, problems = _read_as(spelling, place, plan, name)
            if not problems:
                found.setdefault(frozenset(network.file_names.values()), (place, network))
            elif nearest is None or problems.count < nearest[0]:
                nearest = problems.count, problems
    if len(found) > 1:
        places = ", ".join(place.shown for place, _ in found.values())
        raise InputError(f"{checkpoint.path}: {len(found)} sets of weights fit {name}: {places}; say which by --key")
    if not found:
        reason = nearest[1].text(SHOWN) if nearest else "it holds no tensors"
        raise InputError(f"{checkpoint.path}: the tensors do not fit {name}: {reason}")
    network = next(iter(found.values()))[1]
    require_finite(network)
    return network


def _read_as(spelling: str, place: Place, plan: Plan, name: str) -> tuple[Network, Problems]:
    """A place as the network in one side's names, its values as PyTorch has them; and what does not fit."""
    own = {row.torch: row for row in plan.rows if spelling == "PyTorch" or row.carried}
    own |= {row.mindspore: row for row in plan.rows if spelling == "MindSpore"}
    tensors, files = dict[str, Entry](), dict[str, str]()
    for below, file in place.names.items():
        row, entry = own.get(below), place.source.tensors[below]
        key = row.torch if row else below
        tensors[key] = _as_torch(row, entry) if row and spelling == "MindSpore" else entry
        files[key] = file
    problems = plan.check({key: entry.spec for key, entry in tensors.items()})
    order = [row.torch for row in plan.rows if row.torch in tensors]
    part = Part(name, name, {}, lambda shapes: None, (1, 1, 1, 1), lambda kwargs: 1, (), lambda kwargs: None)
    kept, sources = {key: tensors[key] for key in order}, {key: files[key] for key in order}
    return Network(place.source.path, OWN, part, {}, plan, kept, sources, spelling, ()), problems


def _as_torch(row: Row, entry: Entry) -> Entry:
    """A tensor with MindSpore's layout as PyTorch has it; one of another shape as it is."""
    if row.change is None or entry.spec.shape != row.mindspore_shape:
        return entry
    return Entry(TensorSpec(row.spec.shape, entry.spec.dtype), partial(_back, row, entry))


def _back(row: Row, entry: Entry) -> Array:
    return np.asarray(row.to_torch(entry.read()), order="C")
