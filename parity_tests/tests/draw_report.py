"""Draw the picture of a report that stands in README.md: a small network with one bug planted.

Run `make picture`, or `python -m parity_tests.tests.draw_report [FILE.svg]`, after a change of the report's form.
"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from parity_tests.harness.mutants.judging import MODES, compare_subject
from parity_tests.harness.mutants.run import bugs_named
from parity_tests.harness.report.console import summary_lines, tree_lines
from parity_tests.harness.run import Comparison

BUG = "judge-slope"
TARGET = Path(__file__).parents[2] / "docs" / "report.svg"
NAME_END, NAME_WIDTH = 52, 24  # where the tree's column of names ends, and how much of it this network needs


def draw(target: Path) -> None:
    """Compare the network with the bug in it and write its report as SVG."""
    (bug,) = bugs_named([BUG])
    verdicts, _ = compare_subject(bug.subject, bug=bug)
    comparison = Comparison(" ".join(bug.subject), tuple(verdicts), MODES)
    console = Console(record=True, width=140, file=io.StringIO(), highlight=False, markup=False, force_terminal=True)
    for row in tree_lines(comparison):
        text = row.text[:NAME_WIDTH] + row.text[NAME_END:]
        console.print(text, style="bold red" if row.bad else None)
    console.print("\n" + "\n".join(summary_lines(comparison)))
    title = f"toonport compare: a port of {comparison.name} with {bug.what}"
    picture = console.export_svg(title=title)
    target.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL))  # fonts that it would download


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
