"""Layers that a port calls otherwise, nests otherwise or builds in another order are found, or it is said why not."""

import numpy as np
import pytest

from convert.errors import InputError
from parity_tests.harness.matching import match_layers
from parity_tests.tests.pairs.manner import PICTURE, SERIES, VECTORS, numbers
from parity_tests.tests.pairs.twins import carry, mindspore_library, torch_library


def _torch(layers, forward):
    library = torch_library()
    return library.network(layers(library), forward(library)).eval()


def _mindspore(layers, forward):
    library = mindspore_library()
    return library.network(layers(library), forward(library)).set_train(False)


def _in_order(*names):
    def forward(lib):
        def run(net, x):
            for name in names:
                x = getattr(net, name)(x)
            return x

        return run

    return forward


def _attention(q, k, v, o, first="qkv"):
    def forward(lib):
        def run(net, x):
            made = {role: getattr(net, {"q": q, "k": k, "v": v}[role])(x) for role in first}
            return getattr(net, o)(lib.softmax(made["q"] @ made["k"].swapaxes(-1, -2)) @ made["v"])

        return run

    return forward


def _linears(*names, width=6):
    return lambda lib: {name: lib.linear(width, width) for name in names}


def _convs(*names):
    return lambda lib: {name: lib.conv(3, 3) for name in names}


CASES = {
    "renamed": (
        _convs("a", "b"), _in_order("a", "b"), _convs("first", "second"), _in_order("first", "second"), PICTURE,
        {"a": "first", "b": "second"},
    ),
    "built in another order": (
        _convs("a", "b", "c"), _in_order("a", "b", "c"), _convs("z", "y", "x"), _in_order("x", "y", "z"), PICTURE,
        {"a": "x", "b": "y", "c": "z"},
    ),
    "names exchanged": (
        _convs("a", "b"), _in_order("a", "b"), _convs("a", "b"), _in_order("b", "a"), PICTURE, {"a": "b", "b": "a"},
    ),
    "a sequence flattened": (
        lambda lib: {"s": lib.sequence(lib.conv(3, 4), lib.relu(), lib.conv(4, 3))}, _in_order("s"),
        lambda lib: {"c": lib.conv(3, 4), "d": lib.conv(4, 3)},
        lambda lib: lambda net, x: net.d(lib.relu_of(net.c(x))), PICTURE, {"s.0": "c", "s.2": "d"},
    ),
    "named layers in a sequence": (
        lambda lib: {"c": lib.conv(3, 4), "n": lib.batch_norm(4), "d": lib.conv(4, 3)}, _in_order("c", "n", "d"),
        lambda lib: {"body": lib.sequence(lib.conv(3, 4), lib.batch_norm(4), lib.conv(4, 3))}, _in_order("body"),
        PICTURE, {"c": "body.0", "n": "body.1", "d": "body.2"},
    ),
    "nested deeper": (
        lambda lib: {"s": lib.sequence(lib.linear(6, 6), lib.linear(6, 6))}, _in_order("s"),
        lambda lib: {"t": lib.sequence(lib.sequence(lib.linear(6, 6)), lib.sequence(lib.linear(6, 6)))},
        _in_order("t"), VECTORS, {"s": "t", "s.0": "t.0.0", "s.1": "t.1.0"},
    ),
    "query, key and value": (
        _linears("q", "k", "v", "o"), _attention("q", "k", "v", "o"),
        _linears("w1", "w2", "w3", "w4"), _attention("w3", "w4", "w1", "w2", "vkq"), SERIES,
        {"q": "w3", "k": "w4", "v": "w1", "o": "w2"},
    ),
    "one-dimensional convolutions": (
        lambda lib: {"a": lib.conv1(5, 5), "b": lib.conv1(5, 5)}, _in_order("a", "b"),
        lambda lib: {"v": lib.conv1(5, 5), "u": lib.conv1(5, 5)}, _in_order("u", "v"),
        np.ascontiguousarray(SERIES.transpose(1, 0, 2)), {"a": "u", "b": "v"},
    ),
    "channels last inside": (
        lambda lib: {"a": lib.linear(6, 6), "b": lib.linear(6, 6)}, _in_order("a", "b"),
        _linears("m", "n"), lambda lib: lambda net, x: net.n(net.m(x.swapaxes(0, 1))).swapaxes(0, 1), SERIES,
        {"a": "m", "b": "n"},
    ),
    "called twice": (
        _linears("a", "b"), lambda lib: lambda net, x: net.b(net.a(net.a(x))),
        _linears("f", "e"), lambda lib: lambda net, x: net.f(net.e(net.e(x))), VECTORS, {"a": "e", "b": "f"},
    ),
    "skip connections": (
        _convs("a", "b", "c"), lambda lib: lambda net, x: x + net.c(x + net.b(lib.relu_of(net.a(x)))),
        _convs("k", "l", "m"), lambda lib: lambda net, x: x + net.k(x + net.m(lib.relu_of(net.l(x)))), PICTURE,
        {"a": "l", "b": "m", "c": "k"},
    ),
    "tensors that lie deeper in MindSpore": (
        lambda lib: {"a": lib.conv3(3, 4), "n": lib.batch_norm3(4), "m": lib.batch_norm3(4)}, _in_order("a", "n", "m"),
        lambda lib: {"w": lib.batch_norm3(4), "v": lib.batch_norm3(4), "u": lib.conv3(3, 4)}, _in_order("u", "v", "w"),
        numbers(1, 3, 3, 4, 4), {"a": "u", "n": "v", "m": "w"},
    ),
    "a layer whose parts do not run": (
        lambda lib: {"t": lib.attention(6, 2), "a": lib.linear(6, 6)},
        lambda lib: lambda net, x: net.a(net.t(x, x, x)[0]),
        lambda lib: {"b": lib.linear(6, 6), "s": lib.attention(6, 2)},
        lambda lib: lambda net, x: net.b(net.s(x, x, x)[0]), SERIES, {"t": "s", "a": "b"},
    ),
    "own parameters called otherwise": (
        lambda lib: {"a": lib.linear(6, 5), "scale": lib.parameter(5)}, lambda lib: lambda net, x: net.a(x) * net.scale,
        lambda lib: {"b": lib.linear(6, 5), "gain": lib.parameter(5)}, lambda lib: lambda net, x: net.b(x) * net.gain,
        VECTORS, {"": "", "a": "b", "scale": "gain"},
    ),
    "activations": (
        lambda lib: {"a": lib.conv(3, 3), "f": lib.relu(), "b": lib.conv(3, 3), "g": lib.relu()},
        _in_order("a", "f", "b", "g"),
        lambda lib: {"q": lib.relu(), "c": lib.conv(3, 3), "p": lib.relu(), "d": lib.conv(3, 3)},
        _in_order("c", "p", "d", "q"), PICTURE, {"a": "c", "b": "d", "f": "p", "g": "q"},
    ),
    "two branches that differ later": (
        _linears("a", "b"), lambda lib: lambda net, x: net.a(x) - lib.relu_of(net.b(x)),
        _linears("g", "h"), lambda lib: lambda net, x: net.h(x) - lib.relu_of(net.g(x)), VECTORS, {"a": "h", "b": "g"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_layers_are_found(case):
    torch_layers, torch_forward, port_layers, port_forward, inputs, wanted = case
    found = match_layers(_torch(torch_layers, torch_forward), _mindspore(port_layers, port_forward), [inputs])
    assert found.layers == wanted
    assert (found.torch, found.mindspore) == ((), ())


def test_branches_that_nobody_can_tell_apart_are_refused_until_one_is_said():
    reference = _torch(_linears("a", "b"), lambda lib: lambda net, x: net.a(x) + net.b(x))
    port = _mindspore(_linears("g", "h"), lambda lib: lambda net, x: net.g(x) + net.h(x))
    with pytest.raises(InputError, match=r"two maps lead .* a = [gh] or [gh]; b = [gh] or [gh]"):
        match_layers(reference, port, [VECTORS])
    assert match_layers(reference, port, [VECTORS], {"a": "h"}).layers == {"a": "h", "b": "g"}


@pytest.mark.parametrize(
    ("forward", "differing"),
    [
        (lambda lib: lambda net, x: net.h(lib.relu_of(net.g(x))), ("b",)),
        (lambda lib: lambda net, x: net.h(2 * net.g(x)), ("b",)),
        (lambda lib: lambda net, x: net.h(net.g(x)) + 1, ("",)),
        (lambda lib: lambda net, x: net.h(net.g(x)), ()),
    ],
)
def test_layers_of_a_port_that_computes_something_else_are_found_and_it_is_said_where(forward, differing):
    reference = _torch(_linears("a", "b"), _in_order("a", "b"))
    found = match_layers(reference, _mindspore(_linears("h", "g"), forward), [VECTORS])
    assert found.layers == {"a": "g", "b": "h"}
    assert found.differing == differing


def test_a_layer_without_counterpart_is_named():
    reference = _torch(_linears("a", "b"), _in_order("a", "b"))
    port = _mindspore(lambda lib: {"g": lib.linear(6, 7), "h": lib.linear(7, 6)}, _in_order("g", "h"))
    with pytest.raises(InputError, match=r"none for a \(Linear\)"):
        match_layers(reference, port, [VECTORS])


def test_layers_of_one_side_only_are_listed():
    reference = _torch(_linears("a", "unused"), _in_order("a"))
    port = _mindspore(lambda lib: {"g": lib.linear(6, 6), "more": lib.linear(2, 2)}, _in_order("g"))
    found = match_layers(reference, port, [VECTORS])
    assert (found.layers, found.torch, found.mindspore) == ({"a": "g"}, ("unused",), ("more",))


def test_equal_weights_tell_layers_apart_that_nothing_else_does():
    reference = _torch(_linears("a", "b"), lambda lib: lambda net, x: net.a(x) + net.b(x))
    port = _mindspore(_linears("g", "h"), lambda lib: lambda net, x: net.g(x) + net.h(x))
    carry(reference, port, {"a": "h", "b": "g"})
    found = match_layers(reference, port, [VECTORS])
    assert found.layers == {"a": "h", "b": "g"}
    assert {match.reason for match in found.matches} == {"no other layer holds these weights"}
