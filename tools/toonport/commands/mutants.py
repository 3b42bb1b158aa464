"""toonport mutants: plant the bugs that porters make, and see whether the checker catches and names them."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.disk import atomic_path
from convert.errors import InputError
from toonport.cluster import spread
from toonport.commands.mutants_systematic import add_options, require_fitting, run_systematic
from toonport.commands.options import Subparsers, add_command, add_option, add_spread_options
from toonport.commands.ui import out, print_json, print_table, spinner

if TYPE_CHECKING:
    from parity_tests.harness.mutants.run import Outcome


Unit = tuple[Callable[[Any], Any], Any]  # a function, and what it is called with
Alarms = Sequence[tuple[str, int]]  # what was compared, tensors out of budget
HEADINGS = ["bug", "", "caught by", "blamed", "× budget", "likely cause", "published rules that miss it"]


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    parser = add_command(subparsers, "mutants", run, "test the checker itself: plant bugs, see them caught")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these bugs (default: all)")
    parser.add_argument("--list", action="store_true", help="print the bugs' names and plant none")
    parser.add_argument("--seeds", type=int, default=0, help="also compare the correct ports under this many seeds")
    parser.add_argument("--markdown", metavar="FILE", help="write the table as Markdown, as in docs/mutants.md")
    add_spread_options(parser, "mutants")
    text = "only bugs of ONNX files and correct exports, in openvino or FILE.py:run; see toonport compare --help"
    add_option(parser, "--runtime", help=text)
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table; 0 if every bug was caught and none was seen where there is none, else 1."""
    require_fitting(args)
    if args.systematic:
        return run_systematic(args)
    from parity_tests.harness.mutants import run as suite
    from parity_tests.harness.mutants.bugs import OnnxBug
    from parity_tests.harness.report.data import versions
    from toonport.own_pair import named_runtime

    runtime, bugs = named_runtime(args.runtime or "onnxruntime"), suite.bugs_named(args.names)
    if runtime.suffix != ".onnx":
        raise InputError(f"--runtime {args.runtime}: bugs are planted in ONNX files, which it does not run")
    if runtime != suite.ONNX_RUNTIME:
        bugs = tuple(bug for bug in bugs if isinstance(bug, OnnxBug))
    if args.list:
        return _list(args, [{"name": bug.name, "place": bug.place, "what": bug.what} for bug in bugs])
    found = _all_done(suite.units(bugs, args.seeds, runtime), args.jobs, args.ray)
    outcomes, alarms = found[: len(bugs)], found[len(bugs) :]
    _print(outcomes, alarms, args.seeds)
    print_json(args.json, _data(outcomes, alarms))
    if args.markdown:
        _write_page(Path(args.markdown), list(markdown_lines(outcomes, versions(), alarms, args.seeds)))
    passed = _counts(outcomes) == (len(outcomes), len(outcomes)) and not any(count for _, count in alarms)
    return 0 if passed else 1


def _list(args: argparse.Namespace, bugs: list[dict[str, str]]) -> int:
    print_table(["bug", "planted in", "what"], [list(bug.values()) for bug in bugs])
    print_json(args.json, {"bugs": bugs})
    return 0


def _all_done(units: Sequence[Unit], jobs: int, ray: str | None) -> list[Any]:
    """What became of each unit."""
    found = []
    with spinner("mutants") as say:
        for result in spread(_done, units, jobs, ray):
            found.append(result)
            say(f"{len(found)} of {len(units)}")
    return found


def _done(unit: Unit) -> Any:
    """Do one of the units."""
    work, what = unit
    return work(what)


def _write_page(target: Path, lines: Sequence[str]) -> None:
    """Write the page; what it holds about systematic mutants stays."""
    from parity_tests.harness.mutants.systematic.table import kept

    others = kept(target.read_text()) if target.is_file() else ""
    with atomic_path(target) as path:
        path.write_text("\n".join(lines) + "\n" + others)


def _row(outcome: Outcome) -> list[str]:
    return [
        outcome.name,
        "caught" if outcome.caught_by else "MISSED",
        ", ".join(outcome.caught_by),
        outcome.blamed + ("" if outcome.right else "  (WRONG)"),
        f"{outcome.multiple:.1e}",
        outcome.cause,
        _published(outcome.published),
    ]


def _published(verdicts: Mapping[str, bool]) -> str:
    missed = [name for name, equal in verdicts.items() if equal]
    return f"{len(missed)} of {len(verdicts)}: {', '.join(missed)}" if verdicts else "-"


def _counts(outcomes: Sequence[Outcome]) -> tuple[int, int]:
    """How many were caught, and how many blamed on the right place."""
    return sum(bool(outcome.caught_by) for outcome in outcomes), sum(outcome.right for outcome in outcomes)


def _print(outcomes: Sequence[Outcome], alarms: Alarms, seeds: int) -> None:
    print_table(HEADINGS, [_row(outcome) for outcome in outcomes], right=(4,))
    caught, right = _counts(outcomes)
    out.print(f"caught {caught}/{len(outcomes)}, blamed correctly {right}/{len(outcomes)}")
    if seeds:
        wrong = [(name, count) for name, count in alarms if count]
        out.print(f"false alarms on correct ports: {len(wrong)} in {len(alarms)} comparisons ({seeds} seeds)")
        for name, count in wrong:
            out.print(f"  {name}: {count} tensors out of budget")


def markdown_lines(
    outcomes: Sequence[Outcome], versions: Mapping[str, str], alarms: Alarms = (), seeds: int = 0
) -> Iterator[str]:
    """Yield the page in Markdown: counts, then the table.

    Args:
        outcomes: of the planted bugs.
        versions: of the frameworks that were compared, by name.
        alarms: what correct ports and exports were compared, and tensors out of budget; empty: left out.
        seeds: how many seeds those were compared under.
    """
    caught, right = _counts(outcomes)
    families = Counter(outcome.subject.split()[0] for outcome in outcomes)
    network_bugs = [outcome for outcome in outcomes if outcome.published]
    missed = Counter(rule for outcome in network_bugs for rule, equal in outcome.published.items() if equal)
    yield "# Planted bugs"
    yield ""
    yield "`toonport mutants --markdown FILE` plants every bug, one at a time, and writes this page."
    yield f"Measured with MindSpore {versions['mindspore']} and PyTorch {versions['torch']} on the CPU:"
    yield ""
    yield f"* caught {caught} of {len(outcomes)}, blamed correctly {right} of {len(outcomes)}"
    if seeds:
        wrong = sum(bool(count) for _, count in alarms)
        yield f"* alarms on correct ports and exports: {wrong} in {len(alarms)} comparisons ({seeds} seeds)"
    yield f"* planted in {', '.join(f'{name} {count}' for name, count in families.items())}"
    rules = ", ".join(f"{rule} {count}" for rule, count in missed.most_common())
    yield f"* of the {len(network_bugs)} bugs planted in networks, published rules on the output call equal: {rules}"
    yield ""
    yield "| planted in | bug | caught by | blamed | × budget | published rules that call it equal |"
    yield "|---|---|---|---|--:|--:|"
    for outcome in outcomes:
        place = outcome.blamed.replace("|", "/")
        rule = f"{sum(outcome.published.values())} of {len(outcome.published)}" if outcome.published else "–"
        modes = ", ".join(outcome.caught_by)
        yield f"| {outcome.subject} | {outcome.what} | {modes} | {place} | {outcome.multiple:.0e} | {rule} |"


def _data(outcomes: Sequence[Outcome], alarms: Alarms) -> dict[str, Any]:
    return {
        "schema": "toonport-mutants/1",
        "mutants": [asdict(outcome) for outcome in outcomes],
        "correct": [{"comparison": name, "out_of_budget": count} for name, count in alarms],
    }
