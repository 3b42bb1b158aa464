"""What `toonport port` refuses because a port of it would be wrong unseen, and what is hard to write."""

import re
from pathlib import Path

import numpy as np
import pytest

from convert.errors import InputError
from parity_tests.harness.report.console import summary_lines
from parity_tests.harness.run import compare
from parity_tests.tests.porting import kinds, refused
from parity_tests.tests.porting.written import built


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ported(name, *args, **kwargs):
    """A network in eval mode, and what is written of it."""
    import torch

    from toonport.porting.network import port_network

    torch.manual_seed(0)
    network = getattr(kinds, name, None) or getattr(refused, name)
    network = network().eval()
    given = [torch.from_numpy(each) for each in args or [numbers(1, 3, 16, 16)] * (not kwargs)]
    return network, port_network(network, tuple(given), {key: torch.from_numpy(each) for key, each in kwargs.items()})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ReadsBuffer", "item: a number out of a tensor"),
        ("DecidesByBuffer", "bool: a decision by the values of a tensor"),
        ("PythonChance", "random numbers outside of torch"),
        ("NumpyChance", "random numbers outside of torch"),
        ("OwnChance", "chance: is changed by the forward"),
        ("Counts", "calls: is changed by the forward"),
        ("Remembers", "seen: is changed by the forward"),
        ("Averages", "in place: a tensor is changed through .data"),
        ("HooksWeight", "Conv2d: with a hook on weight"),
        ("HooksModule", "Conv2d: with hooks on its gradients"),
        ("ReturnsText", "returns no tensor"),
        ("HoldsModule", "cannot be copied"),
        ("Repeats", "blocks.1: is the same module as blocks.0, in a list"),
        ("SetsData", "data: is set on a tensor in the forward"),
        ("SeesChange", "in place: a tensor is used after it was changed under another name"),
        ("Unsaved", "copy_: changes mean, which is no part of the saved state"),
        ("Clips", "clamp_: changes conv.weight, which is trained"),
        ("Halves", "autocast: its choice of types"),
        ("CountsElsewhere", "tally: is changed by the forward"),
        ("Iterates", "gains: is changed by the forward"),
    ],
)
def test_what_a_port_would_not_do_is_refused_by_name(name, words):
    with pytest.raises(InputError, match=words):
        ported(name)


@pytest.mark.parametrize(
    "name", ["Names", "Twice", "Sides", "InPlace", "Borders", "Pads", "Same", "Types", "Windows", "Wraps"]
)
def test_what_is_hard_to_write_computes_what_pytorch_does(name, tmp_path):
    import mindspore
    import torch

    network, port = ported(name)
    cell, _ = built(name, tmp_path, network, port)
    first = numbers(1, 3, 16, 16, seed=1)
    wider = np.concatenate([first, first[..., :11]], -1)
    for given in (first, np.concatenate([wider, -wider])):
        with torch.no_grad():
            wanted = network(torch.from_numpy(given))
        np.testing.assert_allclose(cell(mindspore.Tensor(given)).asnumpy(), wanted.numpy(), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["Pads", "Windows"])
def test_a_graph_of_what_pads_by_a_constant_has_its_gradient_in_every_run(name, tmp_path):
    network, port = ported(name)
    cell, _ = built(name, tmp_path, network, port)
    found = compare(network, cell, numbers(1, 3, 16, 16), ("gradients",))
    compiled = [verdict.measurement for verdict in found.verdicts if verdict.measurement.probe.compiled]
    assert found.equal, summary_lines(found)
    assert {each.probe.call for each in compiled if not each.not_run} == {1, 2}
    assert not any(each.not_run for each in compiled)


def test_a_tensor_that_is_handed_over_twice_is_used_where_the_source_uses_it(tmp_path):
    network, port = ported("Same")
    _, code = built("Same", tmp_path, network, port)
    assert "self.conv(x) + shortcut" in code


def test_a_shared_layer_is_called_in_the_order_of_the_source(tmp_path):
    network, port = ported("Shared")
    _, code = built("Shared", tmp_path, network, port)
    calls = [int(found) for found in re.findall(r"self\.branches\[(\d)\]", code)]
    shared = [line for line in code.splitlines() if "self.act(" in line]
    assert calls == [0, 1, 2]
    assert len(shared) == 3 or "for " in code


def test_a_norm_runs_once_however_often_a_rule_uses_it(tmp_path):
    import mindspore
    import torch

    network, port = ported("Twice")
    cell, _ = built("Twice", tmp_path, network, port)
    given = numbers(2, 3, 16, 16, seed=2)
    network.train()(torch.from_numpy(given))
    cell.set_train()(mindspore.Tensor(given))
    np.testing.assert_allclose(cell.norm.moving_mean.asnumpy(), network.norm.running_mean.numpy(), rtol=1e-4)


def test_what_a_forward_leaves_in_the_state_is_assigned(tmp_path):
    import mindspore
    import torch

    network, port = ported("Moves")
    cell, code = built("Moves", tmp_path, network, port)
    assert [each.name for each in cell.trainable_params()] == ["tail.weight"]
    assert "if self.training:" in code
    network.train()
    cell.set_train()
    for seed in range(3):
        given = numbers(2, 3, 16, 16, seed=seed)
        wanted = network(torch.from_numpy(given)).detach().numpy()
        np.testing.assert_allclose(cell(mindspore.Tensor(given)).asnumpy(), wanted, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(cell.mean.asnumpy(), network.mean.numpy(), rtol=1e-5)


def test_fractions_keep_the_names_that_the_source_gives_them(tmp_path):
    network, port = ported("InPlace")
    _, code = built("InPlace", tmp_path, network, port)
    assert "self.slope = 0.375" in code
    assert "z = y * self.slope" in code
    assert "ops.leaky_relu(x, 0.2)  # the source changes it in place" in code


def test_what_is_not_python_is_refused_with_its_class(monkeypatch):
    from toonport.porting.classes import CellClass
    from toonport.porting.source import network_source

    _, port = ported("Still", image=numbers(1, 3, 16, 16), mask=numbers(1, 1, 16, 16))
    monkeypatch.setattr(CellClass, "text", lambda self: "class 1x1:")
    with pytest.raises(InputError, match="class Still, of Still: what was written is not Python"):
        network_source(port, "net", "net.py:Net")


def test_sizes_and_defaults_that_a_port_is_written_for_are_said():
    from toonport.porting.porter import PortOptions
    from toonport.porting.proof import Proof
    from toonport.porting.readme import readme

    _, sides = ported("Sides")
    assert any(line.endswith("if w > 12:") for line in sides.decisions)
    _, still = ported("Still", image=numbers(1, 3, 16, 16), mask=numbers(1, 1, 16, 16))
    text = readme(PortOptions("kinds.py:Still", "", Path()), "kinds", still, Proof((), ("1x3x16x16",)), None)
    assert "`strength=0.5`" in text
    assert "but not as compiled graphs" in text


def test_no_gradient_flows_where_the_source_has_none(tmp_path):
    network, port = ported("Still", image=numbers(1, 3, 16, 16), mask=numbers(1, 1, 16, 16))
    _, code = built("Still", tmp_path, network, port)
    assert "ops.stop_gradient(self.gate(image))" in code


def test_keyword_inputs_are_tried_at_another_size(tmp_path):
    from parity_tests.harness.pair import as_inputs
    from toonport.porting.proof import other_inputs

    given = {"image": numbers(1, 3, 16, 16), "mask": numbers(1, 1, 16, 16)}
    network, port = ported("Still", **given)
    cell, _ = built("Still", tmp_path, network, port)
    found = other_inputs(network, cell, as_inputs(given), {})
    assert [array.shape for array in found] == [(2, 3, 32, 48), (2, 1, 32, 48)]


def test_what_the_code_of_a_port_lacks_is_said():
    import mindspore
    from torch import nn

    from parity_tests.harness.pair import as_inputs, pair_networks
    from toonport.porting.proof import broken

    class Lacking(mindspore.nn.Cell):
        def construct(self, x):
            return x * nowhere if self.training else x  # noqa: F821

    given = as_inputs(numbers(1, 3))
    assert "nowhere" in broken(pair_networks(nn.Identity(), Lacking()), given)
    assert broken(pair_networks(nn.Identity(), mindspore.nn.Identity()), given) == ""


def test_what_differs_in_one_run_only_is_no_case():
    from parity_tests.harness.replay.case import _Trial

    class Once(_Trial):
        def __init__(self):
            pass

        def differs(self, inputs, clear=1.0):
            return None

        def _repeat_weights(self, inputs):
            pass

    assert Once().smallest([numbers(2, 3)]) is None


@pytest.mark.parametrize(("network", "stem"), [("2d-net.py:Net", "net_2d_net"), ("a.b.net:Net", "net")])
def test_files_have_names_that_can_be_imported(network, stem):
    from toonport.porting.porter import _stem

    assert _stem(network) == stem
