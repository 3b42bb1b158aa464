"""The folder of a case: its numbers and its scripts, kept only where the port's script finds what was measured."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convert.disk import atomic_path
from parity_tests.harness.judge import Verdict
from parity_tests.harness.report.words import quantity_words
from parity_tests.harness.sides.base import Array

LARGEST = 1_000_000  # bytes of a case's numbers
WITHIN = 0.01  # by which a script's multiple may differ from the one that was measured
SECONDS = 300.0  # that a script may take


class Unwritable(Exception):  # noqa: N818  # not an error: another case is tried
    """Why a case cannot be written."""


def packed(numbers: Mapping[str, Array], what: str) -> bytes:
    """Return arrays as a compressed file. Raises Unwritable: they are too large; `what` names them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.npz"
        np.savez_compressed(path, **numbers)
        if path.stat().st_size > LARGEST:
            raise Unwritable(f"the numbers of {what} take {path.stat().st_size / 1e6:.1f} MB")
        return path.read_bytes()


def rendered(template: str, facts: Mapping[str, Any]) -> bytes:
    """Return a script made of one of the templates beside this file."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True)
    return (environment.get_template(template).render(facts) + "\n").encode()


def checked(files: Mapping[str, bytes], multiple: float) -> None:
    """Run the port's script. Raises Unwritable: it does not find the multiple of the budget that was measured."""
    with tempfile.TemporaryDirectory() as folder:
        put(files, Path(folder))
        command = [sys.executable, str(Path(folder) / "run_mindspore.py")]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise Unwritable(f"its script took more than {SECONDS:g} s") from error
    words = ran.stdout.split()
    if ran.returncode or len(words) < 2:
        raise Unwritable(f"its script ended with: {(ran.stderr.strip() or 'nothing').splitlines()[-1]}")
    found = float(words[0])
    if found != multiple and not abs(found - multiple) <= WITHIN * multiple:
        raise Unwritable(f"alone, it is {found:.3g} × its budget, not {multiple:.3g}: it depends on what ran before")


def put(files: Mapping[str, bytes], folder: Path) -> None:
    """Write the files of a case. Raises InputError: they cannot be written there."""
    for name, content in files.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(content)


def said(where: str, verdict: Verdict, files: Mapping[str, bytes], folder: Path) -> str:
    """Say which case was written where."""
    size = max(1, sum(map(len, files.values())) // 1000)
    what = f"{where}, {quantity_words(verdict.measurement.quantity)}"
    return f"{what}, {verdict.multiple:.3g} × its budget: {folder} ({size} kB)"
