"""The documentation: its commands and snippets run, its made pages are whole, and both languages say the same."""

import ast
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import toonport
from convert.registry import FAMILIES
from parity_tests.tests.cases import ROOT, save_torch, seeded_family, seeded_state
from toonport.cli import COMMANDS, build_parser, main
from toonport.commands.parser import with_json_plain
from toonport.exit_codes import MEANINGS, exit_codes_text

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
CHEAP = {"convert", "inspect", "list", "fetch", "completion"}
RUN_ELSEWHERE = {"port_your_own.md", "port_automatically.md"}  # tests of their own run every command of them
PAGES = sorted(path for path in (ROOT / "docs").glob("*.md") if path.name not in RUN_ELSEWHERE)
READMES = ROOT / "README.md", ROOT / "README.zh-CN.md"


def _commands(text: str) -> list[str]:
    """The command lines of a fence, without comments."""
    return [line.partition(" #")[0].strip() for line in text.splitlines() if line.strip()]


def _is_cheap(line: str) -> bool:
    words = line.split()
    return words[0] == "toonport" and (words[1] in CHEAP or "--help" in words or "--settings" in words)


def _fences(path: Path, kinds: set[str]) -> list[tuple[str, ...]]:
    """The commands of a page's fences of these kinds, those together that stand in one fence."""
    return [tuple(_commands(text)) for kind, text in FENCE.findall(path.read_text()) if kind in kinds]


RUN = [fence for path in [*PAGES, READMES[0]] for fence in _fences(path, {"sh", "bash"})]
CHEAP_LINES = [line for fence in RUN for line in fence if _is_cheap(line)]
LONG = list(dict.fromkeys(fence for fence in RUN if not all(map(_is_cheap, fence))))
# What makes a command that runs for hours end in a moment: the pages' lines are for released networks.
SHORTER = {
    "toonport bench all": "--smallest --case small",
    "toonport bench curves": "--smallest --case file",
    "toonport bench profile": "--size 32 --width 4",
    "toonport bench page": "",
    "toonport bench": "--rounds 2 --photos 2 --case runtime",
    "toonport train photo2cartoon": "--framework torch --size 96 --no-tensorboard --steps 1",
    "toonport compare photo2cartoon": "--quick",
    "toonport compare --torch": "--quick",
}
# What must have been done before a command that holds these words.
BEFORE = {
    "--select run": "toonport train cyclegan --data faces --out run --framework torch --size 32 --width 4 "
    "--network n_blocks=1 --steps 2 --save-every 1 --keep 2 --no-tensorboard",
    "theirs.onnx": "toonport export photo2cartoon --weights photo2cartoon_weights.pt --part genA2B --out theirs.onnx",
}


# What the pages call two networks of one's own.
TORCH_NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()

    def forward(self, x):
        return self.act(self.conv(x))
"""
MINDSPORE_NET = """
from mindspore import nn

class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 4, 3, pad_mode="pad", padding=1, has_bias=True), nn.ReLU()

    def construct(self, x):
        return self.act(self.conv(x))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the pages' commands name: small networks in the released layout, a face, folders of pictures, a pair."""
    from toonport.photo.example import drawn_face

    place = tmp_path_factory.mktemp("documents")
    save_torch(place / "photo2cartoon_weights.pt", seeded_family("photo2cartoon"))
    save_torch(place / "model_mobilefacenet.pth", seeded_state("mobilefacenet", "mobilefacenet"))
    Image.fromarray(drawn_face()).save(place / "me.jpg")
    for name in ("faces/trainA", "faces/trainB", "faces/testA", "faces/testB", "cartoons", "photos"):
        (place / name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(drawn_face(64 + number)).save(place / name / f"{number}.png")
    (place / "examples").symlink_to(ROOT / "examples")
    for name, text in (("mynet.py", TORCH_NET), ("mynet_ms.py", MINDSPORE_NET)):
        (place / name).write_text(text)
    save_torch(
        place / "my.pt", {"conv.weight": np.full((4, 3, 3, 3), 0.1, np.float32), "conv.bias": np.ones(4, np.float32)}
    )
    main(["convert", str(place / "photo2cartoon_weights.pt"), str(place / "photo2cartoon.ckpt")])
    return place


def _run(line: str) -> int:
    """Run one command in the current folder, a shorter form of those that take hours."""
    if "--onnx" not in line:  # which a quick comparison refuses
        line = next((f"{line} {more}" for start, more in SHORTER.items() if line.startswith(start)), line)
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
        for line in [*(line for fence in _fences(path, {"sh", "bash", "text", ""}) for line in fence), *spans]:
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
    for line in (line for fence in RUN for line in fence):
        if line.startswith("toonport") and "--help" not in line:
            words = shlex.split(line.split(" > ")[0])[1:]
            assert build_parser().parse_args(with_json_plain(words)).command == words[0], line


def test_cheap_commands_of_the_documents_run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert len(CHEAP_LINES) >= 9
    for line in dict.fromkeys(CHEAP_LINES):
        assert _run(line) == 0, f"{line}\n{capsys.readouterr().err}"


@pytest.mark.sampled(1)
@pytest.mark.parametrize("fence", LONG, ids=lambda fence: fence[-1])
def test_other_commands_of_the_documents_run(folder, tmp_path, monkeypatch, fence, capsys, request):
    place = tmp_path / "documents"
    shutil.copytree(folder, place, symlinks=True)
    monkeypatch.chdir(place)
    if any(word in line for line in fence for word in ("cartoonize", "preprocess")):
        request.getfixturevalue("matte_network")
    for line in (*(first for words, first in BEFORE.items() if any(words in line for line in fence)), *fence):
        code = _run(line)
        untold = "compare" in line and code == 4  # small seeded networks may leave too much untold
        assert code == 0 or untold, f"{line}\n{capsys.readouterr().err}"


def test_snippets_of_the_documents_are_python_and_the_quick_ones_run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for path in [*PAGES, *READMES]:
        for kind, text in FENCE.findall(path.read_text()):
            if kind == "python":
                ast.parse(text)
                if path.name == "quickstart.md":
                    exec(compile(text, path.name, "exec"), {})
    assert capsys.readouterr().out.endswith("ResnetGenerator\n")


def _own_pair():
    """Return the two networks of one's own with the same weights, and their inputs."""
    import mindspore

    module = runpy.run_path("mynet.py")["Net"]().eval()
    cell = runpy.run_path("mynet_ms.py")["Net"]().set_train(False)
    for own, other in zip(cell.get_parameters(), module.parameters(), strict=True):
        own.set_data(mindspore.Tensor(other.detach().numpy()))
    inputs = np.random.default_rng(0).uniform(-1, 1, (1, 3, 16, 16)).astype(np.float32)
    return {"torch_module": module, "ms_cell": cell, "inputs": inputs}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("number", range(3))
def test_snippets_of_the_readme_run(folder, tmp_path, monkeypatch, number, capsys, request):
    shutil.copytree(folder, tmp_path / "readme", symlinks=True)
    monkeypatch.chdir(tmp_path / "readme")
    snippet = [text for kind, text in FENCE.findall(READMES[0].read_text()) if kind == "python"][number]
    if "cartoonize" in snippet:
        request.getfixturevalue("matte_network")
    names = {"toonport": toonport, **_own_pair()}
    exec(compile(snippet, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "False" not in printed
    assert "True" in printed or "print" not in snippet
    if "test_my_port" in names:
        names["test_my_port"](request.getfixturevalue("parity"))


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
