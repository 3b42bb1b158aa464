"""toonport demo: the main job on one screen."""

import argparse
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from convert.disk import write_json
from parity_tests.harness.report.data import versions
from parity_tests.harness.report.html import write_page
from toonport.commands.options import Subparsers, add_command
from toonport.commands.ui import out, print_json, print_table, spinner
from toonport.demo import next_commands, run_demo, seeded
from toonport.demo_files import demo_folder
from toonport.exit_codes import ExitCode


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    parser = add_command(subparsers, "demo", run, "convert, prove, convert back, export: the main job in one go")
    parser.add_argument("--out", metavar="FOLDER", default="out", help="where the results go (default: out)")


def run(args: argparse.Namespace) -> int:
    """Run the demo, print a table, write summary.html and summary.json; 0 if every step is good, else 1."""
    with demo_folder(Path(args.out)):
        return _demo(args, Path(args.out))


def _demo(args: argparse.Namespace, folder: Path) -> int:
    with spinner("demo") as say:
        steps = run_demo(folder, say)
    good = all(step.good for step in steps)
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    following = next_commands(folder)
    facts = {
        "good": good,
        "seeded": seeded(folder),
        "next": following,
        "created": created,
        "versions": versions(),
        "steps": [asdict(step) | {"state": step.state} for step in steps],
    }
    write_json(folder / "summary.json", facts)
    write_page(folder / "summary.html", Path(__file__).with_name("summary.html.j2"), **facts)
    rows = [[step.title, step.state, f"{step.seconds:.1f} s", step.outcome] for step in steps]
    print_table(["step", "", "time", "outcome"], rows, right=(2,))
    out.print(f"results in {folder.resolve()}: summary.html, parity.html")
    if seeded(folder):
        out.print(
            "These are seeded weights: everything is proved with them, but what they draw is noise. No trained network "
            "comes along: the project commits no weights, neither others' nor its own. toonport fetch photo2cartoon "
            "says where the released file is; with it in the weights folder the demo draws a cartoon."
        )
    out.print("\n".join(["next:", *(f"  {command}" for command in following)]))
    print_json(args.json, facts)
    return ExitCode.DONE if good else ExitCode.DIFFERENT
