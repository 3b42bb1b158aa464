"""toonport mutants --systematic: mutants that no one chose, a sample by seed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.disk import atomic_path
from convert.errors import InputError, guarded
from convert.registry import families, family_named
from toonport.commands.options import add_option, number
from toonport.commands.ui import STANDARD_OUTPUT, out, print_json, spinner

if TYPE_CHECKING:
    from parity_tests.harness.mutants.systematic.judging import Result

WORDS = ("name", "family", "kind", "what", "verdict", "mode", "blamed", "reason", "line")  # of a result, all text


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of systematic mutants to the parser of `toonport mutants`."""
    group = parser.add_argument_group("mutants that no one chose")
    group.add_argument("--systematic", action="store_true", help="mutate source, ONNX files, weights by rule instead")
    group.add_argument(
        "--sample",
        type=number,
        metavar="N",
        help="N mutants of the source, 2 N / 5 of ONNX files and N / 5 of weights (default: 50; with --with: none)",
    )
    add_option(group, "--seed", help="of the sample (default: 0)")
    add_option(group, "--family", help="only this one's networks and training steps (default: all)")
    text = "what earlier runs wrote with --json: counted with this one's, each mutant once"
    group.add_argument("--with", nargs="+", default=[], metavar="FILE", dest="earlier", help=text)


def require_fitting(args: argparse.Namespace) -> None:
    """Raise InputError: an option of the other kind of mutants is given, which would say nothing."""
    own = {"--sample": args.sample, "--seed": args.seed, "--family": args.family, "--with": args.earlier}
    planted = {"NAME": args.names, "--list": args.list, "--seeds": args.seeds, "--runtime": args.runtime}
    for option, value in (planted if args.systematic else own).items():
        if value:
            raise InputError(f"{option}: {'not' if args.systematic else 'only'} with --systematic")


def run_systematic(args: argparse.Namespace) -> int:
    """Run a sample of systematic mutants, print and write the results; 0 if none was missed, else 1."""
    if args.ray:
        raise InputError("--ray: not with --systematic, whose mutants need processes forked from this one")
    _require_libcst()
    from parity_tests.harness.mutants.systematic.run import Plan, run_systematic
    from parity_tests.harness.mutants.systematic.table import summary

    _import_frameworks()
    chosen = (family_named(args.family),) if args.family else families()
    sample = args.sample or (0 if args.earlier else 50)
    plan = Plan(chosen, sample, 2 * sample // 5, sample // 5, args.seed, args.jobs)
    commands, results = _earlier(args.earlier)
    commands += [_command(args, sample)] if sample else []
    with spinner("mutants") as say:
        for result in run_systematic(plan, say):
            results.append(result)
            out.print(_line(result))
            _write(args, commands, results)
    _write(args, commands, results)
    if args.json == STANDARD_OUTPUT:
        print_json(args.json, _data(commands, results))
    out.print("\n".join(summary(results)))
    return 1 if any(result.verdict == "missed" for result in results) else 0


def _require_libcst() -> None:
    try:
        import libcst  # noqa: F401
    except ImportError as error:
        raise InputError("--systematic needs LibCST: pip install 'toonport[mutants]'") from error


def _import_frameworks() -> None:
    """Import what every mutant's process needs, and run nothing: what was run would not survive in those processes."""
    import mindspore  # noqa: F401
    import torch

    torch.set_num_threads(1)


def _line(result: Result) -> str:
    found = f"{result.mode}: {result.blamed}{'' if result.right else '  (WRONG)'}" if result.mode else result.reason
    return f"{result.verdict:<10} {result.family:<14} {result.name}  {result.what}  {found}"


def _earlier(paths: Sequence[str]) -> tuple[list[str], list[Result]]:
    """What earlier runs wrote: their commands and their results; a mutant of several runs counts as in the last."""
    from parity_tests.harness.mutants.systematic.judging import Result

    commands: list[str] = []
    results: dict[tuple[str, str, str], Result] = {}
    for path in map(Path, paths):
        with guarded(path, "not what toonport mutants --systematic --json writes"):
            data = json.loads(path.read_text("utf-8"))
            commands += map(str, data["commands"])
            found = [Result(**each) for each in data["mutants"]]
            if any(not isinstance(vars(each)[name], str) for each in found for name in WORDS):
                raise ValueError("a name, change or verdict that is no text")
            results |= {(each.family, each.name, each.what): each for each in found}
    return list(dict.fromkeys(commands)), list(results.values())


def _write(args: argparse.Namespace, commands: Sequence[str], results: Sequence[Result]) -> None:
    """Write what is known so far: a run takes long, and may be stopped."""
    from parity_tests.harness.mutants.systematic.table import markdown, replaced
    from parity_tests.harness.report.data import versions

    if args.json != STANDARD_OUTPUT:
        print_json(args.json, _data(commands, results))
    if args.markdown:
        target = Path(args.markdown)
        page = target.read_text() if target.is_file() else ""
        with atomic_path(target) as path:
            path.write_text(replaced(page, list(markdown(results, commands, versions()))))


def _data(commands: Sequence[str], results: Sequence[Result]) -> dict[str, Any]:
    return {"schema": "toonport-systematic-mutants/2", "commands": list(commands), "mutants": [*map(asdict, results)]}


def _command(args: argparse.Namespace, sample: int) -> str:
    family = f" --family {args.family}" if args.family else ""
    return f"toonport mutants --systematic{family} --sample {sample} --seed {args.seed}"
