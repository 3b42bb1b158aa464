"""The first network of every family becomes a verified ONNX file, without a word about the family in the exporter."""

import pytest

from convert.registry import families
from parity_tests.conftest import SMALL, seeded_state, small_part
from parity_tests.harness.inputs import image
from parity_tests.harness.pair import build_torch
from toonport.onnx_export import export_onnx

FIRST = [(family.name, family.parts[0].name) for family in families() if (family.name, family.parts[0].name) in SMALL]


@pytest.mark.parametrize(("family", "name"), FIRST)
def test_every_family_is_exported(family, name, tmp_path):
    part, kwargs = small_part(family, name)
    side = part.smallest(kwargs)
    export = export_onnx(
        build_torch(part, kwargs, seeded_state(family, name)),
        image("export", 1, side, side, part.input_shape[1]),
        part.outputs,
        tmp_path / "network.onnx",
    )
    assert all(verdict.equal for verdict in export.verdicts)
    assert len(export.verdicts) == len(part.outputs)


def test_the_families_above_are_all_there_are():
    assert {family for family, _ in FIRST} == {family.name for family in families()}
