"""ONNX Runtime as the third leg: layers found in files, planted bugs caught and blamed, files from elsewhere judged."""

import json
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from convert.tensors import dtype_named
from parity_tests.harness.inputs import image
from parity_tests.harness.judge import blamed, judge
from parity_tests.harness.measurement import Values
from parity_tests.harness.mutants.bugs import OnnxBug
from parity_tests.harness.mutants.judging import judge_bug, judge_export
from parity_tests.harness.mutants.onnx import CYCLEGAN, ONNX_BUGS
from parity_tests.harness.mutants.run import correct_exports, false_alarms
from parity_tests.harness.onnx.alone import nodes_alone
from parity_tests.harness.onnx.layers import layer_values, noted_layers
from parity_tests.harness.onnx.leg import FileRun, judge_exported, measure_file
from parity_tests.harness.onnx.runtimes import ONNX_RUNTIME, open_onnx
from parity_tests.harness.onnx.write import write_onnx
from parity_tests.harness.outputs import run_references
from parity_tests.tests.cases import save_torch, seeded_state
from toonport.cli import main

CAUSES = {
    "onnx-pad-zero": "padding mode",
    "onnx-instance-norm-eps": "epsilon",
    "onnx-adalin-eps": "epsilon",
    "onnx-biased-variance": "variance: n instead of n - 1",
    "onnx-leaky-slope": "slope: 0.01",
    "onnx-resize-linear": "upsampling: bilinear",
    "onnx-bias-dropped": "bias: left out",
    "onnx-transposed-square": "weight: transposed",
    "onnx-tanh-dropped": "activation: left out (tanh)",
    "onnx-bgr": "input: channels reversed",
    "onnx-input-range": "input: in [0, 1]",
    "onnx-half-precision": "rounded to float16",
    "onnx-relu6": "activation: ReLU6",
    "onnx-swapped-weights": "the values of",
    "onnx-mean-for-max": "pooling: mean for maximum",
    "onnx-concat-order": "order of a concatenation",
}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("bug", ONNX_BUGS, ids=lambda bug: bug.name)
def test_planted_bug_is_caught_and_blamed(bug):
    outcome = judge_bug(bug)
    assert outcome.caught_by == ("onnx",), bug.what
    assert outcome.right, f"blamed {outcome.blamed}"
    assert CAUSES.get(bug.name, "") in outcome.cause


def test_a_sign_in_the_code_is_no_wrong_weight():
    def minus(model):
        next(node for node in model.graph.node if node.op_type == "Add").op_type = "Sub"

    def negated(model):
        weight = next(each for each in model.graph.initializer if each.name.endswith("model.1.weight"))
        weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))

    causes = [judge_bug(OnnxBug("", "", CYCLEGAN, ("",), edit)).cause for edit in (minus, negated)]
    assert "add → sub" in causes[0]
    assert "weight: negated" in causes[1]


def test_causes_are_named_for_bugs_of_the_suite():
    assert CAUSES.keys() <= {bug.name for bug in ONNX_BUGS}


def test_no_alarm_on_correct_exports_over_twenty_seeds():
    alarms = list(false_alarms(correct_exports(20, [("cyclegan", "D_A"), ("facialcartoonization", "disc_gray")])))
    assert len(alarms) == 40
    assert [name for name, count in alarms if count] == []


@pytest.mark.parametrize(
    ("family", "part", "layers", "types"),
    [
        ("photo2cartoon", "genA2B", 1120, {"SoftAdaLIN": 8, "LIN": 2, "HourGlass": 4, "Upsample": 2, "Tanh": 1}),
        ("ugatit", "genA2B", 72, {"AdaLIN": 4, "LIN": 2, "InstanceNorm2d": 7, "Upsample": 2, "Tanh": 1}),
    ],
)
def test_layers_are_found_in_an_export(family, part, layers, types):
    verdicts, _ = judge_export((family, part))
    found = {one.measurement.layer: one.measurement.layer_type for one in verdicts}
    assert len(found) - 1 >= layers
    counts = Counter(found.values())
    assert {kind: counts[kind] for kind in types} == types
    assert all(one.equal for one in verdicts)


def test_layers_come_in_the_order_of_computation_and_the_outputs_last():
    verdicts, _ = judge_export(("ugatit", "genA2B"))
    *verdicts, a, b, c = verdicts  # the outputs once more, on large numbers
    assert {one.measurement.probe.values for one in (a, b, c)} == {Values.LARGE}
    orders = [one.measurement.order for one in verdicts]
    assert orders == sorted(orders)
    assert [one.measurement.quantity.name for one in verdicts[-3:]] == ["output", "cam_logit", "heatmap"]
    assert [one.measurement.layer for one in verdicts[-3:]] == ["", "", ""]
    assert {one.measurement.probe.pixels for one in verdicts} == {16 * 20}


class Odd:
    """A network that calls one layer twice, has one that returns two tensors, one without an operation and one that
    the exporter fuses with the next."""

    @staticmethod
    def build():
        import torch
        from torch import nn

        class Pair(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

            def forward(self, x):
                y = self.norm(self.conv(x))
                return y, y.mean((2, 3), keepdim=True)

        class Network(nn.Module):
            def __init__(self):
                super().__init__()
                self.pair, self.act, self.drop = Pair(), nn.LeakyReLU(0.2), nn.Dropout()

            def forward(self, x):
                y, mean = self.pair(x)
                return self.act(self.drop(self.act(y) - mean))

        torch.manual_seed(0)
        return Network().eval()


@pytest.fixture(scope="module")
def plain_file(tmp_path_factory):
    """A file straight from PyTorch's exporter, below another module, with the exporter's own notes."""
    import torch
    from torch import nn

    network, path = Odd.build(), tmp_path_factory.mktemp("plain") / "plain.onnx"
    inputs = image("plain", 2, 8, 8)
    program = torch.onnx.export(
        nn.Sequential(network).eval(), (torch.from_numpy(inputs),), dynamo=True, opset_version=20, verbose=False
    )
    program.save(str(path))
    return network, path, inputs


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_layer_called_twice_is_compared_call_by_call_and_a_fused_one_is_absent(plain_file):
    network, path, inputs = plain_file
    rows = list(measure_file(open_onnx(path), FileRun(inputs, run_references(network, inputs, layers=True))))
    own = [row for row in rows if row.probe.values is Values.RECORDED]
    assert [(row.layer, row.quantity.call) for row in own] == [("pair.norm", 0), ("act", 0), ("act", 1), ("", 0)]
    large = [row for row in rows if row.probe.values is Values.LARGE]
    assert [(row.layer, row.quantity.call) for row in large] == [("act", 0), ("act", 1)]
    assert all(judge(row).equal for row in rows)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_without_notes_only_the_outputs_are_judged(plain_file, tmp_path):
    network, path, inputs = plain_file
    model = onnx.load(path)
    assert noted_layers(model)
    for node in model.graph.node:
        del node.metadata_props[:]
    assert layer_values(model, {"act"}) == {}
    onnx.save(model, tmp_path / "bare.onnx")
    (row,) = measure_file(
        open_onnx(tmp_path / "bare.onnx"), FileRun(inputs, run_references(network, inputs, layers=True))
    )
    assert row.layer == ""
    assert judge(row).equal


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Weights, the file that `toonport export` makes of them, and the folder of both."""
    folder = tmp_path_factory.mktemp("leg")
    save_torch(folder / "d.pt", seeded_state("cyclegan", "D_A"))
    argv = ["export", "cyclegan", "--weights", str(folder / "d.pt"), "--part", "D_A", "--size", "32"]
    assert main([*argv, "--out", str(folder / "d.onnx")]) == 0
    return folder


def compare(folder, file, *more):
    argv = ["compare", "cyclegan", "--part", "D_A", "--weights", str(folder / "d.pt"), "--mode", "onnx", "--brief"]
    return main([*argv, "--onnx", str(file), *more])


def test_a_good_file_is_equal_layer_by_layer(exported, capsys):
    assert compare(exported, exported / "d.onnx", "--json", str(exported / "good.json")) == 0
    assert "cyclegan D_A: equal" in capsys.readouterr().out
    (network,) = json.loads((exported / "good.json").read_text())["networks"]
    assert network["modes"] == {
        "onnx": {"tensors": 22, "out_of_budget": 0}
    }  # four activations, three norms and the output twice
    assert main(["compare", str(exported / "good.json"), "--brief"]) == 0


def test_a_damaged_file_is_different_and_the_layer_named(exported, capsys):
    model = onnx.load(exported / "d.onnx")
    for node in [one for one in model.graph.node if one.op_type == "LeakyRelu"][1:]:
        node.attribute[0].f = 0.01
    onnx.save(model, exported / "damaged.onnx")
    assert compare(exported, exported / "damaged.onnx") == 1
    said = capsys.readouterr().out
    assert "first out of budget: model.4 (LeakyReLU), output, onnx" in said
    assert "likely cause: slope: 0.01" in said


def _last_bias(model):
    """The bias of the last layer, a single number."""
    return next(each for each in model.graph.initializer if each.name.endswith("model.11.bias"))


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_a_weight_with_fewer_digits_is_named_even_where_no_output_shows_it(exported, kind, capsys):
    model = onnx.load(exported / "d.onnx")
    bias = _last_bias(model)
    rounded = numpy_helper.to_array(bias).astype(dtype_named(kind)).astype(np.float32)
    bias.CopyFrom(numpy_helper.from_array(rounded, bias.name))
    onnx.save(model, exported / "rounded.onnx")
    assert compare(exported, exported / "rounded.onnx") == 1
    said = capsys.readouterr().out
    assert "first out of budget: model.11 (Conv2d), bias, onnx" in said
    assert f"likely cause: weight: rounded to {kind} (model.11.bias)" in said


def test_a_file_with_a_weight_that_is_cut_short_is_different_and_no_internal_error(exported, capsys):
    model = onnx.load(exported / "d.onnx")
    _last_bias(model).raw_data = b"cut"
    onnx.save(model, exported / "cut.onnx")
    assert compare(exported, exported / "cut.onnx") == 1
    assert "ONNX Runtime cannot run it" in capsys.readouterr().out


def test_a_weight_that_rounding_moves_by_a_unit_is_no_fault(exported):
    model = onnx.load(exported / "d.onnx")
    bias = _last_bias(model)
    moved = np.nextafter(numpy_helper.to_array(bias), np.float32(np.inf))
    bias.CopyFrom(numpy_helper.from_array(moved, bias.name))
    onnx.save(model, exported / "moved.onnx")
    assert compare(exported, exported / "moved.onnx") == 0


def test_other_files_are_refused_in_one_line(exported, tmp_path, capsys):
    (tmp_path / "text.onnx").write_text("no network")
    for file, words in ((tmp_path / "text.onnx", "not an ONNX file"), (tmp_path / "none.onnx", "not an ONNX file")):
        assert compare(exported, file) == 2
        said = capsys.readouterr().err
        assert words in said
        assert len(said.strip().splitlines()) == 1
    assert main(["compare", "cyclegan", "--onnx", str(exported / "d.onnx")]) == 2
    assert "--onnx needs --weights" in capsys.readouterr().err


def test_a_network_that_cannot_be_asked_is_named_as_not_run(exported, monkeypatch, capsys):
    argv = ["compare", "cyclegan", "--part", "D_A", "--weights", str(exported / "d.pt"), "--size", "32"]
    monkeypatch.setattr("parity_tests.harness.request.MODES", ("weights",))
    assert main([*argv, "--brief"]) == 0
    assert "onnx               22 tensors, equal" in capsys.readouterr().out
    assert main([*argv, "--dtype", "bf16", "--brief"]) == 0
    assert "ONNX Runtime: compared in fp32 only, not in bf16" in capsys.readouterr().out
    assert main([*argv, "--dtype", "bf16", "--mode", "onnx"]) == 2


class Functional:
    """Layers that do more than the activation or the norm that they return, and a norm alone."""

    @staticmethod
    def build():
        import torch
        from torch import nn
        from torch.nn import functional as F

        class Layer(nn.Module):
            def __init__(self, function, channels=3):
                super().__init__()
                self.conv, self.function = nn.Conv2d(channels, 3, 3, padding=1), function

            def forward(self, x):
                return self.function(self.conv(x))

        class Moved(nn.Module):
            def forward(self, x):
                return F.instance_norm(2 * x + 1)

        torch.manual_seed(0)
        layers = Layer(F.relu), Layer(F.instance_norm), Moved(), Layer(F.tanh), nn.InstanceNorm2d(3), nn.ReLU()
        return nn.Sequential(*layers).eval()


def _functional_rows(folder, epsilon=None):
    network, path, inputs = Functional.build(), folder / "functional.onnx", image("functional", 2, 12, 16)
    write_onnx(network, inputs, ["y"], path)
    model = onnx.load(path)
    if epsilon is not None:
        last = [node for node in model.graph.node if node.op_type == "InstanceNormalization"][-1]
        next(each for each in last.attribute if each.name == "epsilon").f = epsilon
        onnx.save(model, path)
    return judge_exported(network, ["y"], inputs[:1], inputs, ONNX_RUNTIME, path).verdicts


def test_only_layers_that_are_one_node_are_run_alone(tmp_path):
    rows = _functional_rows(tmp_path)
    assert all(row.equal for row in rows)
    alone = {(row.measurement.layer, row.measurement.probe.values) for row in rows if row.measurement.layer}
    assert {each for each in alone if each[1] is not Values.RECORDED} == {
        ("4", Values.LOW_SPREAD), ("5", Values.LARGE)
    }  # fmt: skip


@pytest.mark.parametrize("epsilon", [0.0, 9e-6, 1.1e-5])
def test_a_norms_epsilon_in_a_file_shows_on_a_low_spread(tmp_path, epsilon):
    first = blamed(_functional_rows(tmp_path, epsilon))[0]
    assert (first.measurement.layer, first.measurement.probe.values) == ("4", Values.LOW_SPREAD)


def test_norms_of_a_file_in_half_precision_are_not_run_alone(tmp_path):
    network, path, inputs = Functional.build(), tmp_path / "half.onnx", image("functional", 2, 12, 16)
    write_onnx(network, inputs, ["y"], path)
    model = onnx.load(path)
    norm = [node for node in model.graph.node if node.op_type == "InstanceNormalization"][-1]
    _, alone = nodes_alone(model, {norm.output[0]: 4})
    assert set(alone) == {norm.output[0]}
    halves = [numpy_helper.from_array(np.ones(3, np.float16), name) for name in norm.input[1:]]
    kept = [each for each in model.graph.initializer if each.name not in norm.input]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, *halves])
    assert nodes_alone(model, {norm.output[0]: 4})[1] == {}
