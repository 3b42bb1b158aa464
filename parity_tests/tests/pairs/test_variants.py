"""The ten architectures under other names, nested, flattened, reordered and fused: every layer is found, also of ports
with a bug, and the map leads to it."""

from dataclasses import replace

import pytest

from parity_tests.harness.report.console import summary_lines
from parity_tests.tests.pairs.architectures.rewritten import VARIANTS

each = pytest.mark.parametrize("right", VARIANTS, ids=lambda right: f"{right.architecture.name}, {right.rule}")


@pytest.mark.sampled(3)
@each
@pytest.mark.parametrize("spoilt", [False, True])
def test_every_layer_is_found(right, spoilt):
    port = replace(right, spoilt=spoilt)
    _, _, wanted = port.built
    assert {path: port.found.layers.get(path) for path in wanted} == wanted
    assert port.found.mindspore == ()
    assert spoilt or not port.found.differing


@pytest.mark.sampled(1)
@each
def test_the_bug_of_a_rewritten_port_is_blamed_where_it_is(right):
    port = replace(right, spoilt=True)
    compared = port.compared()
    assert not compared.equal
    assert compared.blamed[0].measurement.layer in port.blamable, summary_lines(compared)
