"""How cost grows: the same work at several sizes, and the exponent of the power that fits the times."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from toonport.bench.processes import Contender, Launched, Resident, compete
from toonport.bench.suite import DRAWN, PART, TOONPORT, USUAL, write_random
from toonport.photo.example import drawn_face
from toonport.photo.picture import write_picture

ROUNDS = 3


@dataclass(frozen=True)
class Curve:
    """Work whose size is one number."""

    name: str
    title: str
    unit: str  # of the sizes, in words
    sizes: tuple[int, ...]
    contenders: Callable[[int, Path], dict[str, Contender]]  # size, folder for files -> who works
    smallest: int  # size that takes a moment
    # size, folder -> the size that is drawn, where that is another number
    measured: Callable[[int, Path], float] = lambda size, folder: size


@dataclass(frozen=True)
class Grown:
    """What a curve has come to."""

    name: str
    title: str
    unit: str
    sizes: tuple[float, ...]
    seconds: Mapping[str, tuple[float, ...]]  # medians at each size, by contender
    exponents: Mapping[str, float | None]  # seconds grow like size to this power; None for a single size


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float | None:
    """The power p of `seconds ~ size ** p` that fits best by least squares of the logarithms; None for one size."""
    if len(set(sizes)) < 2:
        return None
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def _drawing(kwargs: Callable[[int], Mapping[str, Any]]) -> Callable[[int, Path], dict[str, Contender]]:
    def contenders(size: int, _: Path) -> dict[str, Contender]:
        """Who draws with photo2cartoon's generator."""
        return {
            name: Resident("network", {"framework": framework, "family": DRAWN, "part": PART, **kwargs(size)})
            for name, framework in (("MindSpore graph", "graph"), ("PyTorch", "torch"))
        }

    return contenders


def _converting(source: Path) -> dict[str, Contender]:
    return {
        "toonport": Launched([*TOONPORT, "convert", str(source), "{run}/converted.ckpt", "--quiet"]),
        "cp + sha256": Launched([*USUAL, "copy", str(source), "{run}/copy"]),
    }


def _file(width: int, folder: Path) -> Path:
    path = folder / f"file{width}.pt"
    if not path.exists():
        write_random(path, DRAWN, width)
    return path


def _tensors(blocks: int, folder: Path) -> dict[str, Contender]:
    path = folder / f"blocks{blocks}.pt"
    write_random(path, "cyclegan", 4, n_blocks=blocks)
    return _converting(path)


def _photos(count: int, folder: Path) -> dict[str, Contender]:
    source, weights = folder / f"photos{count}", _file(8, folder)
    source.mkdir(exist_ok=True)
    for number in range(count):
        write_picture(source / f"{number:03d}.png", np.roll(drawn_face(256), number, axis=1))
    words = ["cartoonize", str(source), "--out", "{run}/cartoons", "--weights", str(weights), "--frame", "whole"]
    return {"cartoonize": Launched([*TOONPORT, *words, "--quiet"])}


CURVES = (
    Curve("size", "photo2cartoon's generator", "side in pixels", (64, 128, 256, 512),
          _drawing(lambda side: {"side": side}), 32),
    Curve("batch", "photo2cartoon's generator, 128²", "pictures at once", (1, 2, 4, 8),
          _drawing(lambda batch: {"side": 128, "batch": batch}), 1),
    Curve("width", "photo2cartoon's generator, 128²", "channels of its first layer", (8, 16, 32, 64),
          _drawing(lambda width: {"side": 128, "kwargs": {"ngf": width}}), 4),
    Curve("file", "convert .pt → .ckpt", "MiB of the file", (16, 32, 64, 128),
          lambda width, folder: _converting(_file(width, folder)), 4,
          lambda width, folder: _file(width, folder).stat().st_size / 2**20),
    Curve("tensors", "convert .pt → .ckpt, narrow CycleGAN", "residual blocks of each generator", (4, 16, 64, 256),
          _tensors, 1),
    Curve("photos", "cartoonize a folder, one photo after the other", "photos", (2, 4, 8, 16), _photos, 1),
)  # fmt: skip


def grow(curves: Sequence[Curve], smallest: bool = False) -> Iterator[Grown]:
    """Run curves one after the other, and yield what each has come to."""
    for curve in curves:
        sizes = (curve.smallest,) if smallest else curve.sizes
        seconds: dict[str, list[float]] = {}
        with tempfile.TemporaryDirectory(prefix="toonport_bench_") as name:
            folder = Path(name)
            for size in sizes:
                for who, runs in compete(curve.contenders(size, folder), 1 if smallest else ROUNDS).items():
                    seconds.setdefault(who, []).append(median(runs.wall))
            measured = tuple(float(curve.measured(size, folder)) for size in sizes)
        yield Grown(
            curve.name,
            curve.title,
            curve.unit,
            measured,
            {who: tuple(values) for who, values in seconds.items()},
            {who: exponent(measured, values) for who, values in seconds.items()},
        )
