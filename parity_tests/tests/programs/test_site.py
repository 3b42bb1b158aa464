"""The documentation: its commands and snippets run, its made pages are whole, and both languages say the same."""

import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from convert.registry import FAMILIES
from parity_tests.tests.cases import ROOT, save_torch, seeded_family
from toonport.cli import COMMANDS, build_parser, main
from toonport.commands.parser import with_json_plain
from toonport.exit_codes import MEANINGS, exit_codes_text

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
CHEAP = {"convert", "inspect", "list", "fetch", "completion"}
RUN_ELSEWHERE = {"port_your_own.md", "port_automatically.md"}  # tests of their own run every command of them
PAGES = sorted(path for path in (ROOT / "docs").glob("*.md") if path.name not in RUN_ELSEWHERE)
READMES = ROOT / "README.md", ROOT / "README.zh-CN.md"


def _lines(path: Path, kinds: set[str]) -> list[str]:
    """The command lines in a page's fences of these kinds, without comments."""
    fences = [text for kind, text in FENCE.findall(path.read_text()) if kind in kinds]
    return [line.partition(" #")[0].strip() for text in fences for line in text.splitlines() if line.strip()]


def _is_cheap(line: str) -> bool:
    words = line.split()
    return words[0] == "toonport" and (words[1] in CHEAP or "--help" in words or "--settings" in words)


RUN = [(path.name, line) for path in PAGES for line in _lines(path, {"sh"})]
LONG = list(dict.fromkeys(line for _, line in RUN if not _is_cheap(line)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the pages' commands name: small networks in the released layout, a face, a folder of pictures."""
    from toonport.photo.example import drawn_face

    place = tmp_path_factory.mktemp("documents")
    save_torch(place / "photo2cartoon_weights.pt", seeded_family("photo2cartoon"))
    Image.fromarray(drawn_face()).save(place / "me.jpg")
    for domain in ("trainA", "trainB", "testA", "testB"):
        (place / "faces" / domain).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(drawn_face(64 + number)).save(place / "faces" / domain / f"{number}.png")
    (place / "examples").symlink_to(ROOT / "examples")
    main(["convert", str(place / "photo2cartoon_weights.pt"), str(place / "photo2cartoon.ckpt")])
    return place


def _run(line: str) -> int:
    """Run one command in the current folder."""
    words = shlex.split(line)
    if words[0] == "python":
        return subprocess.run([sys.executable, *words[1:]], check=False).returncode
    words = words[: words.index(">")] if ">" in words else words
    try:
        return main(words[1:])
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.mark.quick
def test_every_command_of_the_documents_is_one(capsys):
    parser, seen = build_parser(), 0
    for path in [*(ROOT / "docs").glob("*.md"), *READMES, ROOT / "parity_tests" / "README.md", ROOT / "CHANGELOG.md"]:
        spans = SPAN.findall(re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL))
        for line in [*_lines(path, {"sh", "bash", "text", ""}), *spans]:
            if not re.match(r"toonport [a-z]", line):
                continue
            words = shlex.split(line.split(" > ")[0])
            assert words[1] in COMMANDS, f"{path.name}: {line}"
            flags = [word.partition("=")[0] for word in words if word.startswith("--")]
            command = next(action for action in parser._actions if action.dest == "command").choices[words[1]]
            assert set(flags) <= set(command._option_string_actions), f"{path.name}: {line}"
            seen += 1
    assert seen > 80


@pytest.mark.quick
def test_every_command_that_is_run_is_complete():
    for name, line in RUN:
        if line.startswith("toonport") and "--help" not in line:
            words = shlex.split(line.split(" > ")[0])[1:]
            assert build_parser().parse_args(with_json_plain(words)).command == words[0], name


def test_cheap_commands_of_the_documents_run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    cheap = list(dict.fromkeys(line for _, line in RUN if _is_cheap(line)))
    assert len(cheap) >= 9
    for line in cheap:
        assert _run(line) == 0, f"{line}\n{capsys.readouterr().err}"


@pytest.mark.sampled(1)
@pytest.mark.parametrize("line", LONG)
def test_other_commands_of_the_documents_run(folder, monkeypatch, line, capsys, request):
    monkeypatch.chdir(folder)
    if "cartoonize" in line or "preprocess" in line:
        request.getfixturevalue("matte_network")
    if "deploy_onnx" in line:
        assert _run(LONG[LONG.index(line) - 1]) == 0  # the line before exports the file
    code = _run(line)
    different = "compare" in line and code == 4  # small seeded networks may leave too much untold
    assert code == 0 or different, capsys.readouterr().err


def test_snippets_of_the_documents_are_python_and_the_quick_ones_run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for path in [*PAGES, *READMES]:
        for kind, text in FENCE.findall(path.read_text()):
            if kind == "python":
                ast.parse(text)
                if path.name == "quickstart.md":
                    exec(compile(text, path.name, "exec"), {})
    assert capsys.readouterr().out.endswith("ResnetGenerator\n")


@pytest.mark.quick
@pytest.mark.parametrize(
    ("english", "chinese"), [READMES, (ROOT / "docs/quickstart.md", ROOT / "docs/quickstart.zh-CN.md")]
)
def test_both_languages_name_the_same_commands(english, chinese):
    texts = [path.read_text() for path in (english, chinese)]
    fences = [[(kind, body) for kind, body in FENCE.findall(text)] for text in texts]
    assert fences[0] == fences[1]
    outside = [re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL) for text in texts]
    spans = [sorted(set(SPAN.findall(text.replace("\n", " ")))) for text in outside]
    assert spans[0] == spans[1]
    headings = [len(re.findall(r"^#+ ", text, re.MULTILINE)) for text in texts]
    assert headings[0] == headings[1]
    numbers = [sorted(re.findall(r"(?<![\w.])\d+(?:\.\d+)*", text)) for text in outside]
    assert set(numbers[0]) <= set(numbers[1])


@pytest.mark.quick
def test_exit_codes_are_the_same_in_readme_help_and_code(monkeypatch):
    assert exit_codes_text() in " ".join((ROOT / "README.md").read_text().split())
    monkeypatch.setenv("COLUMNS", "300")
    assert exit_codes_text() in build_parser().format_help()
    chinese = (ROOT / "README.zh-CN.md").read_text().partition("退出码")[2].partition("##")[0]
    assert [int(code) for code in re.findall(r"(?:：|· |·\n)(\d+) ", chinese)] == [int(code) for code in MEANINGS]


@pytest.mark.quick
def test_pages_made_from_the_code_are_whole():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import site_pages
    finally:
        sys.path.pop(0)
    pages = site_pages.made_pages()
    menu = (ROOT / "mkdocs.yml").read_text()
    assert [path for path in pages if path not in menu] == []
    assert [path.name for path in (ROOT / "docs").glob("*.md") if f"{path.name}" not in menu] == []
    assert {f"families/{family.name}.md" for family in FAMILIES} <= pages.keys()
    assert all(f"## toonport {name}\n" in pages["reference/cli.md"] for name in COMMANDS)
    assert "## toonport.compare_steps\n" in pages["reference/api.md"]
    for name, table in site_pages.TABLES.items():
        assert table().count("\n") > 5, name
        assert any(f"<!-- made: {name} -->" in path.read_text() for path in PAGES)


def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|link rel=.stylesheet.)[^>]*(?:src|href)=.?(https?://[^\s\"'>]+)", page.read_text()
        )
        assert loaded == [], page


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("export photo2cartoon --weights photo2cartoon.ckpt --part disLA --out d.onnx", "outputs"),
        ("cartoonize me.jpg --weights photo2cartoon.ckpt --frame whole --out whole.png", "photos"),
        ("preprocess me.jpg --keep-background --out crops", "photos"),
        ("train cyclegan --framework torch --size 32 --width 4 --network n_blocks=1 --dry-run", "parameters"),
        ("compare photo2cartoon --weights photo2cartoon.ckpt --part disLA --mode weights", "networks"),
        ("inspect photo2cartoon.ckpt photo2cartoon_weights.pt", "tensors"),
        ("doctor", "findings"),
    ],
)
def test_results_are_printed_as_json_and_nothing_else(folder, monkeypatch, capfd, line, key):
    monkeypatch.chdir(folder)
    assert main([*line.split(), "--json"]) == 0
    assert key in json.loads(capfd.readouterr().out)
