"""Two live processes that write to one place: each ends with a whole result or with one line of why not."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import onnx
import pytest

from parity_tests.tests.cases import checkpoint_bytes, drawn_picture, save_torch, seeded_state
from toonport.cli import main
from toonport.photo.example import drawn_face
from toonport.photo.picture import write_picture

GATE = "import sys; from toonport.cli import main; sys.stdin.readline(); sys.exit(main(sys.argv[1:]))"
OF_THE_RUN = re.compile(r"\d{4}-\d\d-\d\dT[\d:+]+|[\d.]+ s\b|/\S*alone_[ab]|/\S*both")  # when, how long, where
NETWORK = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return torch.relu(self.conv(x))
"""
TRAINING = ["--framework", "torch", "--width", "4", "--size", "32", "--steps", "2", "--sheet-every", "0",
            "--no-tensorboard"]  # fmt: skip


@dataclass(frozen=True)
class Writer:
    """A command that writes below a folder."""

    command: Callable[[str, Path], Sequence[object]]  # "a" or "b", the folder -> what follows "toonport"
    content: Callable[[Path], Mapping[object, object]]  # what lies there
    one: bool = True  # all of it is of one process; else each entry alone is

    def found(self, out: Path) -> Mapping[object, str]:
        """Hashes of what lies there."""
        return {name: sha256(str(value).encode()).hexdigest()[:12] for name, value in self.content(out).items()}


def _files(pattern: str) -> Callable[[Path], Mapping[object, object]]:
    return lambda out: {path.name: path.read_bytes() for path in out.glob(pattern)}


def _reports(out: Path) -> Mapping[object, object]:
    json.loads((out / "r.json").read_text())
    found = {path.name: OF_THE_RUN.sub("", path.read_text()) for path in out.iterdir()}
    assert "r.html" not in found or found["r.html"].rstrip().endswith("</html>")
    return found


def _tensors(out: Path) -> Mapping[object, object]:
    return {tensor.name: tensor.SerializeToString() for tensor in onnx.load(out / "x.onnx").graph.initializer}


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with what the commands work on, in two variants."""
    (tmp_path / "net.py").write_text(NETWORK)
    save_torch(tmp_path / "face.pt", seeded_state("mobilefacenet", "mobilefacenet"))
    for tag in "ab":
        content = {part: seeded_state("photo2cartoon", part, tag) for part in ("genA2B", "disLA")}
        save_torch(tmp_path / f"{tag}.pt", content)
        for number in "12":
            write_picture(tmp_path / tag / "faces" / f"{number}.png", drawn_face() // {"a": 1, "b": 2}[tag])
            for domain in "AB":
                picture = drawn_picture(f"{tag}{domain}{number}", 64, 64)
                write_picture(tmp_path / tag / f"train{domain}" / f"{number}.png", picture)
    return tmp_path


@pytest.fixture
def writers(place) -> Mapping[str, Writer]:
    """The commands."""
    face = place / "face.pt"

    def photos(tag: str) -> Path:
        """A folder of photos."""
        return place / tag / "trainA"

    def weights(tag: str) -> list[object]:
        """An option."""
        return ["--weights", place / f"{tag}.pt"]

    def reports(out: Path) -> list[object]:
        """Two options."""
        return ["--json", out / "r.json", "--html", out / "r.html"]

    return {
        "export": Writer(
            lambda tag, out: ["export", "photo2cartoon", *weights(tag), "--part", "disLA", "--out", out / "x.onnx"],
            _tensors,
        ),
        "train": Writer(
            lambda tag, out: ["train", "cyclegan", "--data", place / tag, "--out", out, *TRAINING],
            lambda out: checkpoint_bytes(out, 2),
        ),
        "preprocess": Writer(
            lambda tag, out: ["preprocess", place / tag / "faces", "--out", out, "--keep-background"],
            _files("*.png"),
        ),
        "cartoonize": Writer(
            lambda tag, out: ["cartoonize", photos(tag), *weights(tag), "--family", "photo2cartoon", "--part", "genA2B",
                              "--frame", "whole", "--out", out],
            _files("*.png"),
        ),
        "evaluate": Writer(
            lambda tag, out: ["evaluate", "--fake", photos(tag), "--real", place / tag / "trainB",
                              "--face-weights", face, *reports(out)],
            _reports, one=False,
        ),
        "compare": Writer(
            lambda tag, out: ["compare", "photo2cartoon", *weights(tag), "--part", "disLA", "--mode", "weights",
                              *reports(out)],
            _reports, one=False,
        ),
        "mutants": Writer(
            lambda tag, out: ["mutants", {"a": "judge-slope", "b": "leaky-slope"}[tag], "--list",
                              "--json", out / "r.json"],
            _reports, one=False,
        ),
        "port": Writer(
            lambda tag, out: ["port", f"{place}/net.py:Net", "--inputs", "3x16x16", "--seed", " ab".index(tag),
                              "--out", out / "port"],
            _files("port/*.pt"),
        ),
    }  # fmt: skip


NAMES = ("export", "train", "preprocess", "cartoonize", "evaluate", "compare", "mutants", "port")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", NAMES)
def test_two_writers(name, writers, tmp_path, monkeypatch):
    monkeypatch.setenv("TOONPORT_WEIGHTS", str(tmp_path / "nothing fetched"))
    writer, both = writers[name], tmp_path / "both"
    alone = {}
    for tag in "ab":
        out = tmp_path / f"alone_{tag}"
        out.mkdir()
        assert main([str(each) for each in writer.command(tag, out)]) == 0
        alone[tag] = writer.found(out)
    assert alone["a"] != alone["b"]
    both.mkdir()
    running = [_waiting(writer.command(tag, both)) for tag in "ab"]
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    ended = [(process.communicate()[1], process.returncode) for process in running]
    codes = [code for _, code in ended]
    assert 0 in codes
    for said, code in ended:
        assert code == 0 or (code == 2 and len(_complaints(said)) == 1), said
    found = writer.found(both)
    assert found.keys() == alone["a"].keys()
    if writer.one:
        assert found in alone.values()
        if 2 in codes:
            assert found == alone["ab"[codes.index(0)]]
    else:
        assert all(value in (alone["a"][key], alone["b"][key]) for key, value in found.items())
    left = [path.name for path in both.rglob(".*") if path.suffix in (".lock", ".partial", ".pending")]
    assert not left


def _waiting(arguments: Sequence[object]) -> subprocess.Popen[str]:
    """A process that runs a command once it is sent a line."""
    command = [sys.executable, "-c", GATE, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, text=True)


def _complaints(said: str) -> list[str]:
    assert "Traceback" not in said
    return [line for line in said.splitlines() if line.startswith("toonport")]
