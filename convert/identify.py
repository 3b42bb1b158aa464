"""Which networks a checkpoint file holds, and how it spells their tensors.

A file may hold one network or several under part names, below prefixes and dictionaries of any depth, beside what
training keeps; it may spell tensors as PyTorch does (with either form of spectral norm), as MindSpore does, or as
another system's port did. A place is taken where every tensor of a network is there exactly once; what lies beside
such places is left out, and where nothing fits it is an error that names what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from convert.attempts import Attempt, attempts
from convert.closest import closest, refusal
from convert.errors import InputError, guarded, short
from convert.family import Family, Part
from convert.formats import open_checkpoint
from convert.ledger import recorded_families, verify, verify_set
from convert.places import OWN_FORMATS, Place, chosen
from convert.plan import Plan
from convert.registry import families, family_named
from convert.tensors import Checkpoint, Entry

SHOWN = 5
FEWEST = 6  # tensors of the smallest network that is found without its part's name
MOST_PLACES = 300  # groups of tensors that are looked at; files of whole systems have a tenth
CLEARLY = 0.5  # likeness from which something that does not fit is meant as a network


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
    # other families that the tensors fit as well, and whose networks are other functions of them
    alternatives: tuple[str, ...] = ()


def open_source(source: str | Path) -> Checkpoint:
    """Open a checkpoint that agrees with its ledger, or several as one: "{part}" in the name stands for each network.

    Raises InputError: see `convert.formats.open_checkpoint`, `convert.ledger.verify` and `verify_set`; no file
    matches; a ledger beside a file is none.
    """
    checkpoint, check = opened_source(source)
    check(False)
    return checkpoint


def opened_source(source: str | Path) -> tuple[Checkpoint, Callable[[bool], str]]:
    """Open a checkpoint as `open_source` does, without reading its values.

    Returns:
        The checkpoint, and what checks it; called with whether the sha256 is wanted, which it returns of one file.

    Raises InputError: as `open_source`, but for damage, changes and sets, which the check raises.
    """
    path = Path(source)
    if "{part}" not in path.name:
        checkpoint = _opened(path)
        return checkpoint, partial(verify, checkpoint)
    found = files_of(path)
    if not found:
        raise InputError(f"{path}: no file matches this pattern")
    opened = [(part, _opened(file)) for part, file in found.items()]

    def check(hashed: bool) -> str:
        """Check every file, and that they belong together."""
        for _, one in opened:
            verify(one)
        verify_set(path, found)
        return ""

    tensors = {f"{part}.{name}": entry for part, one in opened for name, entry in one.tensors.items()}
    extras = {f"{part}.{name}": text for part, one in opened for name, text in one.extras.items()}
    said = {checkpoint.families for _, checkpoint in opened}
    return Checkpoint(path, opened[0][1].format, tensors, extras, said.pop() if len(said) == 1 else ()), check


def files_of(pattern: Path) -> dict[str, Path]:
    """Files that a name with "{part}" stands for, by what is in its place; a name without it is none's."""
    name = re.compile(re.escape(pattern.name).replace(r"\{part\}", r"(\w+)") + "$")
    if not name.groups:
        return {}
    return {match[1]: file for file in sorted(pattern.parent.glob("*")) if (match := name.match(file.name))}


def _opened(path: Path) -> Checkpoint:
    checkpoint = open_checkpoint(path, verify=False)
    said = recorded_families(path)
    return replace(checkpoint, families=said) if said else checkpoint


def identify(
    checkpoint: Checkpoint, family: str | None = None, part: str | None = None, key: str | None = None
) -> list[Network]:
    """Return the networks of a checkpoint; whatever lies beside them is left out.

    Args:
        checkpoint: an opened file.
        family: its family, when the user says so; else what the file says of itself; else every family is tried.
        part: the one network wanted, or None for all; also names a file that holds a single network.
        key: the dictionary or prefix to look in, where several hold weights that fit; "." is the outermost.

    Raises InputError: the tensors fit no network, or not the one asked for, or several sets of weights fit.
    """
    with guarded(checkpoint.path, "its tensors cannot be a network's"):
        return _identified(checkpoint, family, part, key)


def _identified(checkpoint: Checkpoint, family: str | None, part: str | None, key: str | None) -> list[Network]:
    candidates = _candidates(checkpoint, family)
    known = dict.fromkeys(part.name for candidate in candidates for part in candidate.parts)
    if part and part not in known:
        raise InputError(f"unknown part '{part}'; known parts: {', '.join(known)}")
    place = chosen(checkpoint, key)
    count = sum(len(inner.names) >= FEWEST for inner in place.all_below)
    if count > MOST_PLACES:
        raise InputError(
            f"{checkpoint.path}: has {count:,} groups of tensors, any of which may be a network; say which with --key"
        )
    searches = [_Search(candidate, part) for candidate in candidates]
    for search, fit in _walk(place, dict.fromkeys(searches)):
        search.fits.append(fit)
    best = min(searches, key=lambda search: search.preference)
    if not best.fits:
        _refuse(place, searches, part)
    best.require_whole()
    alternatives = tuple(search.family.name for search in searches if search.rivals(best))
    taken = best.settled(outermost=key == ".")
    networks = [replace(_network(attempt), alternatives=alternatives) for attempt in taken]
    return sorted(networks, key=lambda network: network.family.parts.index(network.part))


def left_out(checkpoint: Checkpoint, networks: Iterable[Network]) -> tuple[str, ...]:
    """Names of the tensors of a file that are in none of the networks; other systems' files say it in their notes."""
    if checkpoint.format not in OWN_FORMATS:
        return ()
    used = {name for network in networks for name in network.file_names.values()}
    return tuple(name for name in checkpoint.tensors if name not in used)


def require_one_family(networks: Iterable[Network]) -> None:
    """Refuse networks that could be another family's: the same tensors there are another function.

    Raises InputError: names the families.
    """
    for network in networks:
        if network.alternatives:
            names = ", ".join((network.family.name, *network.alternatives))
            raise InputError(
                f"{network.path}: these tensors fit several families, whose networks make different pictures of them: "
                f"{names}; say which with --family"
            )


def _candidates(checkpoint: Checkpoint, family: str | None) -> tuple[Family, ...]:
    if family:
        return (family_named(family),)
    said = tuple(known for known in families() if known.name in checkpoint.families)
    return said or families()


@dataclass(frozen=True)
class _Fit:
    """A place whose tensors are a network: what they can be read as."""

    place: Place
    attempts: tuple[Attempt, ...]
    part: str | None  # the part that the place's name means

    @property
    def best(self) -> Attempt:
        """The reading that is preferred."""
        return min(self.attempts, key=lambda attempt: attempt.preference)


@dataclass(eq=False)
class _Search:
    """What the places of a file are to one family."""

    family: Family
    wanted: str | None  # the one part that is wanted
    fits: list[_Fit] = field(default_factory=list)
    failures: list[Attempt] = field(default_factory=list)  # the closest readings of places where nothing fits
    named: dict[str, Place] = field(default_factory=dict)  # part -> the outermost place that is called so

    def enter(self, place: Place, around: str | None) -> str | None:
        """The part that a place is called, by its own name or by that of a place around it."""
        part = self._part_called(place.path) or around
        if part:
            self.named.setdefault(part, place)
        return part

    def at(self, place: Place, part: str | None) -> tuple[list[_Fit], Attempt | None]:
        """What a place fits, one or none, else the closest reading of it."""
        allowed = [known for known in self.family.parts if part in (None, known.name)]
        allowed = [known for known in allowed if self.wanted in (None, known.name)]
        tried = list(attempts(place, self.family, allowed))
        fitting = tuple(attempt for attempt in tried if not attempt.problems)
        if fitting:
            return [_Fit(place, fitting, part)], None
        return [], max(tried, key=lambda attempt: attempt.nearness, default=None)

    def _part_called(self, path: str) -> str | None:
        """The part that the last step of a path names, with or without "net" before it."""
        last = path.rpartition(".")[2]
        short = last.removeprefix("net").removeprefix("_")
        for part in self.family.parts:
            if part.name in (last, short):
                return part.name
        return None

    @property
    def covered(self) -> int:
        """Number of tensors in the networks found."""
        return sum(len(fit.best.names) for fit in self.fits)

    @property
    def foreign(self) -> int:
        """Number of networks whose names are another system's."""
        return sum(fit.best.foreign for fit in self.fits)

    @property
    def preference(self) -> tuple[int, ...]:
        """Most tensors first, then the system's own names, then the configurations closest to the released ones."""
        return -self.covered, self.foreign, *map(sum, zip(*(fit.best.preference for fit in self.fits), strict=True))

    def rivals(self, best: _Search) -> bool:
        """Whether another family explains the file as well, by networks that are other functions of its tensors."""
        mine, other = ({fit.place.path: fit.best for fit in search.fits} for search in (self, best))
        if self is best or (self.covered, self.foreign) != (best.covered, best.foreign) or mine.keys() != other.keys():
            return False
        return any(
            mine[path].part.class_name == other[path].part.class_name and mine[path].kwargs != other[path].kwargs
            for path in mine
        )

    def require_whole(self) -> None:
        """Refuse a file in which a network that it names by its part does not fit."""
        for part, place in self.named.items():
            taken = any(
                fit.place.path == place.path or fit.place.path.startswith(f"{place.path}.") for fit in self.fits
            )
            if not taken and self.wanted in (None, part):
                found = closest(_large_enough(place), [self.family], part)
                if found:
                    raise InputError(refusal(place.source.path, found))

    def settled(self, outermost: bool) -> list[Attempt]:
        """One reading per network.

        Raises InputError: several places fit one part; `outermost` takes the one with the fewest steps.
        """
        by_part: dict[str, list[_Fit]] = {}
        for fit in self.fits:
            by_part.setdefault(fit.part or fit.best.part.name, []).append(fit)
        if self.wanted:
            by_part = {part: fits for part, fits in by_part.items() if part == self.wanted}
        taken = []
        for part, fits in by_part.items():
            left = [fit for fit in fits if fit.part] or fits
            if outermost:
                left = [min(left, key=lambda fit: (fit.place.path.count("."), len(fit.place.path)))]
            if len(left) > 1:
                names = ", ".join(fit.place.shown for fit in left)
                raise InputError(
                    f"{left[0].place.source.path}: {len(left)} sets of weights fit {self.family.name} {part}: {names}; "
                    "choose one with --key NAME"
                )
            taken.append(left[0].best)
        return taken


def _walk(place: Place, around: Mapping[_Search, str | None]) -> list[tuple[_Search, _Fit]]:
    """What a place fits, else what the places below it fit, and then what is left of it without them.

    Args:
        place: where to look.
        around: every family's search -> the part that a place around this one is called.
    """
    called = _called(place, around)
    if not called:
        return []
    found, nearest = _tried(place, called)
    if found:
        return found
    below = [pair for inner in place.below for pair in _walk(inner, called)]
    heads = {fit.place.path.removeprefix(place.path).strip(".").partition(".")[0] for _, fit in below}
    reduced = place.without(heads | place.dictionaries)
    if 0 < len(reduced.names) < len(place.names):
        found, nearer = _tried(reduced, called)
        if found:
            return [*found, *below]
        nearest |= nearer
    for search, attempt in nearest.items():
        search.failures.append(attempt)
        if _means_more(attempt, [fit for other, fit in below if other is search]):
            below = [(other, fit) for other, fit in below if other is not search]
    return below


def _called(place: Place, around: Mapping[_Search, str | None]) -> dict[_Search, str | None]:
    """Families of which a place may hold a network -> the part that it is called; `around` as in `_walk`."""
    called = {search: search.enter(place, part) for search, part in around.items()}
    called = {search: part for search, part in called.items() if part is None or search.wanted in (None, part)}
    return called if len(place.names) >= FEWEST or any(called.values()) else {}


def _means_more(attempt: Attempt, found: Iterable[_Fit]) -> bool:
    """Whether something that nearly fits explains more tensors than what fits inside it."""
    return attempt.likeness >= CLEARLY and attempt.fitting > sum(len(fit.best.plan.rows) for fit in found)


def _tried(
    place: Place, called: Mapping[_Search, str | None]
) -> tuple[list[tuple[_Search, _Fit]], dict[_Search, Attempt]]:
    """What a place is to every family: the fits, and where there is none the closest reading."""
    found, nearest = [], {}
    for search, part in called.items():
        fits, closest_here = search.at(place, part)
        found += [(search, fit) for fit in fits]
        if closest_here:
            nearest[search] = closest_here
    return found, nearest


def _large_enough(place: Place) -> list[Place]:
    """The place and those below it that may hold a network."""
    return [inner for inner in place.all_below if inner is place or len(inner.names) >= FEWEST]


def _refuse(place: Place, searches: list[_Search], part: str | None) -> None:
    """Raise the error that says why nothing of a file is a network."""
    checkpoint = place.source
    others = {known: place for search in searches for known, place in search.named.items()}
    if part and others and part not in others:
        raise InputError(f"{checkpoint.path}: has no network '{part}'; it has {', '.join(others)}")
    found = _nearest(place, searches, part)
    if found is not None and (found.fitting or len(found.problems.misshaped) > found.problems.count / 2):
        raise InputError(refusal(checkpoint.path, found))
    wanted = searches[0].family.name if len(searches) == 1 else "any known family"
    first = ", ".join(short(name) for name in list(checkpoint.tensors)[:SHOWN])
    raise InputError(
        f"{checkpoint.path}: the tensors do not belong to {wanted} "
        f"(the file begins with {first}); toonport inspect shows what the file holds"
    )


def _nearest(place: Place, searches: list[_Search], part: str | None) -> Attempt | None:
    """The reading of a file, of those that do not fit, that comes nearest to a network."""
    tried = [attempt for search in searches for attempt in search.failures]
    other = closest(_large_enough(place), [search.family for search in searches], part)
    return max((*tried, *filter(None, [other])), key=lambda attempt: attempt.nearness, default=None)


def _network(best: Attempt) -> Network:
    source, path = best.source, best.source.path
    entries = {row.torch: source.tensors[best.names[row.torch]] for row in best.plan.rows if row.torch in best.names}
    names = {key: best.place.names[original] for key, original in best.names.items()}
    transposed = [names[key] for key, entry in entries.items() if entry.transposed]
    if transposed:
        raise InputError(
            f"{path}: stored as a transposed view, so which way round is meant is unclear: "
            f"{', '.join(transposed)}; save the tensors with .contiguous() the right way round"
        )
    notes = (*best.notes, *_prefix_note(best, names))
    return Network(path, best.family, best.part, best.kwargs, best.plan, entries, names, best.spelling, notes)


def _prefix_note(best: Attempt, names: Mapping[str, str]) -> tuple[str, ...]:
    """Say which prefix was taken off, unless it is the part's own name."""
    inside, original = next(iter(best.names.values())), next(iter(names.values()))
    prefix = original.removesuffix(inside).rstrip(".")
    return (f"found below '{prefix}'",) if prefix not in {"", best.part.name} else ()
