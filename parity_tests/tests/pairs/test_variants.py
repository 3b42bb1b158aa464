"""The ten architectures under other names, nested, flattened, reordered and fused: every layer is found, also of ports
with a bug, and the map leads to it."""

import pytest

from convert.plan import plan_of
from parity_tests.harness.matching import match_layers
from parity_tests.harness.pair import as_inputs, target_of
from parity_tests.harness.report.console import summary_lines
from parity_tests.harness.run import compare
from parity_tests.tests.pairs.architectures.table import ARCHITECTURES
from parity_tests.tests.pairs.architectures.variants import RULES, variant
from toonport.own_pair import load

# three manners for each architecture, every manner three times
VARIANTS = [
    (architecture, rule)
    for place, architecture in enumerate(ARCHITECTURES)
    for rule in [list(RULES)[(3 * place + number) % len(RULES)] for number in range(3)]
]
each = pytest.mark.parametrize(
    ("architecture", "rule"), VARIANTS, ids=[f"{architecture.name}, {rule}" for architecture, rule in VARIANTS]
)


def _rewritten(architecture, rule, spoilt):
    """Both networks, and layer of the reference -> its place in the port."""
    import torch

    if spoilt and architecture.name == "DiffusionUnet":
        pytest.skip("many layers of one shape are fed the same: with a bug the search takes minutes")

    torch.manual_seed(0)
    module, cell = architecture.build("torch"), architecture.build("mindspore")
    layers = {row.mindspore.rpartition(".")[0]: row.layer for row in plan_of(module, target_of(cell)).rows}
    if spoilt:
        architecture.spoil(cell)
    cell, moved = variant(cell, rule)
    return module, cell, {layers[path]: other for path, other in moved.items() if path in layers}


@pytest.mark.sampled(3)
@each
@pytest.mark.parametrize("spoilt", [False, True])
def test_every_layer_is_found(architecture, rule, spoilt):
    module, cell, wanted = _rewritten(architecture, rule, spoilt)
    found = match_layers(module, cell, as_inputs(list(architecture.inputs)))
    assert {path: found.layers.get(path) for path in wanted} == wanted
    assert found.mindspore == ()
    assert spoilt or not found.differing


@pytest.mark.sampled(1)
@each
def test_the_bug_of_a_rewritten_port_is_blamed_where_it_is(architecture, rule):
    module, cell, _ = _rewritten(architecture, rule, spoilt=True)
    inputs = list(architecture.inputs)
    names = match_layers(module, cell, as_inputs(inputs)).layers
    load(module, cell, plan_of(module, target_of(cell), names), None)
    found = compare(module, cell, inputs, modes=("weights", "isolated"), names=names)
    holding = architecture.blamed
    while holding and holding not in names:
        holding = holding.rpartition(".")[0]
    assert not found.equal
    assert found.blamed[0].measurement.layer in {architecture.blamed, holding}, summary_lines(found)
