"""Ten published networks outside the registry: converted both ways, judged equal, and a bug in each is blamed."""

import numpy as np
import pytest

from convert.formats import open_checkpoint
from parity_tests.harness.report.console import summary_lines
from parity_tests.harness.run import compare
from parity_tests.tests.pairs.architectures.table import ARCHITECTURES
from parity_tests.tests.pairs.twins import carry
from toonport.own_pair import OwnPair, convert_own

each = pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda architecture: architecture.name)


@each
def test_checkpoints_go_to_mindspore_and_back_bit_for_bit(architecture, tmp_path):
    import torch

    pair = OwnPair(architecture.door("torch"), architecture.door("mindspore"))
    torch.manual_seed(1)
    torch.save(architecture.build("torch").state_dict(), tmp_path / "first.pt")
    convert_own(pair, str(tmp_path / "first.pt"), str(tmp_path / "there.ckpt"))
    convert_own(pair, str(tmp_path / "there.ckpt"), str(tmp_path / "back.pt"))
    first, back = (open_checkpoint(tmp_path / name).tensors for name in ("first.pt", "back.pt"))
    assert first.keys() == back.keys()
    for name, entry in first.items():
        assert entry.read().tobytes() == back[name].read().tobytes()
        assert entry.spec == back[name].spec


@pytest.mark.sampled(2)
@each
def test_a_right_port_is_equal_and_its_bug_is_blamed_where_it_is(architecture):
    import torch

    torch.manual_seed(0)
    module, cell = architecture.build("torch"), architecture.build("mindspore")
    carry(module, cell)
    right = compare(module, cell, list(architecture.inputs))
    assert right.equal, summary_lines(right)
    assert not right.covered
    architecture.spoil(cell)
    wrong = compare(module, cell, list(architecture.inputs), modes=("isolated", "accumulated"))
    assert not wrong.equal
    assert wrong.blamed[0].measurement.layer == architecture.blamed, summary_lines(wrong)


def test_a_network_that_casts_to_float32_by_name_is_right_in_float64():
    import torch

    from parity_tests.harness.sides.torch import TorchSide

    class Casting(torch.nn.Module):
        def forward(self, x):
            third = torch.full((1,), 1 / 3) + torch.arange(1) * 1.0
            return x.float() * third.to(torch.float32), torch.softmax(x, -1, dtype=torch.float32)

    x = np.array([[1 / 3, 2 / 3]])
    for found, wanted in zip(
        TorchSide(Casting(), "float64").call("", [x]), (x / 3, np.exp(x) / np.exp(x).sum()), strict=True
    ):
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, wanted, rtol=1e-15)
    assert torch.get_default_dtype() == torch.float32
