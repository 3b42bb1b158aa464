"""Which network a set of tensors is most like when it fits none, so that an error can name what is missing.

Constructor arguments are told by the shapes of some tensors; where one of these is the missing one, they are guessed
from a plan of the same kind. A guess is only ever said, never loaded.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path

from convert.attempts import UNREADABLE, Attempt, all_kept, attempt
from convert.family import Family, Kwargs, Part, Shapes, Spelling
from convert.places import Place
from convert.plan import build_plan

CLOSEST_LIMIT = 5
ALIKE = 0.5  # share of a plan's names from which a guess is worth making
SMALL = 8  # sides up to this are kernels and colours, which do not grow with a network's width
MORE = 2  # by how many a count of layers may be too low when one of them lacks a tensor


def closest(places: Iterable[Place], families: Iterable[Family], part: str | None) -> Attempt | None:
    """Return the reading that the tensors of some places come nearest to, or None when they are like nothing."""
    families = list(families)
    found = [
        guess
        for place in places
        for family in families
        for known in family.parts
        if part in (None, known.name)
        for guess in _guesses(place, family, known)
    ]
    return max(found, key=lambda guess: (guess.likeness, -guess.problems.count), default=None)


def refusal(path: Path, attempt: Attempt) -> str:
    """Say what does not fit: everything where the network is clear, else a few names."""
    reasons = {
        reason
        for spelling in attempt.part.spellings
        for pattern, reason in spelling.refusals
        if any(re.search(pattern, name) for name in attempt.problems.unexpected)
    }
    close = attempt.problems.count <= attempt.fitting
    text = attempt.problems.text(None if close else CLOSEST_LIMIT)
    network = f"{attempt.family.name} {attempt.part.name}"
    head = f"does not fit {network}" if close else f"fits no known network (closest: {network})"
    where = f"below '{attempt.place.path}': " if attempt.place.path not in {"", attempt.part.name} else ""
    return f"{path}: {where}{head}: {'; '.join([*sorted(reasons), text])}"


def _guesses(place: Place, family: Family, part: Part) -> Iterator[Attempt]:
    shapes = {name: entry.spec.shape for name, entry in place.source.tensors.items()}
    for kwargs in (part.kwargs, *part.variants):
        released = build_plan(part, kwargs)
        translated = {name: released.names.get(name, name) for name in shapes}
        known = {translated[name]: shape for name, shape in shapes.items()}
        shared = known.keys() & released.shapes.keys()
        if len(shared) < ALIKE * min(len(released.rows), max(len(known), 1)):
            continue
        names = all_kept((translated[name], name) for name in shapes)
        for guess in _near(part, _completed(known, released.shapes)):
            try:
                plan = build_plan(part, guess)
            except UNREADABLE:
                continue
            yield attempt(place, place.source, family, part, guess, plan, names, Spelling("PyTorch"))


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
