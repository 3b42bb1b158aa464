"""The page of the benchmarks and its pictures, made of what the commands wrote as JSON."""

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from convert.cores import cores
from convert.disk import atomic_path
from convert.errors import InputError, guarded
from parity_tests.harness.report.data import versions
from toonport.bench.curves import CURVES
from toonport.bench.profile import Line, Profile, cut, from_data, rows
from toonport.bench.suite import CASES

INTRODUCTION = """# Benchmarks

Seconds depend on the machine; ratios of contenders that take turns on one machine depend on it less.

```sh
toonport bench
toonport bench --case runtime --weights photo2cartoon_weights.pt --json bench.json
```

measures the photo pipeline: eager PyTorch against ONNX Runtime, a photo against its generator, one process against one
per core. Everything below is the output of

```sh
toonport bench all --json all.json
toonport bench curves --json curves.json
toonport bench profile photo2cartoon --json profile.json
toonport bench page all.json curves.json profile.json --out .
```

and of `toonport bench profile ugatit --train --json train.json`.

Each contender runs in a process of its own. Figures are medians, with quartiles in brackets. Times of a machine that
had more to do than its cores can are shown, but not judged: contenders lose unlike parts of them. `toonport train
FAMILY --bench` times training steps at other sizes. How many bugs the checker finds is measured: [mutants](mutants.md).
"""
PROFILE_SHOWN = 14
CURVE_COLUMNS = 3


def circumstances() -> dict[str, Any]:
    """Return the machine in kind, the versions and the day."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    kinds = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "machine": {
            "cores": cores(),
            "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
            "processor": next(iter(kinds), platform.machine()),
            "load": round(os.getloadavg()[0], 1),
        },
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
    }


def is_busy(around: Mapping[str, Any]) -> bool:
    """Whether the machine had more to do than its cores can when a measurement began, see `circumstances`."""
    return bool(around["machine"]["load"] > around["machine"]["cores"])


def write_page(sources: Sequence[Path], folder: Path) -> list[Path]:
    """Write benchmarks.md and its pictures of what `toonport bench` wrote as JSON; returns what was written.

    Of a case or curve that several files hold the last one counts.

    Raises InputError: no file, one that is not of `bench all`, `curves` or `profile`, or matplotlib is missing.
    """
    if not sources:
        raise InputError("bench page: name the JSON files of bench all, curves and profile")
    found = [_read(path) for path in sources]
    outcomes = {
        one["name"]: {**one, "busy": is_busy(data)}
        for data in found
        if data["kind"] == "all"
        for one in data["outcomes"]
    }
    curves = {one["name"]: one for data in found if data["kind"] == "curves" for one in data["curves"]}
    profiles = [from_data(data["profile"]) for data in found if data["kind"] == "profile"]
    folder.mkdir(parents=True, exist_ok=True)
    pictures = dict(_pictures(list(curves.values()), profiles, folder))
    parts = [
        INTRODUCTION,
        _where(found),
        "## Against the goals",
        outcomes and _table(outcomes),
        _not_run(outcomes, curves, profiles),
    ]
    for one in profiles:
        parts += _profiled(one, pictures[_picture_of(one)].name)
    if curves:
        parts += ["## How cost grows", f"![Curves]({pictures['curves'].name})", _exponents(curves.values())]
    page = folder / "benchmarks.md"
    with atomic_path(page) as temporary:
        temporary.write_text("\n\n".join(part.strip() for part in parts if part) + "\n")
    return [page, *pictures.values()]


def _read(path: Path) -> dict[str, Any]:
    with guarded(path, "not JSON"):
        data: dict[str, Any] = json.loads(path.read_text())
    if data.get("kind") not in ("all", "curves", "profile"):
        raise InputError(f"{path}: not what bench all, curves or profile write with --json")
    return data


def _where(found: Sequence[Mapping[str, Any]]) -> str:
    newest = max(found, key=lambda data: str(data["date"]))
    machine = newest["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in newest["versions"].items())
    loads = sorted({data["machine"]["load"] for data in found})
    return (
        f"Measured on {newest['date']}: {machine['cores']} cores ({machine['processor']}), {machine['memory']}; "
        f"load of the machine when the parts began {loads[0]} to {loads[-1]}. {versions}."
    )


def _table(outcomes: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["| work | figure | measured | goal | | seconds |", "|---|---|---|---|---|---|"]
    for one in (outcomes[case.name] for case in CASES if case.name in outcomes):
        lines += [_row(one, number, figure) for number, figure in enumerate(one["figures"])]
    return "\n".join(lines)


def _row(one: Mapping[str, Any], number: int, figure: Mapping[str, Any]) -> str:
    """A figure of an outcome; its title and seconds stand beside the first."""
    title, seconds = (one["title"], _seconds(one)) if number == 0 else ("", "")
    spread = f" ({figure['low']:.2f}–{figure['high']:.2f})" if figure["low"] != figure["high"] else ""
    if figure["cpu"] is not None:
        spread += f", in processor time {figure['cpu']:.2f}"
    verdict = "machine busy" if figure["timed"] and one["busy"] else "met" if figure["met"] else "missed"
    measured = f"{figure['value']:.2f}{spread}"
    return f"| {title} | {figure['title']} | {measured} | {figure['wanted']} | {verdict} | {seconds} |"


def _seconds(outcome: Mapping[str, Any]) -> str:
    texts = []
    for name, one in outcome["contenders"].items():
        limit = " (limit)" if name == outcome["limit"] else ""
        texts.append(f"{name}{limit} {one['seconds']:.3g}, peak {one['resident']:.0f} MiB")
    return "; ".join(texts)


def _not_run(outcomes: Mapping[str, Any], curves: Mapping[str, Any], profiles: Sequence[Profile]) -> str:
    missing = [case.title for case in CASES if case.name not in outcomes]
    missing += [f"the curve of {curve.name}" for curve in CURVES if curve.name not in curves]
    if not profiles:
        missing.append("the profiles")
    return f"Not run: {'; '.join(missing)}." if missing else ""


def _profiled(made: Profile, picture: str) -> list[str]:
    what = "a training step" if made.training else "inference"
    headings, cells = rows(made.kinds, list(made.totals), PROFILE_SHOWN)
    totals = "; ".join(f"{name} {text}" for name, text in made.said().items())
    layers, layer_cells = rows(cut(made.layers, 2), list(made.totals), PROFILE_SHOWN)
    return [
        f"## Where the time goes: {made.family}, {what}",
        f"{made.what}. {totals}. The limit of convolutions is the rate of a large matrix product, here "
        f"{made.gemm / 1e9:.0f} GFLOP/s. MiB: what the kernels read, first contender / last.",
        f"![{made.family}, {what}, by kind of kernel]({picture})",
        _markdown(headings, cells),
        _markdown(layers, layer_cells),
    ]


def _markdown(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    head, *rows = (f"| {' | '.join(row)} |" for row in (headings, *cells))
    return "\n".join((head, f"|{'---|' * len(headings)}", *rows))


def _exponents(curves: Any) -> str:
    lines = ["| work | grows with | contender | seconds, at each size | exponent |", "|---|---|---|---|---|"]
    for one in curves:
        for who, seconds in one["seconds"].items():
            pairs = ", ".join(f"{size:g}: {each:.3g}" for size, each in zip(one["sizes"], seconds, strict=True))
            lines.append(f"| {one['title']} | {one['unit']} | {who} | {pairs} | {power(one['exponents'][who])} |")
    return "\n".join(lines)


def power(exponent: float | None) -> str:
    """Return the exponent of a curve in words; "-" for a single size."""
    return "-" if exponent is None else f"{exponent:.2f}"


def _picture_of(made: Profile) -> str:
    return f"profile_{made.family}{'_train' if made.training else ''}"


def _pictures(
    curves: Sequence[Mapping[str, Any]], profiles: Sequence[Profile], folder: Path
) -> Iterator[tuple[str, Path]]:
    """Draw everything as SVG, and yield name and file."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("bench page: matplotlib draws the pictures; pip install 'toonport[train]'") from error
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "toonport", "font.size": 9}):
        for made in profiles:
            figure = Figure(figsize=(8, 5), layout="tight")
            _bars(figure.subplots(), made)
            yield _picture_of(made), _saved(figure, folder / f"bench_{_picture_of(made)}.svg")
        if curves:
            height = -(-len(curves) // CURVE_COLUMNS)
            figure = Figure(figsize=(11, 3.4 * height), layout="tight")
            grid = list(figure.subplots(height, CURVE_COLUMNS, squeeze=False).flat)
            for axes, one in zip(grid, curves, strict=False):
                _curve(axes, one)
            for axes in grid[len(curves) :]:
                axes.axis("off")
            yield "curves", _saved(figure, folder / "bench_curves.svg")


def _saved(figure: Any, path: Path) -> Path:
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    return path


def _bars(axes: Any, made: Profile) -> None:
    """Milliseconds of each kind of kernel, a bar for each contender, the longest kind on top."""
    lines: list[Line] = list(made.kinds[:PROFILE_SHOWN])[::-1]
    height = 0.8 / len(made.totals)
    for number, name in enumerate(made.totals):
        places = [place - number * height for place in range(len(lines))]
        axes.barh(places, [line.milliseconds.get(name, 0.0) for line in lines], height, label=name)
    limits = [(place, line.limit) for place, line in enumerate(lines) if line.limit is not None]
    middle = height * (len(made.totals) - 1) / 2
    axes.scatter([limit for _, limit in limits], [place - middle for place, _ in limits],
                 marker="|", s=400, color="black", label="limit")  # fmt: skip
    axes.set_yticks([place - middle for place in range(len(lines))],
                    [f"{line.name}, backward" if line.backward else line.name for line in lines])  # fmt: skip
    axes.set_xlabel("milliseconds")
    axes.set_title(f"{made.family}, {'training step' if made.training else 'inference'}, by kind of kernel")
    axes.legend()


def _curve(axes: Any, one: Mapping[str, Any]) -> None:
    """Seconds over size, both logarithmic."""
    for who, seconds in one["seconds"].items():
        axes.loglog(one["sizes"], seconds, marker="o", label=f"{who}, exponent {power(one['exponents'][who])}")
    axes.set_title(one["title"], fontsize=9)
    axes.set_xlabel(one["unit"])
    axes.set_ylabel("seconds")
    axes.set_xticks(one["sizes"], [f"{size:.0f}" for size in one["sizes"]], minor=False)
    axes.minorticks_off()
    axes.legend(fontsize=8)
