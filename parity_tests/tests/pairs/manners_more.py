"""Manners that are rarer, but that people write all the same."""

import numpy as np

from parity_tests.tests.pairs.manner import PICTURE, VECTORS, Manner, bump, convs, dense, epsilon, numbers, through

COMPLEX = (VECTORS + 1j * VECTORS[::-1]).astype(np.complex64)
BYTES = (80 * np.abs(PICTURE)).clip(0, 255).astype(np.uint8)


def _written(factor):
    """A layer that gets numbers from another one before it runs, as the norms of AdaIN do."""

    def layers(lib):
        return {"a": lib.linear(6, 6), "scaled": lib.network({}, lambda net, x: x * net.gain)}

    def forward(lib):
        def run(net, x):
            object.__setattr__(net.scaled, "gain", factor * net.a(x))
            return net.scaled(x)

        return run

    return layers, forward


MORE = (
    Manner(
        "None in", dense, lambda lib: lambda net, x, mask: net.a(x) if mask is None else net.b(x), [VECTORS, None],
        ("",), lambda lib: lambda net, x, mask: 2 * net.a(x),
    ),
    Manner(
        "text in", dense, lambda lib: lambda net, x, how: net.a(x) if how == "first" else net.b(x), [VECTORS, "first"],
        ("",), lambda lib: lambda net, x, how: 2 * net.a(x),
    ),
    Manner(
        "complex in", dense, lambda lib: lambda net, x: net.a(lib.real(x)) + net.a(lib.imag(x)), [COMPLEX],
        ("",), lambda lib: lambda net, x: net.a(lib.real(x)) - net.a(lib.imag(x)),
    ),
    Manner(
        "bytes in", convs, lambda lib: lambda net, x: net.b(net.a(lib.float32(x) / 255)), [BYTES],
        ("",), lambda lib: lambda net, x: net.b(net.a(lib.float32(x) / 256)),
    ),
    Manner(
        "truth values out", dense, lambda lib: lambda net, x: net.a(x) > 0, VECTORS,
        ("",), lambda lib: lambda net, x: net.a(x) > 0.5,
    ),
    Manner(
        "one number out", dense, lambda lib: lambda net, x: (net.a(x) ** 2).mean(), VECTORS,
        ("",), lambda lib: lambda net, x: (net.a(x) ** 2).sum(),
    ),
    Manner(
        "a tensor twice, and the input itself, out", dense,
        lambda lib: lambda net, x: (lambda y: [y, y, x])(net.a(x)), VECTORS,
        ("",), lambda lib: lambda net, x: (lambda y: [y, 2 * y, x])(net.a(x)),
    ),
    Manner(
        "more out in train mode", dense,
        lambda lib: lambda net, x: [net.a(x), net.b(net.a(x))] if net.training else [net.a(x)], VECTORS,
        ("",), lambda lib: lambda net, x: [net.a(x), net.b(net.a(x)) + 1] if net.training else [net.a(x)],
    ),
    Manner(
        "no gradient through a factor", dense,
        lambda lib: lambda net, x: net.b((lambda y: y * lib.detached(y))(net.a(x))), VECTORS,
        ("",), lambda lib: lambda net, x: net.b((lambda y: y * y)(net.a(x))),
    ),
    Manner(
        "masked by infinity", dense,
        lambda lib: lambda net, x: lib.softmax((lambda y: y.masked_fill(y < 0, float("-inf")))(net.a(x))), VECTORS,
        ("",),
        lambda lib: lambda net, x: lib.softmax((lambda y: y.masked_fill(y < -0.5, float("-inf")))(net.a(x))),
    ),
    Manner(
        "a weight without its layer", dense, lambda lib: lambda net, x: x @ net.a.weight.T + net.a.bias, VECTORS,
        ("",), lambda lib: lambda net, x: x @ net.a.weight.T,
    ),
    Manner(
        "rounded to half inside", dense, lambda lib: lambda net, x: net.b(lib.half(net.a(x))), VECTORS,
        ("",), lambda lib: lambda net, x: net.b(lib.half(1.1 * net.a(x))),
    ),
    Manner(
        "numbers written into a layer", _written(1.0)[0], _written(1.0)[1], VECTORS, ("scaled", ""), _written(1.1)[1],
    ),
    Manner("one vector without a batch", dense, through("a", "b"), numbers(6), ("b",), spoil=bump("b")),
    Manner(
        "half precision with a batch norm", lambda lib: {"a": lib.conv(3, 4), "n": lib.batch_norm(4)},
        through("a", "n"), PICTURE, ("n",), spoil=bump("n", "gamma"), dtype="float16",
    ),
    Manner(
        "half precision with a norm", lambda lib: {"a": lib.conv(3, 4), "n": lib.group_norm(2, 4), "act": lib.leaky()},
        through("a", "n", "act"), PICTURE, ("n",), spoil=epsilon("n"), dtype="float16",
    ),
)  # fmt: skip
