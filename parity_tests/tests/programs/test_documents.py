"""The documents for people stay short, and every file and link that they name exists."""

import re
import subprocess
from pathlib import Path

import pytest

import toonport
from parity_tests.tests.cases import ROOT

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/architecture.md")
OURS = (".py", ".md", ".toml", ".j2", ".json", ".svg", ".txt", "/")

pytestmark = pytest.mark.quick


def _paths() -> set[str]:
    """Every file and folder of the project, folders with a slash at the end."""
    found = set()
    for folder in ("convert", "torch_ref", "ms_models", "parity_tests", "tools", "docs", "weights"):
        for path in [ROOT / folder, *(ROOT / folder).rglob("*")]:
            if "__pycache__" not in path.parts:
                found.add(path.relative_to(ROOT).as_posix() + ("/" if path.is_dir() else ""))
    return found | {path.name for path in ROOT.iterdir() if path.is_file()}


def _named(text: str) -> list[str]:
    """What stands in single backticks and looks like a file or folder of ours."""
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    words = re.findall(r"`([^`\s]+)`", outside)
    return [word for word in words if word.endswith(OURS) and word.lower() == word and word not in OURS]


def test_the_readme_fits_on_a_few_screens():
    text = (ROOT / "README.md").read_text()
    assert len(text.encode()) <= 9 * 1024
    first = text[: text.index("\n## ")]
    assert "make demo" in first
    assert "make test" in first
    assert "](docs/report.svg)" in first
    assert (ROOT / "docs" / "report.svg").stat().st_size < 60_000


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md", "parity_tests/README.md", "docs/landmark_term.md"])
def test_every_relative_link_leads_somewhere(document):
    text = (ROOT / document).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    assert [link for link in links if not ((ROOT / document).parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_is_named_exists(document):
    paths = _paths()
    missing = [
        name
        for name in _named((ROOT / document).read_text())
        if not any(path == name or path.endswith(f"/{name}") for path in paths)
    ]
    assert missing == []


def test_every_version_has_its_part_of_the_changelog():
    versions = re.findall(r"^## (\d\S*) \(\d{4}-\d\d-\d\d\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == toonport.__version__
    tags = subprocess.run(["git", "tag", "--list", "v*"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert [tag for tag in tags.split() if tag[1:] not in versions] == []


def test_every_room_is_in_the_architecture():
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = {
        path.parent.relative_to(ROOT).as_posix() + "/"
        for folder in ("convert", "torch_ref", "ms_models", "parity_tests/harness", "tools/toonport")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert sorted(room for room in rooms - {"parity_tests/harness/"} if room not in text) == []


def test_no_table_is_cut_by_an_empty_line():
    for path in [ROOT / "README.md", *Path(ROOT / "docs").glob("*.md"), ROOT / "parity_tests" / "README.md"]:
        assert not re.search(r"\|\n\n\|(?!.*\|\n\|[-:|]+\|\n)", path.read_text()), path
