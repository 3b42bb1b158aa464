"""The first network of every family becomes a verified ONNX file, without a word about the family in the exporter."""

import pytest

from convert.plan import build_plan
from convert.registry import families
from parity_tests.conftest import SMALL, seeded_state, small_part
from parity_tests.harness.inputs import image
from parity_tests.harness.pair import build_mindspore, build_torch
from toonport.mindir_export import export_mindir
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


def test_a_network_with_one_output_becomes_mindir(tmp_path):
    part, kwargs = small_part("cyclegan", "G_A")
    state = seeded_state("cyclegan", "G_A")
    arrays = {row.mindspore: state[row.torch] for row in build_plan(part, kwargs).rows if not row.carried}
    side = part.smallest(kwargs)
    verdicts = export_mindir(
        build_mindspore(part, kwargs, arrays),
        build_torch(part, kwargs, state),
        image("export", 1, side, side),
        part.outputs,
        tmp_path / "network.mindir",
    )
    assert [verdict.measurement.layer_type for verdict in verdicts] == ["MINDIR", "PyNative"]
    assert all(verdict.equal for verdict in verdicts)


def test_the_families_above_are_all_there_are():
    assert {family for family, _ in FIRST} == {family.name for family in families()}
