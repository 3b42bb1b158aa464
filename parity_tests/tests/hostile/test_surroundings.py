"""Files around the weights (ledgers, manifests, records, runs, reports), and names: a strange one is one line."""

import json
import os

import pytest

from convert.conversion import convert_file
from parity_tests.tests.cases import save_torch, seeded_state
from toonport.cli import main
from toonport.fetch import RECORD

DEEP = "[" * 100_000
ENTRY = 'family = "vgg19"\npart = "vgg19"\nlicence = "none"\nsource = "test"\n'


@pytest.fixture
def good(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return save_torch(tmp_path / "good.pt", seeded_state("photo2cartoon", "disLA"))


def _one_line(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("toonport")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    "text",
    [DEEP, "[1]", "\x00", '{"tensors": null}', '{"tensors": [], "networks": [], "target": {"sha256": 3}}',
     '{"tensors": [], "networks": [], "target": {"sha256": "a"}, "set": [1]}'],
    ids=("deep", "list", "binary", "null", "number", "set"),
)  # fmt: skip
@pytest.mark.parametrize("name", ["good.ckpt.ledger.json", ".good.ckpt.ledger.json.pending"])
def test_ledgers(name, text, good, tmp_path, capsys):
    convert_file(good, "good.ckpt", "photo2cartoon")
    (tmp_path / name).write_text(text)
    assert "not a ledger" in _one_line(capsys, "inspect", "good.ckpt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + DEEP, "not a TOML file"),
        ("x = 3", "not a usable manifest"),
        (f"[x]\nfile = 3\n{ENTRY}", "not a usable manifest"),
        (f'[x]\nfile = "a.pth"\nurl = "file:///etc/hostname"\n{ENTRY}', "not an address on the web"),
        (f'[x]\nfile = "a.pth"\nurl = "nowhere"\n{ENTRY}', "not an address on the web"),
        (f'[x]\nfile = "a.pth"\nsha256 = "{"z" * 64}"\n{ENTRY}', "no sha256 or beginning of one"),
    ],
)
def test_manifests(text, message, good, tmp_path, capsys):
    (tmp_path / "m.toml").write_text(text)
    assert message in _one_line(capsys, "fetch", "x", "--manifest", "m.toml", "--dir", "w")


@pytest.mark.parametrize("text", [DEEP, "[1]", '{"a.pth": 3}'])
def test_records_of_hashes(text, good, tmp_path, capsys):
    (tmp_path / "m.toml").write_text(f'[x]\nfile = "good.pt"\nurl = "https://nowhere.example"\n{ENTRY}')
    (tmp_path / RECORD).write_text(text)
    assert "not a record of hashes" in _one_line(capsys, "fetch", "x", "--manifest", "m.toml", "--dir", ".")


@pytest.mark.parametrize("text", [DEEP, "[]", '{"sha256": 3}', '{"schema": "toonport-training/1", "sha256": {}}'])
def test_checkpoints_of_a_run(text, good, tmp_path, capsys):
    folder = tmp_path / "run" / "checkpoints" / "step_0000001"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(text)
    (tmp_path / "run" / "latest").write_text("step_0000001")
    (tmp_path / "run" / "config.toml").write_text('family = "cyclegan"\ndata = "x"\nout = "run"')
    assert "has no weights" in _one_line(capsys, "train", "cyclegan", "--resume", "--out", "run")


@pytest.mark.parametrize("text", [DEEP, "[]", '{"schema": "toonport-report/2"}', '{"schema": "toonport-report/1"}'])
def test_reports_and_environments(text, good, tmp_path, capsys):
    (tmp_path / "r.json").write_text(text)
    assert "not a saved report" in _one_line(capsys, "compare", "r.json")
    _one_line(capsys, "compare", "--environment", "r.json", "r.json")


def test_a_capture(good, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "capture.json").write_text(DEEP)
    assert "no captured run" in _one_line(capsys, "compare", "run", "run")


def test_names_of_files(good, tmp_path, capsys):
    strange = os.fsdecode(b"\xff\xfe.pt")
    os.rename(good, strange)
    assert main(["convert", strange, os.fsdecode(b"\xfd.ckpt"), "--family", "photo2cartoon"]) == 0
    os.rename(strange, good)
    os.symlink("a.ckpt", "b.ckpt")
    os.symlink("b.ckpt", "a.ckpt")
    os.mkfifo("fifo.ckpt")
    os.mkdir("folder.ckpt")
    for name in ("a.ckpt", "fifo.ckpt", "folder.ckpt", "x" * 300 + ".ckpt", "good.pt/x.ckpt"):
        assert "cannot" in _one_line(capsys, "convert", good, name, "--family", "photo2cartoon"), name
        _one_line(capsys, "inspect", name)


def test_markup_and_orders_to_the_terminal_are_text(good, tmp_path, capsys):
    import torch

    state = {name: torch.from_numpy(value) for name, value in seeded_state("photo2cartoon", "disLA").items()}
    (tmp_path / "a[").mkdir()
    torch.save({**state, "[/bold] note": 3, "\x1b]0;title\x07": "text"}, "a[/b].pt")
    target = "runs [v2]/\x1b[31mx[/b].ckpt"
    assert main(["convert", "a[/b].pt", target, "--family", "photo2cartoon"]) == 0
    shown = capsys.readouterr().out
    assert "wrote runs [v2]/\\x1b[31mx[/b].ckpt" in shown
    assert "[/bold] note" in shown
    assert "\x1b" not in shown
    assert main(["inspect", target]) == 0
    unseen = "c\u200bd\u202ee\U000e0041"
    torch.save(
        {"\x1b[2J": torch.zeros(2), unseen: torch.zeros(1), "long" * 300: torch.zeros(2), "a\nb": torch.zeros(2)},
        "b.pt",
    )
    assert main(["inspect", "b.pt"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\\x1b[2J" in shown
    assert unseen.encode("unicode_escape").decode() in shown
    assert "long" * 100 not in shown
    assert json.dumps("a\nb")[1:-1] in shown
