"""Writes `convert/descriptions.jsonl.xz` from the reference: `python -m parity_tests.tests.record_descriptions`."""

import json
import lzma
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from typing import Any

from convert.attempts import UNREADABLE
from convert.descriptions import FILE, WIDTHS, Description, structure
from convert.families.cyclegan import NORMS
from convert.family import Part
from convert.plan import build_without_values, describe
from convert.registry import families

BASE = 8  # channels from which sides are measured; every step divides it
STEPS = (1, 2, 4, 8)  # by how much a width must grow at once for all sides to grow alike
SIDES = (64, 128, 256, 512)
# Values of the arguments that are no widths; those of others are as the registry has them.
VALUES: Mapping[str, tuple[Any, ...]] = {
    "n_blocks": tuple(range(1, 10)),
    "num_blocks": tuple(range(1, 7)),
    "n_layers": tuple(range(1, 9)),
    "num_downs": tuple(range(5, 10)),
    "dropout": (False, True),
    "light": (True, False),
    "norm": NORMS,
    "img_size": SIDES,
}


def structures() -> Iterator[tuple[Part, dict[str, Any]]]:
    """Yield a part and constructor arguments of every structure once, with all widths at BASE."""
    seen = set()
    for part in (part for family in families() for part in family.parts):
        for kwargs in (part.kwargs, *part.variants):
            for varied in _varied(kwargs):
                wide = {name: BASE if name in WIDTHS else value for name, value in varied.items()}
                key = structure(part.class_name, wide)
                if key not in seen and _can_be_built(part, wide):
                    seen.add(key)
                    yield part, wide


def _can_be_built(part: Part, kwargs: Mapping[str, Any]) -> bool:
    try:
        return bool(described(part, kwargs))
    except UNREADABLE:  # e.g. too few layers for such a network
        return False


def _varied(kwargs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    zoo = str(kwargs.get("architecture", "")).startswith("zoo")
    for values in product(*(VALUES.get(name, (value,)) for name, value in kwargs.items())):
        found = dict(zip(kwargs, values, strict=True))
        if found.get("light") and found["img_size"] != 256:
            continue  # the light model has no layer that depends on it
        if zoo and (found.get("norm") == NORMS[2] or found.get("n_blocks", 9) != 9 or found.get("dropout")):
            continue  # what no file of the model zoo says
        yield found


@cache
def _built(class_name: str, kwargs: tuple[tuple[str, Any], ...]) -> Description:
    return describe(build_without_values(class_name, dict(kwargs)))


def described(part: Part, kwargs: Mapping[str, Any]) -> Description:
    """Build the reference without memory, and describe it."""
    return _built(part.class_name, tuple(kwargs.items()))


def _shapes(part: Part, kwargs: Mapping[str, Any]) -> list[int]:
    return [side for spec, _ in described(part, kwargs).tensors.values() for side in spec.shape]


def _is_linear(part: Part, kwargs: Mapping[str, Any], name: str, step: int) -> bool:
    rows = [_shapes(part, {**kwargs, name: width}) for width in range(step, 3 * BASE + 1, step)]
    return all(
        b - a == c - b
        for first in zip(*rows, strict=True)
        for a, b, c in zip(first, first[1:], first[2:], strict=False)
    )


@cache
def _step(part_class: str, kwargs: tuple[tuple[str, Any], ...], name: str) -> int:
    part = next(part for family in families() for part in family.parts if part.class_name == part_class)
    return next(step for step in STEPS if _is_linear(part, dict(kwargs), name, step))


def line_of(part: Part, kwargs: Mapping[str, Any], steps: Mapping[str, int], types: dict[tuple[str, ...], int]) -> str:
    """What the file says of a structure, as JSON; `types` numbers the class names that layers have."""
    found, base = described(part, kwargs), _shapes(part, kwargs)
    slopes = []
    for name, step in steps.items():
        wider = _shapes(part, {**kwargs, name: BASE + step})
        slopes.append([after - before for before, after in zip(base, wider, strict=True)])
    counts = [BASE // step for step in steps.values()]
    sides = iter(
        [side - sum(a * b for a, b in zip(slope, counts, strict=True)), *slope] if any(slope) else side
        for side, slope in zip(base, zip(*slopes, strict=True) if slopes else ((),) * len(base), strict=True)
    )
    tensors = {
        name: [spec.dtype, trained, [next(sides) for _ in spec.shape]]
        for name, (spec, trained) in found.tensors.items()
    }
    layers = {path: types.setdefault(names, len(types)) for path, names in found.types.items()}
    held = {"steps": list(steps.values()), "layers": layers, "tensors": tensors}
    return json.dumps(held, separators=(",", ":"))


def main() -> None:
    """Write the file."""
    types: dict[tuple[str, ...], int] = {}
    first: dict[tuple[str, Any], dict[str, int]] = {}  # class and architecture -> steps
    lines = []
    for part, kwargs in structures():
        kind = (part.class_name, kwargs.get("architecture"))
        if kind not in first:
            names = [name for name in WIDTHS if name in kwargs]
            first[kind] = {name: _step(part.class_name, tuple(kwargs.items()), name) for name in names}
        lines.append(f"{structure(part.class_name, kwargs)}\t{line_of(part, kwargs, first[kind], types)}")
        _built.cache_clear()
    text = "\n".join([json.dumps([list(names) for names in types]), *lines])
    FILE.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{FILE}: {len(lines)} structures, {len(text):,} bytes, {FILE.stat().st_size:,} packed")


if __name__ == "__main__":
    main()
