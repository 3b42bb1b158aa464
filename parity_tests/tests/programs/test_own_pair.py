"""A user's own two networks on the command line: compared, and their checkpoint converted both ways."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from convert.formats import open_checkpoint
from toonport.cli import main
from toonport.own_pair import inputs_of

TORCH = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(2, width)

    def forward(self, x):
        return x + torch.relu(self.norm(self.conv(x)))

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.bn = nn.BatchNorm1d(width)
        self.scale = nn.Parameter(torch.full((1, width, 1), 1.5))

    def forward(self, x):
        return self.bn(self.blocks(x)) * self.scale

def broken():
    raise RuntimeError("no such thing")

def numbers():
    return [torch.linspace(-1, 1, 88).reshape(2, 4, 11)]
"""
MINDSPORE = """
from mindspore import Parameter, nn, ops
import mindspore

class Block(nn.Cell):
    def __init__(self, width, eps):
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, pad_mode="pad", padding=1, has_bias=True)
        self.norm = nn.GroupNorm(2, width, eps=eps)

    def construct(self, x):
        y = self.conv(x)
        return x + ops.relu(self.norm(y.unsqueeze(2)).squeeze(2))

class Net(nn.Cell):
    def __init__(self, width=4, eps=1e-5):
        super().__init__()
        self.blocks = nn.SequentialCell(Block(width, eps), Block(width, eps))
        self.bn = nn.BatchNorm1d(width, momentum=0.9)
        self.scale = Parameter(ops.ones((1, width, 1), mindspore.float32), name="scale")

    def construct(self, x):
        n, c, length = x.shape
        x = self.blocks(x).swapaxes(1, 2).reshape(-1, c)
        return self.bn(x).reshape(n, length, c).swapaxes(1, 2) * self.scale

class Renamed(Net):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.body = self.blocks
        del self.blocks

    def construct(self, x):
        self.blocks = self.body
        return super().construct(x)

def wrong(width=4):
    return Net(width, eps=1e-3)

class Eager(Net):
    def construct(self, x):
        with open(__file__):
            return super().construct(x)

class Longer(Net):
    def __init__(self):
        super().__init__()
        self.more = nn.Dense(2, 2)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Both networks' code, and a checkpoint with wrapped names beside what training keeps."""
    import torch

    folder = tmp_path_factory.mktemp("own")
    (folder / "ref_net.py").write_text(TORCH)
    (folder / "port_net.py").write_text(MINDSPORE)
    (folder / "map.toml").write_text('[layers]\n"blocks" = "body"\n')
    scope: dict = {}
    exec(TORCH, scope)  # the network of the text above
    torch.manual_seed(3)
    state = scope["Net"](6).state_dict()
    torch.save(
        {"epoch": 3, "ema": {"model": {f"module.{name}": value for name, value in state.items()}}}, folder / "a.pt"
    )
    yield folder
    sys.path[:] = [entry for entry in sys.path if entry != str(folder)]


def _pair(folder, torch_name="Net", port_name="Net"):
    return ["--torch", f"{folder}/ref_net.py:{torch_name}", "--mindspore", f"{folder}/port_net.py:{port_name}"]


def _compare(folder, *more, port_name="Net"):
    return main(["compare", *_pair(folder, port_name=port_name), "--brief", *more])


def test_a_checkpoint_goes_to_mindspore_names_and_back_bit_for_bit(folder, capsys):
    wide = ["--kwargs", '{"width": 6}']
    assert main(["convert", str(folder / "a.pt"), str(folder / "a.ckpt"), *_pair(folder), *wide]) == 0
    assert "own Net (): 14 tensors, PyTorch names" in capsys.readouterr().out
    ported = open_checkpoint(folder / "a.ckpt").tensors
    assert ported["blocks.0.conv.weight"].spec.shape == (6, 6, 1, 3)
    assert {"blocks.1.norm.gamma", "bn.moving_variance", "scale"} <= ported.keys()
    assert main(["convert", str(folder / "a.ckpt"), str(folder / "b.pt"), *_pair(folder), *wide]) == 0
    first = {
        name.removeprefix("ema.model.module."): entry
        for name, entry in open_checkpoint(folder / "a.pt").tensors.items()
    }
    second = open_checkpoint(folder / "b.pt").tensors
    assert first.keys() == second.keys()
    assert all(np.array_equal(entry.read(), second[name].read()) for name, entry in first.items())
    weights = ["--weights", str(folder / "a.pt"), "--ported", str(folder / "a.ckpt"), "--mode", "weights"]
    assert _compare(folder, *wide, "--inputs", "6x9", *weights) == 0


def test_a_right_port_is_equal_and_a_wrong_one_is_not(folder, capsys):
    modes = ["--mode", "isolated,accumulated", "--inputs", f"{folder}/ref_net.py:numbers"]
    assert _compare(folder, *modes) == 0
    assert _compare(folder, *modes, "--json", str(folder / "wrong.json"), port_name="wrong") == 1
    said = capsys.readouterr().out
    assert "first out of budget: blocks.0.norm (GroupNorm)" in said
    assert "likely cause: epsilon" in said
    assert json.loads((folder / "wrong.json").read_text())["verdict"] == "different"


def test_a_port_that_is_no_graph_is_said_in_the_report_alone(folder):
    """MindSpore logs what it raises over many lines, which the report has in one."""
    command = [sys.executable, "-m", "toonport", "compare", *_pair(folder, port_name="Eager"), "--inputs", "4x11"]
    environment = {name: value for name, value in os.environ.items() if name != "GLOG_v"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "MindSpore makes no graph of it" in done.stdout
    assert not done.stderr


def test_layers_that_are_called_otherwise_are_mapped(folder, capsys):
    np.savez(folder / "in.npz", x=np.linspace(-1, 1, 40, dtype=np.float32).reshape(1, 4, 10))
    inputs = ["--inputs", str(folder / "in.npz"), "--mode", "isolated"]
    assert _compare(folder, *inputs, "--map", str(folder / "map.toml"), port_name="Renamed") == 0
    capsys.readouterr()
    assert _compare(folder, *inputs, port_name="Renamed") == 2
    assert "have no place in" in (said := capsys.readouterr().err)
    assert "--map" in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--torch", "ref_net.py:Nett"], "ref_net.py has no Nett; there is Net"),
        (["--torch", "none.py:Net"], "there is no file none.py"),
        (["--torch", "Net"], "say FILE.py:NAME or package.module:NAME"),
        (["--torch", "no.such.package:Net"], "cannot be imported: ModuleNotFoundError"),
        (["--torch", "ref_net.py:broken"], "fails: RuntimeError: no such thing (ref_net.py, line 25)"),
        (["--mindspore", "ref_net.py:Net"], "the port is a mindspore.nn.Cell"),
        (
            ["--mindspore", "port_net.py:Longer"],
            "2 tensors of port_net.py:Longer are not in ref_net.py:Net: more.weight",
        ),
        (["--kwargs", "width=4"], "not JSON"),
        (["--kwargs", "[4]"], "is an object of names and values"),
        (["--map", "none.toml"], "none.toml: cannot be read"),
        (["--map", "ref_net.py"], "not a TOML file"),
        (["--inputs", "3y4"], "shapes such as 3x256x256"),
        (["--inputs", "none.npz"], "none.npz: not arrays"),
        (["--weights", "a.pt"], "the tensors do not fit Net: 13 wrong shape or type"),
        (["--mode", "train"], "unknown mode train"),
        (["--part", "Net"], "are for families"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_told_in_one_line(folder, monkeypatch, capsys, change, words):
    monkeypatch.chdir(folder)
    given = {"--torch": "ref_net.py:Net", "--mindspore": "port_net.py:Net", "--inputs": "4x9", change[0]: change[1]}
    assert main(["compare", *[word for pair in given.items() for word in pair]]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "shapes"),
    [("16", [(2, 16)]), ("3x8x9", [(1, 3, 8, 9)]), ("3x8x9,10", [(2, 3, 8, 9), (2, 10)]), ("4x8x9", [(2, 4, 8, 9)])],
)
def test_shapes_are_batches_of_two_but_one_picture_from_which_smaller_ones_are_cut(text, shapes):
    assert [array.shape for array in inputs_of(text)] == shapes
