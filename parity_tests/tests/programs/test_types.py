"""mypy sees from file to file, in every package: a wrong argument is refused wherever it is written."""

import ast
import os
import re
import subprocess
import sys

import pytest

from parity_tests.tests.cases import ROOT

PACKAGES = {name: ROOT / name for name in ("convert", "torch_ref", "ms_models", "parity_tests")}
PACKAGES["toonport"] = ROOT / "tools" / "toonport"


def _typed_call(node):
    """The signature of a public function, or of a class's constructor, that takes no free keywords."""
    if isinstance(node, ast.ClassDef):
        methods = [inner for inner in node.body if isinstance(inner, ast.FunctionDef) and inner.name == "__init__"]
        return bool(methods) and methods[0].args.kwarg is None
    return isinstance(node, ast.FunctionDef) and not node.decorator_list and node.args.kwarg is None


def _first_call(path):
    """The first thing in a file that can be called wrongly; None if there is none."""
    nodes = [node for node in ast.parse(path.read_text()).body if _typed_call(node)]
    return next((node.name for node in nodes if not node.name.startswith("_")), None)


def _wrong_calls(package, folder):
    """Lines that call something of every file of a package with an argument that it has not."""
    lines = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        name = _first_call(path)
        if name and parts[0] != "tests" and path.stem != "__init__":
            lines += [f"from {'.'.join((package, *parts))} import {name} as f{len(lines)}", ""]
            lines[-1] = f"f{len(lines) - 2}(no_such_argument=1)"
    return lines


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Wrong calls by package, and what mypy says of a file of each package that holds them."""
    folder = tmp_path_factory.mktemp("planted")
    command, wrong = [sys.executable, "-m", "mypy", "--cache-dir", str(folder / "cache")], {}
    for package, place in PACKAGES.items():
        wrong[package] = _wrong_calls(package, place)
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
        (folder / package / "planted.py").write_text("\n".join([*wrong[package], ""]))
        command += ["-m", f"{package}.planted"]
    environment = {**os.environ, "MYPYPATH": str(folder)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    return wrong, done.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_mypy_refuses_a_wrong_argument_of_every_other_file(package, planted):
    wrong, output = planted
    refusals = re.findall(rf"/{package}/planted.py:(\d+): error: .*\[call-arg\]", output)
    calls = {number for number, line in enumerate(wrong[package], 1) if "(" in line}
    assert len(calls) > 5
    missed = sorted(calls - {int(number) for number in refusals})
    assert [wrong[package][number - 2] for number in missed] == [], output
