"""`toonport bench all`: every case with its contenders, its goals beside them, and what they come to."""

import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from convert.errors import InputError
from convert.formats import write_checkpoint
from convert.plan import Row, build_plan
from convert.registry import family_named
from convert.suggest import did_you_mean
from toonport.bench.processes import Contender, Launched, Resident, Runs, compete
from toonport.bench.timing import spread

MIB = 2**20
DRAWN, PART = "photo2cartoon", "genA2B"
BIG, SMALL = 128, 32  # channels of photo2cartoon's first layers: 2.1 GiB, and the released 0.13 GiB
USUAL = (sys.executable, "-m", "toonport.bench.usual")
TOONPORT = (sys.executable, "-m", "toonport")


@dataclass(frozen=True)
class Goal:
    """What is wanted of a figure."""

    what: str  # "ratio" of times, "seconds", "first" seconds, "resident" or "anonymous" memory in MiB, or "excess"
    of: str  # the contender
    by: str = ""  # whose time it is divided by; of an "excess" of memory, what is not counted
    most: float = math.inf
    least: float = 0.0

    @property
    def title(self) -> str:
        """The figure in words."""
        return {
            "ratio": f"{self.of} / {self.by}",
            "seconds": f"{self.of}, s",
            "first": f"{self.of}, first run s",
            "resident": f"{self.of}, peak MiB",
            "anonymous": f"{self.of}, peak without file pages MiB",
            "excess": f"{self.of}, peak above {self.by} / largest tensor",
            "excess anonymous": f"the same without file pages: {self.of}",
        }[self.what]

    @property
    def wanted(self) -> str:
        """The goal in words."""
        return f"≥ {self.least:g}" if self.least else f"≤ {self.most:g}"


@dataclass(frozen=True)
class Bench:
    """What cases work with."""

    folder: Path  # for files of this run
    smallest: bool = False  # every case at its smallest size, to see that it runs
    weights: str | None = None  # released weights of photo2cartoon, for what needs them

    def file(self, width: int) -> Path:
        """A photo2cartoon checkpoint of this width with random weights, written where there is none yet."""
        width = 4 if self.smallest else width
        path = self.folder / f"width{width}.pt"
        if not path.exists():
            write_random(path, DRAWN, width)
        return path


@dataclass(frozen=True)
class Case:
    """Contenders that do the same work, and what is wanted of them."""

    name: str
    title: str
    contenders: Callable[[Bench], dict[str, Contender]]
    goals: tuple[Goal, ...]
    limit: str = ""  # the contender that is the physical limit
    rounds: int = 3
    width: int = 0  # of the file that is converted, see `Bench.file`
    long: bool = False  # takes minutes; only when asked for by name


@dataclass(frozen=True)
class Figure:
    """A figure beside its goal."""

    title: str
    value: float
    low: float  # quartiles
    high: float
    wanted: str
    met: bool
    timed: bool  # whether other work on the machine changes it
    cpu: float | None = None  # the same in processor time


@dataclass(frozen=True)
class Outcome:
    """What a case has come to."""

    name: str
    title: str
    figures: tuple[Figure, ...]
    contenders: Mapping[str, Mapping[str, Any]]  # seconds with quartiles, first run, memory, by name
    limit: str  # name of the contender that is the physical limit, "" where there is none


def write_random(path: Path, family: str, width: int, **kwargs: Any) -> None:
    """Write a checkpoint of every network of a family with random weights, in its released layout."""
    random, rows = np.random.default_rng(0), _rows(family, width, **kwargs)
    values = ((name, random.random(row.spec.shape, np.float32).astype(row.spec.dtype)) for name, row in rows.items())
    parts = tuple(part.name for part in family_named(family).parts)
    write_checkpoint(path, values, {name: row.spec for name, row in rows.items()}, parts)


def _rows(family: str, width: int, **kwargs: Any) -> dict[str, Row]:
    """Every tensor of a family's networks, of this width and with other constructor arguments, by name in the file."""
    rows: dict[str, Row] = {}
    for part in family_named(family).parts:
        changed = {"ngf": width, "ndf": width, **kwargs}
        plan = build_plan(part, {**part.kwargs, **{k: v for k, v in changed.items() if k in part.kwargs}})
        rows |= {f"{part.name}.{row.torch}": row for row in plan.rows}
    return rows


def _convert(source: str, target: str) -> Launched:
    return Launched([*TOONPORT, "convert", source, target, "--quiet"])


def conversion(suffixes: str, width: int, way: str) -> Callable[[Bench], dict[str, Contender]]:
    """Contenders that convert a file: this program, the frameworks' own functions, and a copy with its hash.

    Args:
        suffixes: ".pt .ckpt", from and to.
        width: of the file, see `Bench.file`.
        way: the usual way, of `toonport.bench.usual`.
    """
    before, after = suffixes.split()

    def contenders(bench: Bench) -> dict[str, Contender]:
        """Make the file to start from, and who converts it."""
        source = bench.file(width)
        if before != ".pt":
            made = source.with_suffix(before)
            if not made.exists():
                _convert(str(source), str(made)).run()
            source = made
        target = "{run}/converted" + after
        return {
            "toonport": _convert(str(source), target),
            "usual": Launched([*USUAL, way, str(source), target]),
            "cp + sha256": Launched([*USUAL, "copy", str(source), target]),
            "interpreter": Launched([*USUAL, "nothing"]),
        }

    return contenders


def _small(bench: Bench) -> dict[str, Contender]:
    source = str(bench.file(SMALL))
    return {
        "inspect": Launched([*TOONPORT, "inspect", source, "--quiet"]),
        "convert": _convert(source, "{run}/converted.ckpt"),
        "cp + sha256": Launched([*USUAL, "copy", source, "{run}/copy"]),
    }


def _many(bench: Bench) -> dict[str, Contender]:
    folder, source = bench.folder / "many", bench.file(SMALL)
    folder.mkdir(exist_ok=True)
    for number in range(2 if bench.smallest else 8):
        shutil.copyfile(source, folder / f"{number}.pt")
    words = [*TOONPORT, "convert", f"{folder}/*.pt", "{run}/", "--quiet", "--jobs"]
    return {"one process": Launched([*words, "1"]), "two processes": Launched([*words, "2"])}


def drawing(bench: Bench) -> dict[str, Contender]:
    """Who draws with photo2cartoon's generator."""
    small: Mapping[str, Any] = {"side": 32, "kwargs": {"ngf": 4, "n_blocks": 1}} if bench.smallest else {}
    return {name: Resident("network", {"framework": what, "family": DRAWN, "part": PART, **small})
            for name, what in (("graph", "graph"), ("PyNative", "mindspore"), ("PyTorch", "torch"))}  # fmt: skip


def _training(size: int, batch: int) -> Callable[[Bench], dict[str, Contender]]:
    def contenders(bench: Bench) -> dict[str, Contender]:
        """Who trains."""
        sizes: Mapping[str, Any] = {"family": "ugatit", "size": size, "batch": batch, "width": 8}
        if bench.smallest:
            small = {"network": {"n_blocks": 1}, "compiled": False}
            sizes = {"family": "cyclegan", "size": 32, "batch": 1, "width": 4, **small}
        return {name: Resident("step", {"framework": what, **sizes})
                for name, what in (("MindSpore", "mindspore"), ("PyTorch", "torch"))}  # fmt: skip

    return contenders


def _descending(family: str) -> Callable[[Bench], dict[str, Contender]]:
    def contenders(bench: Bench) -> dict[str, Contender]:
        """Who descends."""
        compiled = not bench.smallest
        return {name: Resident("descent", {"framework": what, "family": family, "compiled": compiled})
                for name, what in (("MindSpore", "mindspore"), ("PyTorch", "torch"))}  # fmt: skip

    return contenders


def _exported(bench: Bench) -> str:
    target = bench.folder / "generator.onnx"
    if not target.exists():
        size = ["--size", "32"] if bench.smallest else []
        words = ["export", DRAWN, "--weights", str(bench.file(SMALL)), "--part", PART, "--out", str(target), "--quiet"]
        Launched([*TOONPORT, *words, *size]).run()
    return str(target)


def _runtime(bench: Bench) -> dict[str, Contender]:
    return {"ONNX Runtime": Resident("onnx", {"path": _exported(bench)}), "PyTorch": drawing(bench)["PyTorch"]}


def _opening(bench: Bench) -> dict[str, Contender]:
    return {"opening": Resident("opening", {"path": _exported(bench)})}


def _comparing(bench: Bench) -> dict[str, Contender]:
    weights = str(bench.weights or bench.file(SMALL))
    words = [*TOONPORT, "compare", DRAWN, "--weights", weights, "--quiet", *(["--quick"] if bench.smallest else [])]
    return {"comparison": Launched(words)}


# one family for each training step
DESCENDING = ("ugatit", "cyclegan", "sagan_cyclegan", "dtn", "whitebox")
FILES = (
    ("pt-ckpt", ".pt .ckpt", "to_mindspore", 3),
    ("ckpt-pt", ".ckpt .pt", "to_torch", 3),
    ("pt-safetensors", ".pt .safetensors", "to_safetensors", 2),
)
LEAN = tuple(Goal(what, "toonport", "interpreter", most=1.2) for what in ("excess", "excess anonymous"))
CASES = (
    *(
        Case(f"{name}-{size}", f"{suffixes.replace(' ', ' → ')}, {size} file", conversion(suffixes, width, way),
             (Goal("ratio", "usual", "toonport", least=least), Goal("ratio", "toonport", "cp + sha256", most=2),
              *(LEAN if size == "big" else ())), "cp + sha256", 2 if size == "big" else 3,
             width)
        for size, width in (("big", BIG), ("small", SMALL))
        for name, suffixes, way, least in FILES
    ),
    Case("small", "a small file", _small,
         (Goal("seconds", "inspect", most=1.2), Goal("resident", "inspect", most=200),
          Goal("seconds", "convert", most=1.2), Goal("resident", "convert", most=200)), "cp + sha256"),
    Case("many", "many files, .pt → .ckpt", _many, (Goal("ratio", "one process", "two processes", least=1.6),)),
    Case("inference", "photo2cartoon's generator, 256²", drawing,
         (Goal("ratio", "graph", "PyTorch", most=1.3), Goal("resident", "graph", most=900),
          Goal("first", "graph", most=8), Goal("ratio", "PyNative", "PyTorch", most=2)), rounds=7),
    *(
        Case(f"training-{size}-{batch}", f"U-GAT-IT's training step, width 8, {size}², batch {batch}",
             _training(size, batch),
             (Goal("ratio", "MindSpore", "PyTorch", most=2), Goal("first", "MindSpore", most=20)), rounds=5)
        for size, batch in ((96, 1), (128, 2))
    ),
    *(
        Case(f"descent-{family}", f"{family}: a compiled step of narrow networks", _descending(family),
             (Goal("ratio", "MindSpore", "PyTorch", most=2), Goal("first", "MindSpore", most=20)), rounds=5)
        for family in DESCENDING
    ),
    Case("onnx", "photo2cartoon's generator as ONNX, 256²", _runtime,
         (Goal("ratio", "PyTorch", "ONNX Runtime", least=1.8),), rounds=10),
    Case("opening", "opening its ONNX file", _opening, (Goal("seconds", "opening", most=0.1),), rounds=10),
    Case("compare", "compare photo2cartoon, released, all modes", _comparing,
         (Goal("seconds", "comparison", most=180), Goal("resident", "comparison", most=6 * 1024)), rounds=1, long=True),
)  # fmt: skip


def chosen(names: Sequence[str]) -> tuple[Case, ...]:
    """The cases of these names; without names all that are not long. Raises InputError: an unknown name."""
    known = {case.name: case for case in CASES}
    for name in names:
        if name not in known:
            raise InputError(f"unknown case '{name}'{did_you_mean(name, known)}; cases: {', '.join(known)}")
    return tuple(known[name] for name in names) or tuple(case for case in CASES if not case.long)


def run_all(cases: Sequence[Case], smallest: bool = False, weights: str | None = None) -> Iterator[Outcome]:
    """Run cases one after the other, and yield what each has come to."""
    with tempfile.TemporaryDirectory(prefix="toonport_bench_") as folder:
        bench = Bench(Path(folder), smallest, weights)
        for case in cases:
            yield judged(case, compete(case.contenders(bench), 1 if smallest else case.rounds), bench)


def judged(case: Case, runs: Mapping[str, Runs], bench: Bench) -> Outcome:
    """Put the runs of a case beside its goals."""
    largest = largest_tensor(4 if bench.smallest else case.width) if case.width else 1
    figures = tuple(_figure(goal, runs, largest) for goal in case.goals)
    return Outcome(case.name, case.title, figures, {name: facts(one) for name, one in runs.items()}, case.limit)


def facts(runs: Runs) -> dict[str, Any]:
    """Runs as plain data: seconds, MiB."""
    low, high = spread(runs.wall)
    memory = {name: value / MIB for name, value in asdict(runs.memory).items()}
    return {"seconds": median(runs.wall), "low": low, "high": high, "cpu": median(runs.cpu), "first": runs.first,
            "wall": list(runs.wall), **memory}  # fmt: skip


def _figure(goal: Goal, runs: Mapping[str, Runs], largest: int) -> Figure:
    values = _values(goal, runs, largest)
    value, (low, high) = median(values), spread(values)
    cpu = median(runs[goal.of].cpu) / (median(runs[goal.by].cpu) or 1) if goal.what == "ratio" else None
    timed = goal.what in ("ratio", "seconds", "first")
    return Figure(goal.title, value, low, high, goal.wanted, goal.least <= value <= goal.most, timed, cpu)


def _values(goal: Goal, runs: Mapping[str, Runs], largest: int) -> Sequence[float]:
    of, by = runs[goal.of], runs[goal.by] if goal.by else None
    if goal.what.startswith("excess") and by is not None:
        kind = "anonymous" if goal.what.endswith("anonymous") else "resident"
        above = getattr(of.memory, kind) - getattr(by.memory, kind)
        return [above / largest]
    if goal.what == "ratio" and by is not None:
        return [one / other for one, other in zip(of.wall, by.wall, strict=True)]
    return (
        of.wall
        if goal.what == "seconds"
        else [of.first if goal.what == "first" else getattr(of.memory, goal.what) / MIB]
    )


def largest_tensor(width: int) -> int:
    """Bytes of the largest tensor of a photo2cartoon checkpoint."""
    return max(4 * math.prod(row.spec.shape) for row in _rows(DRAWN, width).values())
