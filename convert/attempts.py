"""Reading the tensors of one place as one network, in every spelling that its files have."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from convert.family import Family, Part, Spelling
from convert.places import Place, loose_numbers
from convert.plan import Plan, Problems, build_plan
from convert.tensors import Checkpoint, Entry

PARAMETRIZED = Spelling(
    name="PyTorch parametrizations",
    renames=(
        (r"^(.*)\.parametrizations\.weight\.original$", r"\1.weight_orig"),
        (r"^(.*)\.parametrizations\.weight\.0\._([uv])$", r"\1.weight_\2"),
    ),
)
SHOWN = 4  # names of tensors that are left out
# What code that expects a network's shapes does with those of something else; RuntimeError holds RecursionError.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, MemoryError)
MOST_TENSORS = 2048  # of one network of a family; the largest has a fifth


@dataclass(frozen=True)
class Attempt:
    """A place read as one part in one spelling; `source` holds its tensors as `Spelling.prepare` gives them."""

    place: Place
    source: Checkpoint
    family: Family
    part: Part
    kwargs: Mapping[str, Any]
    plan: Plan
    names: Mapping[str, str]  # PyTorch name -> name below the place
    spelling: str
    problems: Problems
    notes: tuple[str, ...] = ()

    @property
    def foreign(self) -> bool:
        """Whether the names are another system's than the one that this kind of file is of."""
        return self.spelling not in {"PyTorch", "MindSpore" if self.source.format == "ckpt" else "PyTorch"}

    @property
    def preference(self) -> tuple[int, int, bool]:
        """Fewest problems first, then the configuration closest to the released one, then PyTorch's own names."""
        differing = sum(self.kwargs.get(name) != value for name, value in self.part.kwargs.items())
        return self.problems.count, differing, self.spelling != "PyTorch"

    @property
    def fitting(self) -> int:
        """Number of the network's tensors that are there and right."""
        return len(self.plan.rows) - len(self.problems.missing) - len(self.problems.misshaped)

    @property
    def nearness(self) -> tuple[float, int, bool]:
        """The likeness, then fewer problems, then the system's own names."""
        return self.likeness, -self.problems.count, not self.foreign

    @property
    def likeness(self) -> float:
        """How much alike the tensors and the network are, from 0 to 1."""
        return self.fitting / (len(self.plan.rows) + len(self.problems.unexpected))


def spellings_of(part: Part) -> tuple[Spelling, ...]:
    """Every spelling in which a part's files are read; MindSpore's own names are understood in each."""
    return (Spelling("PyTorch"), PARAMETRIZED, *part.spellings)


def attempts(place: Place, family: Family, parts: Iterable[Part]) -> Iterator[Attempt]:
    """Read a place as each of some parts of a family, in every spelling; one with far too many tensors is none."""
    if len(place.names) > MOST_TENSORS:
        return
    for part in parts:
        for spelling in spellings_of(part):
            yield from _attempts_as(spelling, place, family, part)


def _attempts_as(spelling: Spelling, place: Place, family: Family, part: Part) -> Iterator[Attempt]:
    source = prepared(place.source, spelling)
    if source is None:
        return
    renamed = rename(spelling, source.tensors)
    if spelling.renames and list(renamed) == list(place.names):
        return
    shapes = {key: source.tensors[original].spec.shape for key, original in renamed.items()}
    built = _built(part, shapes)
    if built is None:
        return
    kwargs, plan = built
    unused = tuple(name for name in place.names if _unused(spelling, name))
    yield attempt(place, source, family, part, kwargs, plan, renamed, spelling, unused)
    by_mindspore = {row.mindspore: row.torch for row in plan.rows}
    if any(by_mindspore.get(key, key) != key for key in renamed):
        translated = all_kept((by_mindspore.get(key, key), original) for key, original in renamed.items())
        yield attempt(place, source, family, part, kwargs, plan, translated, Spelling("MindSpore"))


def _built(part: Part, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Mapping[str, Any], Plan] | None:
    """Constructor arguments and plan behind shapes; None when they are another network's, or nonsense."""
    try:
        kwargs = part.infer(shapes)
        return None if kwargs is None else (kwargs, build_plan(part, kwargs))
    except UNREADABLE:
        return None


def _unused(spelling: Spelling, name: str) -> bool:
    return any(re.search(pattern, name) for pattern in spelling.unused)


def prepared(checkpoint: Checkpoint, spelling: Spelling) -> Checkpoint | None:
    """The checkpoint as a spelling gives it: without what the network does not need, and with the values it needs."""
    tensors: Mapping[str, Entry] | None = checkpoint.tensors
    if spelling.unused:
        tensors = {name: entry for name, entry in checkpoint.tensors.items() if not _unused(spelling, name)}
    if tensors and spelling.prepare:
        tensors = spelling.prepare(tensors)
    return replace(checkpoint, tensors=tensors) if tensors else None


def rename(spelling: Spelling, names: Iterable[str]) -> Mapping[str, str]:
    """Names as PyTorch has them -> the names given."""
    return _all_renamed(spelling.renames, tuple(names))


@lru_cache(64)  # every family reads the same places, and many share their spellings
def _all_renamed(renames: tuple[tuple[str, str], ...], names: tuple[str, ...]) -> Mapping[str, str]:
    return all_kept((_renamed(renames, name), name) for name in names)


def _renamed(renames: tuple[tuple[str, str], ...], name: str) -> str:
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def all_kept(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Collect (new name, name in the file); of two that claim one name, the second stays as an unexpected one."""
    kept: dict[str, str] = {}
    for name, original in pairs:
        kept[name if name not in kept else f"{original} (a second {name})"] = original
    return kept


def attempt(
    place: Place,
    source: Checkpoint,
    family: Family,
    part: Part,
    kwargs: Mapping[str, Any],
    plan: Plan,
    names: Mapping[str, str],
    spelling: Spelling,
    unused: tuple[str, ...] = (),
) -> Attempt:
    """Compare tensors (PyTorch name -> name in `source`) with a plan; those called `unused` were left out before."""
    wanted = {row.torch for row in plan.rows}
    numbers = {name for name in loose_numbers(names, source) if name not in wanted}
    neutral = _neutral_names(source, plan, names, spelling)
    kept = {key: original for key, original in names.items() if key not in neutral | numbers}
    problems = plan.check({key: source.tensors[original].spec for key, original in kept.items()})
    notes: tuple[str, ...] = (spelling.note,) if spelling.note else ()
    if unused:
        names_shown = ", ".join(unused[:SHOWN]) + (", ..." if len(unused) > SHOWN else "")
        notes += (f"left out, as the network does not use it: {names_shown}",)
    if neutral:
        notes += (f"left out {len(neutral)} {spelling.name} tensors that have no effect",)
    return Attempt(place, source, family, part, kwargs, plan, kept, spelling.name, problems, notes)


def _neutral_names(checkpoint: Checkpoint, plan: Plan, names: Mapping[str, str], spelling: Spelling) -> set[str]:
    """Names of tensors that the reference lacks and whose values have no effect."""
    neutral = set()
    for layer_type, values in spelling.neutral:
        for key, original in names.items():
            layer, _, leaf = key.rpartition(".")
            ours = leaf in dict(values) and plan.layer_types.get(layer) == layer_type
            value = dict(values).get(leaf)
            if ours and (value is None or bool(np.all(checkpoint.tensors[original].read() == value))):
                neutral.add(key)
    return neutral
