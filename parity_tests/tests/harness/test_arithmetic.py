"""Operations of code under test: which there are, what is computed from which, and how each may be changed."""

import parity_tests  # noqa: F401, I001  # prepares the environment before any framework is imported

import pytest
import torch
from torch.nn import functional as F

from parity_tests.harness.arithmetic import Trace, arithmetic
from parity_tests.harness.rewrites import rewriting

X = torch.arange(8, dtype=torch.float64).reshape(1, 2, 2, 2) + 1


def _traced(function, depth=0, counted=None):
    trace = Trace(marked=True)
    with trace.watching(depth, counted):
        found = function()
    return trace, found


def _words(trace, name):
    return [cause.value for cause, _ in arithmetic(trace.written) if cause.where.startswith(name)]


def test_sizes_are_not_multiplied_but_factors_of_elements_are():
    trace, _ = _traced(lambda: F.interpolate(X, scale_factor=2.0) * 2.0)
    assert "2 → 3" in _words(trace, "interpolate")
    assert "2 → 20" not in _words(trace, "interpolate")
    assert "2 → 20" in _words(trace, "mul")


def test_what_a_tensor_was_computed_from_is_known():
    def terms():
        shared = X + 1
        changed = torch.zeros_like(X)
        changed[0] = shared[0] / 4
        return (shared * 2).mean(), changed.sum()

    trace, (first, second) = _traced(terms)
    own = {one.name: bool(one.bit & trace.marks(second)) for one in trace.written if one.bit & ~trace.marks(first)}
    assert {"sum", "setitem"} <= own.keys()
    assert all(own.values())
    assert all(
        one.bit & trace.marks(first) and one.bit & trace.marks(second) for one in trace.written if one.name == "add"
    )


def test_operations_of_modules_inside_are_not_changed():
    inner = torch.nn.Sequential(torch.nn.Softplus())
    trace, _ = _traced(lambda: inner(X) + 1)
    assert {one.name for one in trace.written} == {"add"}
    trace, _ = _traced(lambda: inner(X) + 1, 0, [])
    assert "softplus" in {one.name for one in trace.written}
    assert "softplus" in trace.names


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ("sub → add", (X + 3) / 2),
        ("operands exchanged", (3 - X) / 2),
        ("2 → 20", (X - 3) / 20),
        ("3 → -3", (X + 3) / 2),
    ],
)
def test_a_candidate_changes_one_call(words, changed):
    trace, _ = _traced(lambda: (X - 3.0) / 2.0)
    found = [made for cause, made in arithmetic(trace.written) if cause.value == words]
    results = []
    for made in found:
        with rewriting(made()):
            results.append((X - 3.0) / 2.0)
    assert any(torch.equal(result, changed) for result in results)


def test_numbers_of_channels_may_be_in_the_opposite_order():
    means = torch.tensor([3.0, 5.0], dtype=torch.float64).reshape(1, 2, 1, 1)
    trace, _ = _traced(lambda: (X - means).sum())
    (made,) = (made for cause, made in arithmetic(trace.written) if cause.value == "second operand reversed")
    with rewriting(made()):
        assert torch.equal(X - means, X - means.flip(1))
    assert "first operand reversed" not in _words(trace, "sub")


def test_lines_of_the_code_are_named():
    trace, _ = _traced(lambda: X - 3)
    assert all("test_arithmetic.py:" in cause.where for cause, _ in arithmetic(trace.written))
