"""The first network of every family becomes a verified ONNX file, without a word about the family in the exporter."""

import numpy as np
import pytest

from convert.plan import build_plan
from convert.registry import families
from ms_models.build import build_mindspore
from parity_tests.harness.inputs import image
from parity_tests.harness.onnx.write import export_onnx
from parity_tests.tests.cases import SMALL, save_torch, seeded_family, seeded_state, small_part
from toonport.draw.generators import open_generator
from toonport.exporters.exporter import ExportOptions, default_target, export_network
from toonport.exporters.mindir import export_mindir
from torch_ref.build import build_torch

FIRST = [(family.name, family.parts[0].name) for family in families() if (family.name, family.parts[0].name) in SMALL]


@pytest.mark.sampled(4)
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


def test_networks_that_draw_together_become_one_file(tmp_path):
    save_torch(tmp_path / "dtn.pt", seeded_family("dtn"))
    exported = export_network(ExportOptions("dtn", str(tmp_path / "dtn.pt"), outputs="all"), tmp_path / "dtn.onnx")
    assert all(verdict.equal for verdict in exported.verdicts)
    batch = image("together", 1, 64, 64)
    one, other = (open_generator(tmp_path / name)(batch)["image"] for name in ("dtn.onnx", "dtn.pt"))
    assert one.std() > 0.01
    np.testing.assert_allclose(one, other, atol=1e-4)
    assert default_target(ExportOptions("dtn", "")).name == "dtn.onnx"
    assert default_target(ExportOptions("dtn", "", part="decoder")).name == "dtn_decoder.onnx"


def test_a_network_with_one_output_becomes_mindir(tmp_path):
    part, kwargs = small_part("cyclegan", "G_A")
    state = seeded_state("cyclegan", "G_A")
    arrays = build_plan(part, kwargs).to_mindspore(state)
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
