"""Runs captured on two machines get the verdicts of one process, and neither framework is needed for the other."""

import json
import subprocess
import sys
from dataclasses import replace

import mindspore
import numpy as np
import pytest
import torch
from mindspore import nn

import toonport
from convert.errors import InputError
from parity_tests.harness.captured_layers import compare_with_capture, plan_with
from parity_tests.harness.captures import read_index
from parity_tests.harness.judging_captures import compare_captures
from parity_tests.harness.measurement import Mode
from parity_tests.harness.report.console import summary_lines
from parity_tests.harness.run import compare
from parity_tests.tests.pairs.manner import VECTORS, Found, Pair, numbers
from parity_tests.tests.pairs.twins import carry, mindspore_library, torch_library
from toonport.cli import main

MODES = (Mode.WEIGHTS, Mode.ACCUMULATED)
NAMES = {"conv": "stem.0", "norm": "stem.1"}
TORCH = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(3, 4, 3, padding=1), nn.BatchNorm1d(4)
        self.act, self.out = nn.PReLU(4), nn.Linear(7, 5)

    def forward(self, x, *, scale=1.0):
        y = self.act(self.norm(self.conv(x)))
        return {"y": self.out(self.act(y)) * scale, "mean": y.mean((1, 2))}
"""
MINDSPORE = """
from mindspore import nn, ops

class Net(nn.Cell):
    def __init__(self, eps=1e-5, again=True):
        super().__init__()
        norm = nn.BatchNorm2d(4, eps=eps, momentum=0.9)
        self.stem = nn.CellList([nn.Conv1d(3, 4, 3, pad_mode="pad", padding=1, has_bias=True), norm])
        self.act, self.out, self.again = nn.PReLU(4), nn.Dense(7, 5), again

    def construct(self, x, *, scale=1.0):
        y = self.act(self.stem[1](self.stem[0](x).unsqueeze(3)).squeeze(3))
        return {"y": self.out(self.act(y) if self.again else y) * scale, "mean": y.mean((1, 2))}
"""
X = np.random.default_rng(2).standard_normal((2, 3, 7)).astype(np.float32)


def _classes():
    scope: dict = {}
    exec(TORCH, scope)
    port: dict = {}
    exec(MINDSPORE, port)
    return scope["Net"], port["Net"]


def _pair(**kwargs):
    """Both networks with the same seeded weights, in eval mode."""
    reference, port = _classes()
    torch.manual_seed(4)
    module, cell = reference().eval(), port(**kwargs).set_train(False)
    with torch.no_grad():
        module.norm.running_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
    names = {"stem.0.": "conv.", "stem.1.": "norm."}
    leaves = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    state = module.state_dict()
    for name, value in cell.parameters_and_names():
        own = next((name.replace(a, b) for a, b in names.items() if name.startswith(a)), name)
        layer, leaf = own.rsplit(".", 1)
        array = state[f"{layer}.{leaves.get(leaf, 'weight' if leaf == 'w' else leaf)}"].numpy().copy()
        value.set_data(mindspore.Tensor(array.reshape(value.shape)))
    return module, cell


def _captured(tmp_path, module, cell, inputs=X):
    with toonport.capture(module, tmp_path / "a"):
        module(torch.from_numpy(inputs), scale=0.5)
    with toonport.capture(cell, tmp_path / "b"):
        cell(mindspore.Tensor(inputs), scale=0.5)
    return tmp_path / "a", tmp_path / "b"


@pytest.mark.parametrize("kwargs", [{}, {"eps": 1e-3}, {"again": False}], ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_the_verdicts_are_those_of_one_process(tmp_path, kwargs, training):
    module, cell = _pair(**kwargs)
    wanted = compare(module, cell, X, MODES, keywords={"scale": 0.5}, names=NAMES)
    module.train(training)
    cell.set_train(training)
    found = compare_captures(*_captured(tmp_path, module, cell), layers=NAMES)
    own = {"weights": None, "accumulated": training}
    same_runs = [
        verdict
        for verdict in wanted.verdicts
        if verdict.measurement.probe.call is None
        and verdict.measurement.probe.training == own[verdict.measurement.mode.value]
    ]
    assert list(found.verdicts) == same_runs
    assert found.equal == (not kwargs)
    assert {verdict.measurement.layer for verdict in found.verdicts} >= {"", "conv", "norm", "act", "out"}


@pytest.mark.parametrize("kwargs", [{}, {"eps": 1e-3}], ids=str)
def test_a_port_is_compared_in_every_mode_with_a_captured_reference(tmp_path, kwargs):
    module, cell = _pair(**kwargs)
    wanted = compare(module, cell, X, keywords={"scale": 0.5}, names=NAMES)
    with toonport.capture(module, tmp_path / "a", layers=True), torch.inference_mode():  # as scripts do
        module(torch.from_numpy(X), scale=0.5)
    captured = read_index(tmp_path / "a")
    found = compare_with_capture(captured, cell, plan_with(captured, cell, NAMES))
    assert found.equal == wanted.equal == (not kwargs)
    for own, other in zip(found.verdicts, wanted.verdicts, strict=True):
        of_port = {"error": 0, "difference": 0, "relative": 0, "hints": {}}  # MindSpore's sums differ from run to run
        assert replace(own.measurement, **of_port) == replace(other.measurement, **of_port)
        assert (own.budget, own.equal) == (other.budget, other.equal)


def test_other_weights_are_blamed(tmp_path):
    module, cell = _pair()
    cell.out.weight.set_data(cell.out.weight * 1.5)
    found = compare_captures(*_captured(tmp_path, module, cell), layers=NAMES)
    assert {(it.measurement.mode, it.measurement.layer) for it in found.blamed} == {(Mode.WEIGHTS, "out")}


def test_captures_are_the_user_s_own_run(tmp_path):
    """The network computes what it does otherwise, and its state moves once."""
    module, _ = _pair()
    other, _ = _pair()
    module.train(), other.train()
    with toonport.capture(module, tmp_path / "a"):
        found = [module(torch.from_numpy(X))["y"] for _ in range(2)]
    wanted = [other(torch.from_numpy(X))["y"] for _ in range(2)]
    assert all(torch.equal(one, two) for one, two in zip(found, wanted, strict=True))
    assert torch.equal(module.norm.running_var, other.norm.running_var)
    assert found[0].requires_grad
    assert not module._forward_hooks
    assert json.loads((tmp_path / "a" / "capture.json").read_text())["runs"][1]["roles"]["truth"] == 6


SCRIPT = """
import sys
sys.modules["{missing}"] = None  # as if it were not installed
import numpy as np
import toonport
{code}
x = np.load("x.npy")
network = Net()
with toonport.capture(network.{mode}, "{folder}", layers={layers}):
    network({tensor}(x))
"""
PORT = """
import sys
sys.modules["torch"] = None
from toonport.cli import main
sys.exit(main(["compare", "a", "--mindspore", "port.py:Net", "--map", "map.toml", "--brief"]))
"""
JUDGE = """
import sys
sys.modules["torch"] = sys.modules["mindspore"] = None
from toonport.cli import main
sys.exit(main(["compare", "a", "b", "--map", "map.toml", "--brief"]))
"""


def test_no_side_needs_the_other_framework_and_the_judge_none(tmp_path):
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "port.py").write_text(MINDSPORE)
    (tmp_path / "map.toml").write_text("[layers]\n" + "".join(f'"{a}" = "{b}"\n' for a, b in NAMES.items()))
    torch_side = {"missing": "mindspore", "code": TORCH, "mode": "eval()", "folder": "a"}
    torch_side |= {"tensor": "torch.from_numpy", "layers": True}
    port = {"missing": "torch", "code": MINDSPORE, "mode": "set_train(False)", "folder": "b", "layers": False}
    tensor = "__import__('mindspore').Tensor"
    scripts = [(torch_side, SCRIPT), ({**port, "tensor": tensor}, SCRIPT), ({}, JUDGE), ({}, PORT)]
    done = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", text.format(**given)], capture_output=True, cwd=tmp_path, text=True
        )
        for given, text in scripts
    ]
    assert [each.returncode for each in done] == [0, 0, 1, 0], done  # each has weights of its own
    assert "Net: DIFFERENT" in done[2].stdout
    assert "not run" not in done[2].stdout
    assert "Net: equal" in done[3].stdout
    assert "block gradients" in done[3].stdout


def _broken(tmp_path, module, cell):
    a, _ = _captured(tmp_path, module, cell)
    (a / "run0" / "own" / "000002.safetensors").write_bytes(b"x")


def _without_truth(tmp_path, module, cell):
    with toonport.capture(module, tmp_path / "a", truth=False):
        module(torch.from_numpy(X))
    with toonport.capture(cell, tmp_path / "b"):
        cell(mindspore.Tensor(X))


def _other_input(tmp_path, module, cell):
    with toonport.capture(module, tmp_path / "a"):
        module(torch.from_numpy(X))
    with toonport.capture(cell, tmp_path / "b"):
        cell(mindspore.Tensor(X + 1))


def _twice(tmp_path, module, cell):
    with toonport.capture(module, tmp_path / "a"):
        module(torch.from_numpy(X))
    with toonport.capture(cell, tmp_path / "b"):
        cell(mindspore.Tensor(X))
        cell(mindspore.Tensor(X))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_broken, "000002.safetensors: cannot be read"),
        (_without_truth, "holds no float64 runs"),
        (_other_input, "run 1: input 0 of the port is not that of the reference"),
        (_twice, "1 runs in .*a, 2 in .*b"),
        (lambda path, *_: [(path / name).mkdir() for name in "ab"], "a: no captured run"),
    ],
)
def test_what_cannot_be_judged_is_told(tmp_path, make, words, capsys):
    make(tmp_path, *_pair())
    with pytest.raises(InputError, match=words):
        compare_captures(tmp_path / "a", tmp_path / "b", NAMES)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_capture_that_fails_leaves_nothing(tmp_path):
    module, cell = _pair()
    with pytest.raises(ZeroDivisionError), toonport.capture(module, tmp_path / "a"):
        module(1 / 0)
    with pytest.raises(InputError, match="was not called inside the context"), toonport.capture(cell, tmp_path / "b"):
        pass
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(InputError, match="exists already"), toonport.capture(cell, tmp_path / "full"):
        pass
    with pytest.raises(InputError, match="not the class Net"), toonport.capture(type(module), tmp_path / "c"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_channels_last_inside_is_no_difference_where_all_sides_are_equal(tmp_path):
    """Pictures of 4 x 4 with 4 channels have one shape in every layout."""
    layers = {"a": (torch.nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, pad_mode="pad", padding=1, has_bias=True))}
    layers["act"] = torch.nn.LeakyReLU(0.2), nn.LeakyReLU(0.2)
    reference = torch_library().network(
        {name: pair[0] for name, pair in layers.items()}, lambda net, x: net.act(net.a(x))
    )
    for turn, equal in (((0, 3, 1, 2), True), ((0, 3, 2, 1), False)):
        port = mindspore_library().network(
            {name: pair[1] for name, pair in layers.items()},
            lambda net, x, turn=turn: net.act(net.a(x).permute(0, 2, 3, 1)).permute(*turn),
        )
        carry(reference, port)
        inputs, folder = numbers(2, 4, 4, 4), tmp_path / str(equal)
        with toonport.capture(reference.eval(), folder / "a"):
            reference(torch.from_numpy(inputs))
        with toonport.capture(port.set_train(False), folder / "b"):
            port(mindspore.Tensor(inputs))
        assert compare_captures(folder / "a", folder / "b").equal == equal


def test_named_tuples_and_dataclasses_are_captured_with_layers(tmp_path):
    def forward(net, given, more):
        return net.a(given.first) + net.a(given.second) * more.score

    reference = torch_library().network({"a": torch.nn.Linear(6, 5)}, forward).eval()
    port = mindspore_library().network({"a": nn.Dense(6, 5)}, forward).set_train(False)
    carry(reference, port)
    first, second = torch.from_numpy(VECTORS), torch.from_numpy(VECTORS[::-1].copy())
    with toonport.capture(reference, tmp_path / "a", layers=True):
        reference(Pair(first, second), Found(first[:, :1], 0.5))
    captured = read_index(tmp_path / "a")
    found = compare_with_capture(captured, port, plan_with(captured, port, {}))
    assert found.equal, summary_lines(found)
