"""Pairs of networks that nobody registered: a right port is silent, a bug in it is blamed at the right layer."""

import numpy as np
import pytest

from convert.errors import InputError
from parity_tests.harness.measurement import Mode
from parity_tests.harness.report.console import summary_lines
from parity_tests.harness.run import compare
from parity_tests.harness.sides.base import LayerError
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.tests.pairs.manner import PICTURE, SERIES, VECTORS
from parity_tests.tests.pairs.manners import MANNERS, blamed_layer, right_port, wrong_port
from parity_tests.tests.pairs.twins import carry, mindspore_library, torch_library, twin


@pytest.mark.sampled(4)
@pytest.mark.parametrize("manner", MANNERS, ids=lambda manner: manner.name)
def test_a_right_pair_is_silent_and_a_bug_is_blamed_where_it_is(manner):
    right = right_port(manner)
    assert right.equal, summary_lines(right)
    wrong = wrong_port(manner)
    assert not wrong.equal
    assert blamed_layer(wrong) in manner.blamed, summary_lines(wrong)


def _dense_pair():
    return twin(lambda lib: {"a": lib.linear(6, 6), "b": lib.linear(6, 6)}, lambda lib: lambda net, x: net.b(net.a(x)))


def test_shared_weights_are_compared_and_a_port_that_no_longer_shares_them_is_found():
    def layers(lib, shared):
        a = lib.linear(6, 6)
        return {"a": a, "b": a if shared else lib.linear(6, 6)}

    def built(library, shared):
        return library.network(layers(library, shared), lambda net, x: net.b(net.a(x)))

    reference, port = built(torch_library(), True), built(mindspore_library(), True)
    carry(reference, port)
    assert compare(reference, port, VECTORS).equal
    apart = built(mindspore_library(), False)
    carry(reference, apart)
    found = compare(reference, apart, VECTORS)
    assert not found.equal
    assert "a tensor of its own, in the reference the same as a.weight" in found.blamed[0].measurement.problem


def test_weights_frozen_on_one_side_only_are_said_so():
    pair = _dense_pair()
    pair.module.a.weight.requires_grad_(False)
    found = compare(pair.module, pair.cell, VECTORS)
    assert {verdict.measurement.problem for verdict in found.blamed} == {
        "frozen in the reference (requires_grad is False), trained in the port"
    }
    pair.cell.a.weight.requires_grad = False
    assert compare(pair.module, pair.cell, VECTORS).equal


def test_a_constant_buffer_that_the_port_keeps_elsewhere_is_no_difference():
    import torch

    pair = twin(lambda lib: {"a": lib.linear(6, 6)}, lambda lib: lambda net, x: net.a(x) * 2.0)
    pair.module.register_buffer("two", torch.full((1,), 2.0), persistent=False)
    pair.module.register_buffer("three", torch.full((1,), 3.0))
    assert compare(pair.module, pair.cell, VECTORS).equal


def test_networks_are_left_as_they_came():
    pair = twin(lambda lib: {"n": lib.batch_norm(3), "d": lib.dropout(0.5)}, lambda lib: lambda net, x: net.n(x))
    pair.module.train()
    pair.module.d.eval()
    pair.cell.set_train(True)
    pair.cell.d.set_train(False)
    state = {name: value.clone() for name, value in pair.module.state_dict().items()}
    values = {name: value.asnumpy().copy() for name, value in pair.cell.parameters_and_names()}
    compare(pair.module, pair.cell, PICTURE, modes=("isolated",), dtype="float16")
    assert (pair.module.training, pair.module.d.training) == (True, False)
    assert (pair.cell.training, pair.cell.d.training) == (True, False)
    after = pair.module.state_dict()
    assert all(after[name].dtype == value.dtype and bool((after[name] == value).all()) for name, value in state.items())
    for name, value in pair.cell.parameters_and_names():
        assert value.asnumpy().dtype == np.float32
        assert np.array_equal(value.asnumpy(), values[name])


def test_equal_infinities_are_said_and_the_coverage_too():
    pair = twin(
        lambda lib: {"a": lib.linear(6, 6), "act": lib.relu()},
        lambda lib: lambda net, x: lib.log(net.act(net.a(x))),
        lambda lib: lambda net, x: lib.log(lib.relu_of(net.a(x))),
    )
    del pair.cell.act
    found = compare(pair.module, pair.cell, VECTORS)
    words = "\n".join(summary_lines(found))
    assert found.equal
    assert found.covered == ["act"]
    assert "NaN or infinite at the same places on both sides" in words
    assert "67% of the reference's layers compared alone; the others (1) within what holds them: act" in words


def test_tensors_of_either_framework_are_taken():
    import mindspore
    import torch

    pair = _dense_pair()
    for inputs in (torch.from_numpy(VECTORS), mindspore.Tensor(VECTORS), [torch.from_numpy(VECTORS).double()]):
        assert compare(pair.module, pair.cell, inputs, modes=("isolated",)).equal


def test_a_port_that_does_not_run_shows_the_layer_and_the_frameworks_first_line():
    pair = twin(
        lambda lib: {"s": lib.sequence(lib.linear(6, 5), lib.linear(5, 4))}, lambda lib: lambda net, x: net.s(x)
    )
    pair.cell.s[1] = mindspore_library().linear(3, 4)
    found = compare(pair.module, pair.cell, VECTORS, modes=("accumulated",))
    verdict = found.blamed[0]
    assert verdict.measurement.layer == "s.1"
    assert verdict.measurement.problem.startswith("the port cannot run it: ")
    assert "\n" not in verdict.measurement.problem


def test_a_fault_of_the_visit_is_not_blamed_on_the_network():
    pair = _dense_pair()
    for side in (TorchSide(pair.module), MindSporeSide(pair.cell)):

        def fails(call):
            raise KeyError("of the visit")

        with pytest.raises(KeyError, match="of the visit"):
            side.trace([VECTORS], fails)
        with pytest.raises(LayerError, match=r"^a: "):
            side.trace([VECTORS[:, :3]], fails)


def test_a_gradient_that_fails_leaves_later_ones_as_they_are():
    failing = twin(lambda lib: {"a": lib.linear(6, 6)}, lambda lib: lambda net, x: _refuse(net.a(x)))
    recurrent = twin(lambda lib: {"r": lib.lstm(6, 4)}, lambda lib: lambda net, x: net.r(x)[0])
    with pytest.raises(LayerError, match="refused"):
        MindSporeSide(failing.cell).gradients("", [VECTORS], [VECTORS])
    cotangent = np.ones((5, 2, 4), np.float32)
    assert MindSporeSide(recurrent.cell).gradients("", [SERIES], [cotangent]).inputs[0].shape == SERIES.shape


def _refuse(x):
    raise ValueError("refused")


def test_wrong_arguments_are_one_line_errors():
    import torch

    pair = _dense_pair()
    cases = (
        ((pair.cell, pair.module, VECTORS), {}, "the reference is a torch.nn.Module, not a Network"),
        ((torch_library().sequence(torch.nn.LazyLinear(3)), pair.cell, VECTORS), {}, "0.weight has no shape yet"),
        ((pair.module, type(pair.cell), VECTORS), {}, r"the class Network \(build it first\)"),
        ((pair.module, pair.cell, VECTORS[:, :3]), {}, "the reference's layer a cannot run on these inputs"),
        ((pair.module, pair.cell, np.array(["x"])), {}, "arrays of numbers"),
        ((pair.module, pair.cell, VECTORS), {"dtype": "int8"}, "dtype is one of"),
        ((pair.module, pair.cell, VECTORS), {"modes": ("all",)}, "unknown mode all"),
    )
    for arguments, options, words in cases:
        with pytest.raises(InputError, match=words) as caught:
            compare(*arguments, **options)
        assert "\n" not in str(caught.value)


def test_captures_keep_the_structure_of_what_layers_take_and_return(tmp_path):
    pair = twin(
        lambda lib: {"a": lib.linear(6, 5)},
        lambda lib: lambda net, x, *, deep, scale=1: {"y": net.a(x), "z": [net.a(deep["x"]), None, scale]},
    )
    keywords = {"deep": {"x": -VECTORS}, "scale": 2}
    runs = [
        compare(pair.module, pair.cell, VECTORS, keywords=keywords, captures=tmp_path, modes=(Mode.ACCUMULATED,))
        for _ in range(2)
    ]
    assert [run.equal for run in runs] == [True, True]
    assert [v.measurement.error for v in runs[0].verdicts] == [v.measurement.error for v in runs[1].verdicts]


def _renamed(slope=0.2, wrapped=False):
    import mindspore

    lib, there = mindspore_library(), torch_library()
    reference = there.network(
        {"a": there.conv(3, 4), "act": there.leaky(), "s": there.sequence(there.group_norm(2, 4), there.conv(4, 3))},
        lambda net, x: net.s(net.act(net.a(x))),
    )
    own = {"first": lib.conv(3, 4), "bend": lib.leaky(slope), "norm": lib.group_norm(2, 4), "last": lib.conv(4, 3)}
    port = lib.network(own, lambda net, x: net.last(net.norm(net.bend(net.first(x)))))
    names = {"a": "first", "act": "bend", "s.0": "norm", "s.1": "last"}
    arrays = {name: value.numpy() for name, value in reference.state_dict().items()}
    for name, value in port.parameters_and_names():
        layer, _, leaf = name.rpartition(".")
        torch_layer = {there: here for here, there in names.items()}[layer]
        value.set_data(
            mindspore.Tensor(arrays[f"{torch_layer}.{ {'gamma': 'weight', 'beta': 'bias'}.get(leaf, leaf) }"])
        )
    if not wrapped:
        return reference, port, names
    names = {path: f"net.{other}" for path, other in names.items()}
    return reference, lib.network({"net": port}, lambda net, x: net.net(x)), names


@pytest.mark.parametrize("wrapped", [False, True])
def test_layers_that_are_called_otherwise_are_compared_where_names_say_so(wrapped):
    reference, port, names = _renamed(wrapped=wrapped)
    found = compare(reference, port, PICTURE, names=names)
    assert found.equal, summary_lines(found)
    assert found.covered == ["s"]
    assert not compare(reference, port, PICTURE, modes=("weights",)).equal
    reference, port, names = _renamed(slope=0.1, wrapped=wrapped)
    assert compare(reference, port, PICTURE, names=names).blamed[0].measurement.layer == "act"


def test_names_of_layers_that_are_not_there_are_one_line_errors():
    reference, port, names = _renamed()
    cases = (({**names, "x": "first"}, "no layer x"), ({"a": "second"}, "the port has no layer second"))
    for wrong, words in (*cases, ({"a": "first", "s.1": "first"}, "two layers")):
        with pytest.raises(InputError, match=words):
            compare(reference, port, PICTURE, names=wrong)
