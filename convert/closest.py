"""Which network a set of tensors is most like when it fits none, so that an error can name what is missing.

Constructor arguments are told by the shapes of some tensors; where one of these is the missing one, they are guessed
from a plan of the same kind. A guess is only ever said, never loaded.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from convert.attempts import MOST_TENSORS, UNREADABLE, Attempt, all_kept, attempt, prepared, rename, spellings_of
from convert.family import Family, Kwargs, Part, Shapes, Spelling
from convert.places import Place
from convert.plan import Plan, Problems, build_plan
from convert.tensors import Checkpoint

CLOSEST_LIMIT = 5
MOST_PLACES = 20  # of which it is said what they are like, the largest
ALIKE = 0.5  # share of a plan's names from which a guess is worth making
SMALL = 8  # sides up to this are kernels and colours, which do not grow with a network's width
MORE = 2  # by how many a count of layers may be too low when one of them lacks a tensor


def closest(places: Iterable[Place], families: Iterable[Family], part: str | None) -> Attempt | None:
    """Return the reading that the tensors of some places come nearest to, or None when they are like nothing.

    Of very many places only the largest are tried.
    """
    families = list(families)
    places = sorted(places, key=lambda place: -len(place.names))[:MOST_PLACES]
    guesses = [
        guess
        for place in places
        if len(place.names) <= MOST_TENSORS
        for family in families
        for known in family.parts
        if part in (None, known.name)
        for guess in _guesses(place, family, known)
    ]
    return max(guesses, key=lambda guess: guess.nearness, default=None)


def refusal(path: Path, attempt: Attempt) -> str:
    """Say what does not fit, in the file's own names: everything where the network is clear, else a few names."""
    reasons = {
        reason
        for spelling in attempt.part.spellings
        for pattern, reason in spelling.refusals
        if any(re.search(pattern, name) for name in attempt.problems.unexpected)
    }
    close = attempt.problems.count <= attempt.fitting
    text = _as_in_file(attempt).text(None if close else CLOSEST_LIMIT)
    network = f"{attempt.family.name} {attempt.part.name}"
    head = f"does not fit {network}" if close else f"fits no known network (closest: {network})"
    return f"{path}: {head}: {'; '.join([*sorted(reasons), text])}"


def _as_in_file(attempt: Attempt) -> Problems:
    """The problems with the names that the tensors have, or would have, in the file."""
    inside = f"{attempt.place.path}." if attempt.place.path else ""
    written = {row.torch: row.mindspore for row in attempt.plan.rows if attempt.source.format == "ckpt"}
    originals = {name: attempt.place.names.get(file, file) for name, file in attempt.names.items()}
    return replace(
        attempt.problems,
        missing=tuple(inside + written.get(name, name) for name in attempt.problems.missing),
        unexpected=tuple(originals.get(name, name) for name in attempt.problems.unexpected),
    )


def _guesses(place: Place, family: Family, part: Part) -> Iterator[Attempt]:
    for kwargs in (part.kwargs, *part.variants):
        released = build_plan(part, kwargs)
        for spelling in spellings_of(part):
            source = prepared(place.source, spelling)
            if source:
                yield from _guesses_as(spelling, place, source, family, part, released)


def _guesses_as(
    spelling: Spelling, place: Place, source: Checkpoint, family: Family, part: Part, released: Plan
) -> Iterator[Attempt]:
    renamed = rename(spelling, source.tensors)
    own = released.names
    known = {own.get(name, name): source.tensors[file].spec.shape for name, file in renamed.items()}
    shared = known.keys() & released.shapes.keys()
    if len(shared) < ALIKE * min(len(released.rows), len(known)):
        return
    for kwargs in _near(part, _completed(known, released.shapes)):
        try:
            plan = build_plan(part, kwargs)
        except UNREADABLE:
            continue
        names = all_kept((plan.names.get(name, name), file) for name, file in renamed.items())
        yield attempt(place, source, family, part, kwargs, plan, names, spelling)


def _completed(known: Shapes, released: Shapes) -> dict[str, tuple[int, ...]]:
    """The shapes with those of missing tensors put in, as wide as the others are against the released network."""
    ratios = Counter(
        Fraction(known[name][0], shape[0])
        for name, shape in released.items()
        if shape and shape[0] > SMALL and known.get(name)
    )
    ratio = ratios.most_common(1)[0][0] if ratios else Fraction(1)
    missing = {
        name: tuple(max(1, int(side * ratio)) if side > SMALL else side for side in shape)
        for name, shape in released.items()
        if name not in known
    }
    return {**missing, **known}


def _near(part: Part, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Kwargs]:
    """What the shapes say the constructor arguments are, and the same with every other count of layers."""
    try:
        kwargs = part.infer(shapes)
    except UNREADABLE:
        return
    if kwargs is None:
        return
    yield kwargs
    for name, value in kwargs.items():
        if name.startswith(("n_", "num_")):
            yield from ({**kwargs, name: count} for count in range(1, value + MORE + 1) if count != value)
