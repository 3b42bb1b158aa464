"""Two checkpoint files tensor by tensor, across formats and names, one tensor of each in memory at a time.

Which tensor is which is settled by the naming rules where both files hold the same networks; else by the same name, by
how MindSpore usually calls it, by the end of its name (wrappers, prefixes), and last by its values.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from convert.errors import InputError
from convert.identify import Network, identify
from convert.layers import USUAL
from convert.tensors import Array, Checkpoint, Entry, tensor_sha256


class Result(str, Enum):
    """What comparing a tensor showed."""

    EQUAL = "equal"  # bit for bit
    VALUES = "values differ"
    TYPE = "type differs"  # and the values are the same
    SHAPE = "shape differs"
    ONLY_FIRST = "only in A"
    ONLY_SECOND = "only in B"
    CARRIED = "not in MindSpore"  # MindSpore's layer keeps no such tensor


AGREEING = {Result.EQUAL, Result.CARRIED}


@dataclass(frozen=True)
class Difference:
    """One tensor of two files."""

    first: str  # its name in the first file, "" where it is not there
    second: str
    found_by: str  # how the two were found to be one, in words
    result: Result
    # shapes, types, hashes: of both; "" and () where it is not there. The hash is of type, shape and bytes
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    types: tuple[str, str]
    hashes: tuple[str, str]
    largest: float | None = None  # max |A - B| where both are finite; infinite where only one is; None without numbers
    cosine: float | None = None  # of both as vectors

    @property
    def moved(self) -> bool:
        """Whether both files have it under other names."""
        return bool(self.first and self.second and self.first != self.second)


@dataclass(frozen=True)
class _Same:
    """Two entries that are the same tensor: their names, how they are read, and how that is known."""

    names: tuple[str, str]
    entries: tuple[Entry, Entry]
    found_by: str


Search = Callable[[Mapping[str, Entry], Mapping[str, Entry]], Iterator[tuple[str, str]]]


def differences(
    first: Checkpoint, second: Checkpoint, networks: tuple[Sequence[Network], Sequence[Network]] | None = None
) -> Iterator[Difference]:
    """Yield every tensor of two files, in the order of the first.

    Args:
        first, second: opened files of any format.
        networks: what both hold, where it is known; default: what the registry knows.

    Raises InputError: a tensor cannot be read.
    """
    left, right = dict(first.tensors), dict(second.tensors)
    same, carried = _by_networks(networks if networks is not None else _identified(first, second))
    for pair in same:
        left.pop(pair.names[0], None)
        right.pop(pair.names[1], None)
    for found_by, search in SEARCHES:
        for names in list(search(left, right)):
            same.append(_Same(names, (left.pop(names[0]), right.pop(names[1])), found_by))
    order = {name: place for place, name in enumerate(first.tensors)}
    for pair in sorted(same, key=lambda pair: order[pair.names[0]]):
        yield _compared(pair)
    for name, entry in left.items():
        yield _alone(name, "", entry, Result.CARRIED if name in carried else Result.ONLY_FIRST)
    for name, entry in right.items():
        yield _alone("", name, entry, Result.CARRIED if name in carried else Result.ONLY_SECOND)


def _identified(first: Checkpoint, second: Checkpoint) -> tuple[Sequence[Network], Sequence[Network]]:
    """The networks of both files; none where one of them holds none that is known."""
    try:
        return identify(first), identify(second)
    except InputError:
        return (), ()


def _by_networks(networks: tuple[Sequence[Network], Sequence[Network]]) -> tuple[list[_Same], set[str]]:
    """What is the same tensor of the same network, as PyTorch lays it out; and names of what MindSpore keeps not."""
    same, carried = list[_Same](), set[str]()
    others = {network.part.name: network for network in networks[1]}
    for network in networks[0]:
        other = others.get(network.part.name)
        if other is None:
            continue
        for row in network.plan.rows:
            name = row.torch
            files = network.file_names.get(name), other.file_names.get(name)
            if files[0] is not None and files[1] is not None:
                same.append(_Same((files[0], files[1]), (network.tensors[name], other.tensors[name]), "naming rules"))
            elif row.carried:
                carried.update(file for file in files if file is not None)
    return same, carried


def _by_name(left: Mapping[str, Entry], right: Mapping[str, Entry]) -> Iterator[tuple[str, str]]:
    return ((name, name) for name in left if name in right)


def _by_leaf(left: Mapping[str, Entry], right: Mapping[str, Entry]) -> Iterator[tuple[str, str]]:
    """What only MindSpore's usual names of a layer's tensors tell apart."""
    taken: set[str] = set()
    for name, entry in left.items():
        found = [
            other
            for other in (*_usual_names(name), *_usual_names(name, back=True))
            if other in right and other not in taken and right[other].spec.shape == entry.spec.shape
        ]
        if len(found) == 1:
            taken.add(found[0])
            yield name, found[0]


def _usual_names(name: str, back: bool = False) -> Iterator[str]:
    for torch, others in USUAL.items():
        for other in others:
            leaf, instead = (other, torch) if back else (torch, other)
            if f".{name}".endswith(f".{leaf}"):
                yield name.removesuffix(leaf) + instead


def _by_end(left: Mapping[str, Entry], right: Mapping[str, Entry]) -> Iterator[tuple[str, str]]:
    """One name is the end of the other, and of no further one."""
    by_first = {
        name: [other for other in right if f".{other}".endswith(f".{name}") or f".{name}".endswith(f".{other}")]
        for name in left
    }
    often = [other for found in by_first.values() for other in found]
    for name, found in by_first.items():
        if len(found) == 1 and often.count(found[0]) == 1 and left[name].spec.shape == right[found[0]].spec.shape:
            yield name, found[0]


def _by_values(left: Mapping[str, Entry], right: Mapping[str, Entry]) -> Iterator[tuple[str, str]]:
    """The same bits in the same shape; tensors that are all alike in this are taken in the order of the files."""
    shapes = {entry.spec for entry in left.values()} & {entry.spec for entry in right.values()}
    places: dict[str, list[str]] = {}
    for name, entry in right.items():
        if entry.spec in shapes:
            places.setdefault(tensor_sha256(entry.read()), []).append(name)
    for name, entry in left.items():
        found = places.get(tensor_sha256(entry.read())) if entry.spec in shapes else None
        if found:
            yield name, found.pop(0)


SEARCHES: tuple[tuple[str, Search], ...] = (
    ("name", _by_name),
    ("MindSpore's usual name", _by_leaf),
    ("end of the name", _by_end),
    ("values", _by_values),
)


def _compared(pair: _Same) -> Difference:
    """Read both and compare them."""
    arrays = pair.entries[0].read(), pair.entries[1].read()
    hashes = tensor_sha256(arrays[0]), tensor_sha256(arrays[1])
    shapes, types = (arrays[0].shape, arrays[1].shape), (arrays[0].dtype.name, arrays[1].dtype.name)
    if shapes[0] != shapes[1]:
        return Difference(*pair.names, pair.found_by, Result.SHAPE, shapes, types, hashes)
    if hashes[0] == hashes[1]:
        return Difference(*pair.names, pair.found_by, Result.EQUAL, shapes, types, hashes, 0.0, 1.0)
    largest, cosine = _distance(*arrays)
    result = Result.TYPE if largest == 0 and types[0] != types[1] else Result.VALUES
    return Difference(*pair.names, pair.found_by, result, shapes, types, hashes, largest, cosine)


def _distance(first: Array, second: Array) -> tuple[float, float]:
    """Largest difference and cosine of two tensors of one shape; what is not finite at the same places is the same."""
    one, other = _wide(first), _wide(second)
    with np.errstate(invalid="ignore"):
        same = (one == other) | (np.isnan(one) & np.isnan(other))
        delta = np.where(same, 0.0, np.abs(one - other))
    finite = np.isfinite(one) & np.isfinite(other)
    largest = float(np.where(np.isfinite(delta), delta, np.inf).max(initial=0.0))
    one, other = one[finite], other[finite]
    sizes = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    alike = 1.0 if largest == 0 else 0.0
    return largest, float(np.vdot(other, one).real / sizes) if sizes else alike


def _wide(values: Array) -> Any:
    return values if values.dtype.kind == "c" else values.astype(np.float64)


def _alone(first: str, second: str, entry: Entry, result: Result) -> Difference:
    array = entry.read()
    own, digest = (array.shape, array.dtype.name), tensor_sha256(array)
    if first:
        return Difference(first, second, "", result, (own[0], ()), (own[1], ""), (digest, ""))
    return Difference(first, second, "", result, ((), own[0]), ("", own[1]), ("", digest))
