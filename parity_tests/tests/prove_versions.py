"""Run the quick suite in a fresh environment for each MindSpore and Python that pyproject.toml admits.

Run `make test-versions`, or `python -m parity_tests.tests.prove_versions [MINDSPORE/PYTHON ...] [--keep]`. What ran is
written to `tools/toonport/proven.json`, which `toonport doctor` reads; combinations that were not run keep their rows.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from convert.disk import read_toml

ROOT = Path(__file__).parents[2]
PROVEN = ROOT / "tools" / "toonport" / "proven.json"
FOLDER = ROOT / "out" / "versions"
REPORTED = ("mindspore", "torch", "onnxruntime", "numpy")
SEEN = (
    "import json, platform; from importlib.metadata import version; "
    f"print(json.dumps({{name: version(name) for name in {REPORTED}}} | {{'python': platform.python_version()}}))"
)


def admitted() -> list[tuple[str, str]]:
    """Every (MindSpore, Python) that the ranges admit, as major.minor, oldest first."""
    project = read_toml(ROOT / "pyproject.toml")["project"]
    (mindspore,) = (one for one in map(Requirement, project["dependencies"]) if one.name == "mindspore")
    pythons = SpecifierSet(project["requires-python"])
    return [
        (f"2.{minor}", f"3.{python}")
        for minor in range(100)
        for python in range(100)
        if f"2.{minor}" in mindspore.specifier and f"3.{python}" in pythons
    ]


def interpreter(version: str) -> str | None:
    """Path of a CPython of this major.minor: the one on the PATH, else pyenv's newest; None where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for found in (shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)):
        if found and not subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
            return str(found)
    return None


def install(mindspore: str, python: str, folder: Path) -> Path:
    """Make the environment, unless it is complete; return its Python. The other versions are constraints.txt's."""
    inside, done = folder / "bin" / "python", folder / ".installed"
    if done.exists():
        return inside
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
    (folder / "constraints.txt").write_text("\n".join(one for one in lines if not one.startswith("mindspore==")))
    pip = [inside, "-m", "pip", "install", "--quiet", "--no-compile", "--constraint", folder / "constraints.txt"]
    subprocess.run([*pip, f"mindspore=={mindspore}.*", "--editable", f"{ROOT}[dev]"], check=True)
    done.touch()
    return inside


def prove(inside: Path, folder: Path, options: list[str]) -> dict[str, object]:
    """Run the quick suite; return what ran with which versions, and the names of the tests that failed."""
    report = folder / "quick.xml"
    report.unlink(missing_ok=True)
    command = [inside, "-m", "pytest", "--quiet", "-m", "quick", f"--junitxml={report}", *options, "parity_tests"]
    paths = os.pathsep.join((str(folder / "bin"), os.environ["PATH"]))
    subprocess.run(command, cwd=ROOT, env=os.environ | {"PATH": paths}, check=False)
    seen = json.loads(subprocess.check_output([inside, "-c", SEEN], text=True))
    cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    bad = [f"{one.get('classname')}::{one.get('name')}" for one in cases if {"failure", "error"} & {e.tag for e in one}]
    skipped = sum(one.find("skipped") is not None for one in cases)
    return seen | {"passed": len(cases) - len(bad) - skipped, "skipped": skipped, "failed": bad}


def main(arguments: list[str] | None = None) -> int:
    """Run the combinations and write the file; 1 where one fails, or has no Python here, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("combinations", nargs="*", help="e.g. 2.10/3.11 (default: every one that the ranges admit)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the environments are made")
    parser.add_argument("--keep", action="store_true", help="do not delete an environment once it was used (5 to 9 GB)")
    parser.add_argument("--install-only", action="store_true", help="make the environments and stop")
    args, options = parser.parse_known_args(arguments)
    asked = [tuple(one.split("/")) for one in args.combinations] or admitted()
    if wrong := set(asked) - set(admitted()):
        parser.error(f"pyproject.toml does not admit {sorted(wrong)}")
    bad = 0
    for mindspore, version in asked:
        folder = args.folder / f"mindspore-{mindspore}-python-{version}"
        if (python := interpreter(version)) is None:
            print(f"MindSpore {mindspore}, Python {version}: not run: no python{version} on the PATH or in pyenv")
            bad = 1
            continue
        inside = install(mindspore, python, folder)
        if args.install_only:
            continue
        row = prove(inside, folder, options)
        write(row)
        bad |= not row["passed"] or bool(row["failed"])
        print(f"MindSpore {mindspore}, Python {version}: {row}", flush=True)
        if not args.keep:
            shutil.rmtree(folder)
    return bad


def write(row: dict[str, object], target: Path = PROVEN) -> None:
    """Put a row in the place of an older one of the same MindSpore and Python (major.minor), sorted by both."""

    def key(one: dict[str, object]) -> list[list[int]]:
        return [[int(part) for part in str(one[name]).split(".")[:2]] for name in ("mindspore", "python")]

    rows = [one for one in (json.loads(target.read_text()) if target.exists() else []) if key(one) != key(row)]
    target.write_text(json.dumps(sorted([*rows, row], key=key), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
