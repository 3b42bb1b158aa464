"""toonport mutants: plant the bugs that porters make, and see whether the checker catches and names them."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.disk import atomic_path
from toonport.commands.options import Subparsers, add_command
from toonport.commands.ui import out, print_table, spinner

if TYPE_CHECKING:
    from parity_tests.harness.mutants.run import Outcome

__all__ = ["add_parser", "markdown_lines"]


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    parser = add_command(subparsers, "mutants", run, "test the checker itself: plant bugs, see them caught")
    parser.add_argument("names", nargs="*", help="only these bugs (default: all)")
    parser.add_argument("--seeds", type=int, default=0, help="also compare the correct ports under this many seeds")
    parser.add_argument("--json", metavar="FILE", help="write the table as JSON")
    parser.add_argument("--markdown", metavar="FILE", help="write the table as it stands in the README")


def run(args: argparse.Namespace) -> int:
    """Print the table; 0 if every bug was caught and none was seen where there is none, else 1."""
    from parity_tests.harness.mutants.onnx_run import onnx_false_alarms, run_onnx_mutants
    from parity_tests.harness.mutants.run import false_alarms, run_mutants
    from parity_tests.harness.report.data import write_json

    with spinner("mutants") as say:
        outcomes = list(run_mutants(args.names, lambda name: say(f"planting {name}")))
        outcomes += run_onnx_mutants(args.names, lambda name: say(f"planting {name}"))
        alarms = list(false_alarms(args.seeds, say))
        alarms += onnx_false_alarms(args.seeds, say)
    rows = [
        [
            one.name,
            "caught" if one.caught_by else "MISSED",
            ", ".join(one.caught_by),
            one.blamed + ("" if one.right else "  (WRONG)"),
            f"{one.multiple:.1e}",
            one.cause,
            _published(one.published),
        ]
        for one in outcomes
    ]
    print_table(
        ["bug", "", "caught by", "blamed", "× budget", "likely cause", "published rules that miss it"], rows, right=(4,)
    )
    caught, right = sum(bool(one.caught_by) for one in outcomes), sum(one.right for one in outcomes)
    out.print(f"caught {caught}/{len(outcomes)}, blamed correctly {right}/{len(outcomes)}", markup=False)
    if args.seeds:
        wrong = [one for one in alarms if one[1]]
        out.print(f"false alarms on correct ports: {len(wrong)} in {len(alarms)} comparisons ({args.seeds} seeds)")
        for name, count in wrong:
            out.print(f"  {name}: {count} tensors out of budget", markup=False)
    if args.json:
        write_json(Path(args.json), _data(outcomes, alarms))
    if args.markdown:
        with atomic_path(Path(args.markdown)) as path:
            path.write_text("\n".join(markdown_lines(outcomes)) + "\n")
    return 0 if caught == right == len(outcomes) and not any(count for _, count in alarms) else 1


def _published(verdicts: Mapping[str, bool]) -> str:
    missed = [name for name, equal in verdicts.items() if equal]
    return f"{len(missed)} of {len(verdicts)}: {', '.join(missed)}" if verdicts else "-"


def markdown_lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield the table in Markdown, after a count for each family and for each published rule."""
    families = Counter(one.subject.split()[0] for one in outcomes)
    network_bugs = [one for one in outcomes if one.published]
    missed = Counter(rule for one in network_bugs for rule, equal in one.published.items() if equal)
    yield f"Planted in {', '.join(f'{name} {count}' for name, count in families.items())}."
    rules = ", ".join(f"{rule} {count}" for rule, count in missed.most_common())
    yield f"Of the {len(network_bugs)} bugs planted in networks, published rules on the output call equal: {rules}."
    yield ""
    yield "| planted in | bug | caught by | blamed | × budget | published rules that call it equal |"
    yield "|---|---|---|---|--:|--:|"
    for one in outcomes:
        place = one.blamed.replace("|", "/")
        rule = f"{sum(one.published.values())} of {len(one.published)}" if one.published else "–"
        modes = ", ".join(one.caught_by)
        yield f"| {one.subject} | {one.what} | {modes} | {place} | {one.multiple:.0e} | {rule} |"


def _data(outcomes: list[Any], alarms: list[tuple[str, int]]) -> dict[str, Any]:
    return {
        "schema": "toonport-mutants/1",
        "mutants": [asdict(one) for one in outcomes],
        "correct": [{"comparison": name, "out_of_budget": count} for name, count in alarms],
    }
