"""Which networks a checkpoint file holds, and how it spells their tensors.

A file may hold one network or several under part names; it may spell tensors as PyTorch does (with or
without DataParallel's "module.", with either form of spectral norm), as MindSpore does, or as another
system's port did. Whatever the spelling, every tensor must be accounted for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import InputError
from convert.family import Family, Part, Spelling
from convert.formats import open_checkpoint
from convert.plan import Plan, Problems, build_plan
from convert.registry import families, family_named
from convert.tensors import Checkpoint, Entry

PARAMETRIZED = Spelling(
    name="PyTorch parametrizations",
    renames=(
        (r"^(.*)\.parametrizations\.weight\.original$", r"\1.weight_orig"),
        (r"^(.*)\.parametrizations\.weight\.0\._([uv])$", r"\1.weight_\2"),
    ),
)
CLOSEST_LIMIT = 5


@dataclass(frozen=True)
class Network:
    """One network found in a file."""

    path: Path  # the file
    # family, part, kwargs: what it is and how to build it
    family: Family
    part: Part
    kwargs: Mapping[str, Any]
    plan: Plan  # its tensors on both sides
    # PyTorch name -> entry of the file, in the plan's order; carried tensors may be absent
    tensors: Mapping[str, Entry]
    file_names: Mapping[str, str]  # PyTorch name -> name in the file
    spelling: str  # whose names the file uses, in words
    notes: tuple[str, ...]  # what was left out or assumed, for the ledger and the user


@dataclass(frozen=True)
class _Attempt:
    """A group of tensors read as one part in one spelling; `source` holds them as `Spelling.prepare` gives them."""

    source: Checkpoint
    family: Family
    part: Part
    kwargs: Mapping[str, Any]
    plan: Plan
    names: Mapping[str, str]  # PyTorch name -> name in the file
    spelling: str
    problems: Problems
    notes: tuple[str, ...] = ()

    @property
    def preference(self) -> tuple[int, int, bool]:
        """Fewest problems first, then the configuration closest to the released one, then PyTorch's own names."""
        differing = sum(self.kwargs.get(name) != value for name, value in self.part.kwargs.items())
        return self.problems.count, differing, self.spelling != "PyTorch"


def open_source(source: str | Path) -> Checkpoint:
    """Open a checkpoint, or several as one: "{part}" in the name stands for the name of each network."""
    path = Path(source)
    if "{part}" not in path.name:
        return open_checkpoint(path)
    pattern = re.compile(re.escape(path.name).replace(r"\{part\}", r"(\w+)") + "$")
    found = [(match[1], file) for file in sorted(path.parent.glob("*")) if (match := pattern.match(file.name))]
    if not found:
        raise InputError(f"{path}: no file matches this pattern")
    opened = [(part, open_checkpoint(file)) for part, file in found]
    tensors = {f"{part}.{name}": entry for part, one in opened for name, entry in one.tensors.items()}
    extras = {f"{part}.{name}": text for part, one in opened for name, text in one.extras.items()}
    return Checkpoint(path, opened[0][1].format, tensors, extras)


def identify(checkpoint: Checkpoint, family: str | None = None, part: str | None = None) -> list[Network]:
    """Return the networks of a checkpoint.

    Args:
        checkpoint: an opened file.
        family: its family, when the user says so; else every family is tried.
        part: the one network wanted, or None for all; also names a file that holds a single network.

    Raises InputError: the tensors fit no network, or not the one asked for; lists what does not fit.
    """
    candidates = (family_named(family),) if family else families()
    known = dict.fromkeys(part.name for candidate in candidates for part in candidate.parts)
    if part and part not in known:
        raise InputError(f"unknown part '{part}'; known parts: {', '.join(known)}")
    groupings = _groupings(checkpoint, candidates)
    wanted = [_only(groups, part) for groups in groupings]
    readings = [
        _read_as(checkpoint, candidate, groups, part)
        for groups in wanted
        if groups
        for candidate in _narrow(groups, candidates)
    ]
    best = min(readings, key=lambda attempts: attempts.preference, default=None)
    if best is None or None in best.attempts:
        if not wanted[0]:
            raise InputError(f"{checkpoint.path}: has no network '{part}'; it has {', '.join(map(str, groupings[0]))}")
        raise InputError(_foreign(checkpoint, candidates))
    networks = map(_network, filter(None, best.attempts))
    return sorted(networks, key=lambda network: network.family.parts.index(network.part))


@dataclass(frozen=True)
class _Reading:
    """All networks of a file read as members of one family; None where nothing of the family is like it."""

    attempts: tuple[_Attempt | None, ...]

    @property
    def preference(self) -> tuple[int, ...]:
        """Fewest unlike networks first, then fewest problems, then as the preference of one network."""
        found = [attempt.preference for attempt in self.attempts if attempt]
        unlike = len(self.attempts) - len(found)
        return unlike, *(sum(column) for column in zip(*found, strict=True))


def _read_as(checkpoint: Checkpoint, family: Family, groups: Groups, part: str | None) -> _Reading:
    best = []
    for name, names in groups.items():
        attempts = _attempts(checkpoint, family, name or part, names)
        best.append(min(attempts, key=lambda attempt: attempt.preference, default=None))
    return _Reading(tuple(best))


def _foreign(checkpoint: Checkpoint, candidates: tuple[Family, ...]) -> str:
    wanted = candidates[0].name if len(candidates) == 1 else "any known family"
    first = ", ".join(list(checkpoint.tensors)[:CLOSEST_LIMIT])
    return (
        f"{checkpoint.path}: the tensors do not belong to {wanted} "
        f"(the file begins with {first}); toonport inspect shows what the file holds"
    )


Groups = Mapping[str | None, Mapping[str, str]]  # part, None for a single network -> {name inside: name in the file}


def _groupings(checkpoint: Checkpoint, candidates: tuple[Family, ...]) -> list[Groups]:
    """The ways in which the names may be split: by part, when they all begin with one; and not at all."""
    parts = {part.name for family in candidates for part in family.parts}
    heads = {name.partition(".")[0] for name in checkpoint.tensors}
    found: list[dict[str | None, dict[str, str]]] = []
    if heads <= parts and not any(name in parts for name in checkpoint.tensors):
        groups: dict[str | None, dict[str, str]] = {}
        for name in checkpoint.tensors:
            head, _, rest = name.partition(".")
            groups.setdefault(head, {})[rest] = name
        found.append(groups)
    found.append({None: {name: name for name in checkpoint.tensors}})
    return [{part: _without_data_parallel(names) for part, names in groups.items()} for groups in found]


def _only(groups: Groups, part: str | None) -> Groups:
    """The group of the one network that is wanted; nothing when it is not among them."""
    if part is None or None in groups:
        return groups
    return {part: groups[part]} if part in groups else {}


def _without_data_parallel(names: dict[str, str]) -> dict[str, str]:
    if all(name.startswith("module.") for name in names):
        return {name.removeprefix("module."): original for name, original in names.items()}
    return names


def _narrow(groups: Mapping[str | None, object], candidates: tuple[Family, ...]) -> tuple[Family, ...]:
    """Keep the families that have all the parts that the file names."""
    named = {name for name in groups if name}
    return tuple(family for family in candidates if named <= {part.name for part in family.parts})


def _network(best: _Attempt) -> Network:
    checkpoint = best.source
    if best.problems:
        raise InputError(_refusal(checkpoint.path, best))
    entries = {
        row.torch: checkpoint.tensors[best.names[row.torch]] for row in best.plan.rows if row.torch in best.names
    }
    transposed = [best.names[key] for key, entry in entries.items() if entry.transposed]
    if transposed:
        raise InputError(
            f"{checkpoint.path}: stored as a transposed view, so which way round is meant is unclear: "
            f"{', '.join(transposed)}; save the tensors with .contiguous() the right way round"
        )
    return Network(
        checkpoint.path, best.family, best.part, best.kwargs, best.plan, entries, best.names, best.spelling, best.notes
    )


def _refusal(path: Path, attempt: _Attempt) -> str:
    reasons = {
        reason
        for spelling in attempt.part.spellings
        for pattern, reason in spelling.refusals
        if any(re.search(pattern, name) for name in attempt.problems.unexpected)
    }
    fits = len(attempt.plan.rows) - len(attempt.problems.missing) - len(attempt.problems.misshaped)
    close = attempt.problems.count <= fits
    text = attempt.problems.text(None if close else CLOSEST_LIMIT)
    network = f"{attempt.family.name} {attempt.part.name}"
    head = f"does not fit {network}" if close else f"fits no known network (closest: {network})"
    return f"{path}: {head}: {'; '.join([*sorted(reasons), text])}"


def _attempts(checkpoint: Checkpoint, family: Family, name: str | None, names: Mapping[str, str]) -> Iterator[_Attempt]:
    """Try every part (or the one named) in every spelling."""
    for part in family.parts:
        if name in (None, part.name):
            for spelling in (Spelling("PyTorch"), PARAMETRIZED, *part.spellings):
                yield from _attempts_as(spelling, checkpoint, family, part, names)


def _attempts_as(
    spelling: Spelling, checkpoint: Checkpoint, family: Family, part: Part, names: Mapping[str, str]
) -> Iterator[_Attempt]:
    source = _prepared(checkpoint, spelling)
    if source is None:
        return
    renamed = _rename(spelling, {name: original for name, original in names.items() if original in source.tensors})
    if spelling.renames and list(renamed) == list(names):
        return
    kwargs = part.infer({key: source.tensors[original].spec.shape for key, original in renamed.items()})
    if kwargs is None:
        return
    plan = build_plan(part, kwargs)
    unused = sum(_unused(spelling, original) for original in names.values())
    yield _attempt(source, family, part, kwargs, plan, renamed, spelling, unused)
    by_mindspore = {row.mindspore: row.torch for row in plan.rows}
    if any(by_mindspore.get(key, key) != key for key in renamed):
        translated = _all_kept((by_mindspore.get(key, key), original) for key, original in renamed.items())
        yield _attempt(source, family, part, kwargs, plan, translated, Spelling("MindSpore"))


def _unused(spelling: Spelling, name: str) -> bool:
    return any(re.search(pattern, name) for pattern in spelling.unused)


def _prepared(checkpoint: Checkpoint, spelling: Spelling) -> Checkpoint | None:
    """The checkpoint as an spelling gives it: without what the network does not need, and with the values it needs."""
    tensors: Mapping[str, Entry] | None = {
        name: entry for name, entry in checkpoint.tensors.items() if not _unused(spelling, name)
    }
    if tensors and spelling.prepare:
        tensors = spelling.prepare(tensors)
    return replace(checkpoint, tensors=tensors) if tensors else None


def _rename(spelling: Spelling, names: Mapping[str, str]) -> dict[str, str]:
    return _all_kept((_renamed(spelling, name), original) for name, original in names.items())


def _renamed(spelling: Spelling, name: str) -> str:
    for pattern, replacement in spelling.renames:
        name = re.sub(pattern, replacement, name)
    return name


def _all_kept(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Collect (new name, name in the file); of two that claim one name, the second stays as an unexpected one."""
    kept: dict[str, str] = {}
    for name, original in pairs:
        kept[name if name not in kept else f"{original} (a second {name})"] = original
    return kept


def _attempt(
    checkpoint: Checkpoint,
    family: Family,
    part: Part,
    kwargs: Mapping[str, Any],
    plan: Plan,
    names: Mapping[str, str],
    spelling: Spelling,
    unused: int = 0,
) -> _Attempt:
    neutral = _neutral_names(checkpoint, plan, names, spelling)
    kept = {key: original for key, original in names.items() if key not in neutral}
    problems = plan.check({key: checkpoint.tensors[original].spec for key, original in kept.items()})
    notes: tuple[str, ...] = (spelling.note,) if spelling.note else ()
    if unused:
        notes += (f"left out {unused} tensors that the network does not use",)
    if neutral:
        notes += (f"left out {len(neutral)} {spelling.name} tensors that have no effect",)
    return _Attempt(checkpoint, family, part, kwargs, plan, kept, spelling.name, problems, notes)


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
