"""`toonport port`: what is written, what is kept, and what is refused."""

import ast
from pathlib import Path

import numpy as np
import pytest

from parity_tests.tests.porting import networks
from toonport.cli import main

FILE = Path(networks.__file__)


def run(network, out, *more, inputs="3x16x16"):
    return main(["port", f"{FILE}:{network}", "--inputs", inputs, "--out", str(out), *more])


def written(name, tmp_path, *inputs):
    """A network and its port, built from the code, with the same weights; and the code."""
    import torch

    from convert.plan import plan_of
    from parity_tests.harness.pair import target_of
    from toonport.own_pair import load
    from toonport.porting.network import port_network
    from toonport.porting.porter import PortOptions, _fresh, _write

    torch.manual_seed(0)
    network = getattr(networks, name)()
    ported = port_network(network, tuple(torch.from_numpy(each) for each in inputs), {})
    _write(tmp_path / "port", name, ported, PortOptions(f"networks.py:{name}", "", tmp_path / "port"))
    path = tmp_path / "port" / f"{name}_ms.py"
    cell = _fresh(f"{path}:{ported.name}", name)
    load(network, cell, plan_of(network, target_of(cell), ported.layers), None)
    return network.eval(), cell.set_train(False), path.read_text()


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [("Functions", [numbers(2, 4, 6, 8), numbers(2, 4, 6, 8, seed=1)]), ("Layers", [numbers(2, 4, 6, 9)])],
)
def test_what_rules_write_computes_what_pytorch_does(name, inputs, tmp_path):
    import mindspore
    import torch

    from toonport.porting.values import leaves

    network, cell, _ = written(name, tmp_path, *inputs)
    larger = [np.concatenate([each, each[..., ::-1]], -1)[:1].copy() for each in inputs]
    for given in (inputs, larger):
        with torch.no_grad():
            wanted = leaves(network(*(torch.from_numpy(each) for each in given)))
        found = leaves(cell(*(mindspore.Tensor(each) for each in given)))
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one.asnumpy(), other.numpy(), rtol=2e-4, atol=2e-5)


def test_code_is_as_a_person_would_write_it(tmp_path):
    _, _, code = written("Branches", tmp_path, numbers(2, 3, 16, 16))
    classes = {node.name: node for node in ast.parse(code).body if isinstance(node, ast.ClassDef)}
    assert list(classes) == ["Branch", "Branches"]  # one class for both kernels
    assert "def __init__(self, kernel_size: int, padding: int) -> None:" in code
    assert "for layer in self.blocks:\n            y = layer(y)" in code
    assert "momentum=0.7" in code
    assert "toonport" not in code.replace("ported from", "")
    assert "self.training" not in code  # dropout alone is no reason for two ways
    names = [node.targets[0].attr for node in classes["Branches"].body[1].body if isinstance(node, ast.Assign)]
    assert names == ["scale", "stem", "blocks", "wide", "drop", "head"]


def test_an_equal_port_is_kept_with_its_weights(tmp_path, capsys):
    import mindspore

    assert run("Branches", tmp_path / "port") == 0
    assert "kept" in capsys.readouterr().out
    kept = {path.name for path in (tmp_path / "port").iterdir()}
    assert {"networks_ms.py", "networks.ckpt", "networks.ckpt.ledger.json", "report.html", "README.md"} <= kept
    assert not list(tmp_path.glob("*.unproven"))
    assert "1x3x16x16 and 2x3x32x48" in (tmp_path / "port" / "README.md").read_text()
    weights = mindspore.load_checkpoint(str(tmp_path / "port" / "networks.ckpt"))
    assert "blocks.1.norm.moving_variance" in weights
    assert (weights["scale"].asnumpy() == 0.5).all()  # which the code begins with zeros


def test_nothing_is_kept_where_a_rule_is_wrong(tmp_path, monkeypatch):
    from toonport.porting import bodies
    from toonport.porting.expressions import Expr

    def wrong(w, input, negative_slope=0.01, inplace=False):
        """PyTorch's slope, forgotten."""
        return Expr(f"ops.leaky_relu({w.text(input)}, 0.2)")

    monkeypatch.setitem(bodies.RULES, "leaky_relu", wrong)
    assert run("Branch", tmp_path / "port", "--kwargs", '{"width": 3, "kernel": 3}', inputs="3x8x8") == 1
    assert not (tmp_path / "port").exists()
    unproven = tmp_path / "port.unproven"
    assert {path.name for path in unproven.iterdir()} >= {"report.html", "case", "UNPROVEN.txt"}
    assert not list(unproven.glob("*.ckpt"))


@pytest.mark.parametrize(
    ("network", "inputs", "words"),
    [
        ("Unruly", "6x6", "cdist: no rule for this operator (networks.py, line"),
        ("Deciding", "3x8x8", "bool: a decision by the values of a tensor (networks.py, line"),
        ("Overwriting", "3x8x8", "in place: a tensor is used after it was changed under another name"),
    ],
)
def test_what_has_no_rule_is_refused_by_name_and_line(network, inputs, words, tmp_path, capsys):
    assert run(network, tmp_path / "port", inputs=inputs) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_rest_is_written_with_partial(tmp_path, capsys):
    assert run("Unruly", tmp_path / "port", "--partial", inputs="6x6") == 4
    assert "left out: cdist: no rule" in capsys.readouterr().out
    code = (tmp_path / "port.unproven" / "networks_ms.py").read_text()
    assert "not_ported(" in code
    assert "self.first = nn.Dense(6, 6)" in code


def test_a_port_that_is_bound_to_one_size_is_found(tmp_path):
    from parity_tests.harness.pair import as_inputs
    from toonport.porting.proof import other_inputs

    inputs = numbers(1, 3, 16, 16)
    network, cell, _ = written("Pinned", tmp_path, inputs)
    found = other_inputs(network, cell, as_inputs(inputs), {})
    assert isinstance(found, str)
    assert "2x3x32x48" in found


def test_a_place_that_is_taken_is_refused(tmp_path, capsys):
    (tmp_path / "port").mkdir()
    (tmp_path / "port" / "mine.txt").write_text("mine")
    assert run("Branches", tmp_path / "port") == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "port" / "mine.txt").read_text() == "mine"
