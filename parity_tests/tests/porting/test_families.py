"""Ports of the registry's own networks, written from `torch_ref`, beside their twins that were written by hand."""

import copy

import pytest

from parity_tests.tests.cases import SMALL, seeded_state, small_part
from parity_tests.tests.porting.written import built

PARTS = [(family, part) for family, part in SMALL if (family, part) != ("sagan_cyclegan", "criterionGAN")]


def outputs(cell, reference, layers, picture, training):
    """What a cell returns with the weights of the reference, in one mode."""
    import mindspore

    from convert.plan import plan_of
    from parity_tests.harness.pair import target_of
    from toonport.own_pair import load

    load(reference, cell, plan_of(reference, target_of(cell), layers), None)
    found = cell.set_train(training)(mindspore.Tensor(picture))
    return [each.asnumpy() for each in (found if isinstance(found, tuple) else (found,))]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("family", "part"), PARTS)
def test_a_port_of_the_reference_computes_what_the_twin_written_by_hand_does(family, part, tmp_path):
    import torch

    from convert.family import resolve
    from parity_tests.harness.compare import measure, ulp_neighbour
    from parity_tests.harness.inputs import image
    from parity_tests.harness.judge import judge
    from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
    from parity_tests.harness.sides.torch import TorchSide
    from toonport.porting.network import port_network
    from torch_ref.build import build_torch

    found, kwargs = small_part(family, part)
    reference = build_torch(found, kwargs, seeded_state(family, part))
    side = found.smallest(kwargs)
    picture = image(f"port/{family}/{part}", 2, side, side, found.channels(kwargs))
    port = port_network(reference, (torch.from_numpy(picture),), {})
    cell, _ = built(part, tmp_path, reference, port)
    twin = resolve("ms_models", found.class_name)(**kwargs)
    sides = TorchSide(copy.deepcopy(reference), "float64"), TorchSide(reference)
    head = Measurement(Mode.ACCUMULATED, Probe(), "", "", Quantity(Kind.OUTPUT), 0)
    for training in (False, True):
        runs = []
        for each, seed in ((sides[0], 0), (sides[1], 0), (sides[1], 1)):
            each.set_training(training)
            with each.preserved():
                runs.append(each.call("", [ulp_neighbour(picture, seed)]))
        reference.eval()
        mine = outputs(cell, reference, port.layers, picture, training)
        by_hand = outputs(twin, reference, {}, picture, training)
        for truth, first, second, ported, written in zip(*runs, mine, by_hand, strict=True):
            assert judge(measure(head, truth, [first, second], ported)).equal
            assert judge(measure(head, written, [first, second], ported)).equal
