"""Any runtime is a leg: layers cut out of a file, runtimes that round more than they say, other formats."""

import json
import subprocess
from importlib.util import find_spec
from shutil import which

import numpy as np
import onnx
import pytest

from parity_tests.harness.judge import blamed
from parity_tests.harness.measurement import Values
from parity_tests.harness.mutants.judging import judge_bug, judge_export
from parity_tests.harness.mutants.onnx import ONNX_BUGS
from parity_tests.harness.onnx import litert
from parity_tests.harness.onnx.cut import Cutter
from parity_tests.harness.onnx.runtimes import RUNTIMES, own_runtime
from parity_tests.harness.onnx.session import run_named
from parity_tests.tests.cases import save_torch, seeded_state
from parity_tests.tolerances import BUDGETS
from toonport.cli import main

openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is an optional package")
CUT = own_runtime("as a function", run_named)
RUNS = """
import onnxruntime
from onnx import TensorProto, helper, load

def _cast(name, target, kind):
    return [helper.make_node("Cast", [name], [f"{target}_short"], to=kind),
            helper.make_node("Cast", [f"{target}_short"], [target], to=TensorProto.FLOAT)]

def _run(path, inputs, kind, throughout=False):
    model, nodes = load(str(path)), []
    for number, node in enumerate(model.graph.node):
        product = kind and node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")
        for place, name in enumerate(node.input) if product else ():
            if place < 2 or throughout:
                nodes += _cast(name, f"back{number}_{place}", kind)
                node.input[place] = f"back{number}_{place}"
        nodes.append(node)
        if product and throughout:
            result, node.output[0] = node.output[0], f"result{number}"
            nodes += _cast(f"result{number}", result, kind)
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))

def run(path, inputs):
    return _run(path, inputs, None)

def ten_bits(path, inputs):
    return _run(path, inputs, TensorProto.FLOAT16)

def seven_bits(path, inputs):
    return _run(path, inputs, TensorProto.BFLOAT16)

def seven_bits_throughout(path, inputs):
    return _run(path, inputs, TensorProto.BFLOAT16, True)

def nothing(path, inputs):
    return None
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights of a small network, other ones, and a file with runtimes."""
    folder = tmp_path_factory.mktemp("runtimes")
    state = seeded_state("cyclegan", "D_A")
    save_torch(folder / "d.pt", state)
    save_torch(folder / "other.pt", {**state, "model.0.weight": state["model.0.weight"] * np.float32(1.001)})
    (folder / "runs.py").write_text(RUNS)
    return folder


def compare(folder, runtime, *more):
    argv = ["compare", "cyclegan", "--part", "D_A", "--weights", str(folder / "d.pt"), "--mode", "onnx", "--brief"]
    return main([*argv, "--size", "32", "--runtime", runtime, *more])


def test_a_right_function_is_equal_layer_by_layer_and_named_in_the_report(folder, capsys):
    runtime = f"{folder / 'runs.py'}:run"
    assert compare(folder, runtime, "--json", str(folder / "right.json")) == 0
    assert "22 tensors, equal" in capsys.readouterr().out  # as many as with ONNX Runtime's own outputs
    (network,) = json.loads((folder / "right.json").read_text())["networks"]
    assert network["facts"]["runtime"] == runtime
    assert network["modes"] == {"runtime": {"tensors": 22, "out_of_budget": 0}}


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("ten_bits", "rounded to TF32 or float16"),
        ("seven_bits", "rounded to bfloat16"),
        ("seven_bits_throughout", "rounded to bfloat16, bias and result, too"),
    ],
)
def test_a_runtime_that_rounds_more_than_it_says_is_blamed_on_its_first_layer(name, cause, folder, capsys):
    assert compare(folder, f"{folder / 'runs.py'}:{name}") == 1
    said = capsys.readouterr().out
    assert "first out of budget: model.0 (Conv2d), output, runtime" in said
    assert f"likely cause: factors of the products: {cause} (conv2d)" in said


def test_what_is_cut_is_fed_the_reference_so_a_bug_shows_in_its_own_layer_alone():
    bug = next(bug for bug in ONNX_BUGS if bug.name == "onnx-skip-dropped")
    verdicts, _ = judge_export(bug.subject, 0, bug, CUT)
    wrong = {one.measurement.layer for one in verdicts if not one.equal}
    assert "ResBlock.ResBlock_0" in wrong
    assert wrong <= {"", "ResBlock", "ResBlock.ResBlock_0"}, "what comes after a wrong layer is right"
    assert len({one.measurement.layer for one in verdicts}) > 20


@pytest.mark.sampled(2)
@pytest.mark.parametrize("bug", ONNX_BUGS, ids=lambda bug: bug.name)
@pytest.mark.parametrize("runtime", [CUT, pytest.param(RUNTIMES["openvino"], marks=openvino)], ids=["cut", "openvino"])
def test_planted_bug_is_caught_and_blamed_in_other_runtimes(bug, runtime):
    outcome = judge_bug(bug, runtime=runtime)
    assert outcome.caught_by == (runtime.mode.value,), bug.what
    assert outcome.right, f"blamed {outcome.blamed}"


def test_a_cut_file_computes_one_value_from_those_before_it():
    made = onnx.helper.make_node
    nodes = [made("Add", ["x", "x"], ["a"]), made("Mul", ["a", "x"], ["b"]), made("Sub", ["b", "a"], ["c"])]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "three", [value("x", onnx.TensorProto.FLOAT, ["n"])], [value("c", onnx.TensorProto.FLOAT, ["n"])]
    )
    cutter = Cutter(onnx.helper.make_model(graph))
    for known, nodes_left, inputs in (({"x"}, 3, {"x"}), ({"x", "b"}, 2, {"b", "x"}), ({"a", "b"}, 1, {"a", "b"})):
        cut = cutter.cut("c", known)
        assert len(cut.graph.node) == nodes_left
        assert {one.name for one in cut.graph.input} == inputs


def test_mindir_is_judged_by_its_outputs_and_says_so(folder, capsys):
    assert compare(folder, "mindir") == 0
    said = capsys.readouterr().out
    assert "mindir              2 tensors, equal" in said
    assert "left out: layers in MINDIR" in said
    assert compare(folder, "mindir", "--ported", str(folder / "other.pt")) == 1


@pytest.mark.skipif(which("onnx2tf") is None, reason="onnx2tf, from Python 3.12 on, is not on the PATH")
def test_a_right_litert_file_is_equal_and_another_is_not(folder, tmp_path, capsys):
    for name, code in {"d": 0, "other": 1}.items():
        path = tmp_path / f"{name}.onnx"
        weights = str(folder / f"{name}.pt")
        options = ["--part", "D_A", "--weights", weights, "--size", "32", "--out", str(path)]
        assert main(["export", "cyclegan", *options]) == 0
        subprocess.run(["onnx2tf", "-i", str(path), "-o", str(tmp_path / name)], check=True, capture_output=True)
        assert compare(folder, "litert", "--onnx", str(tmp_path / name / f"{name}_float32.tflite")) == code
    assert "litert              2 tensors, equal" in capsys.readouterr().out


def test_channels_last_files_are_fed_and_read_as_channels_first(shared):
    path = shared / "weights" / "whitebox_cartoon_gan_fp16.tflite"
    name, shape, promised = litert.describe(path)
    assert (name, shape, promised) == ("input_photo", (1, 3, 224, 224), [])
    flat = np.zeros(shape, np.float32)
    flat[:, 2] = 0.9  # one colour far above the others comes out in the same channel
    (found,) = litert.run(path, {name: flat}).values()
    assert found.shape == shape
    assert found[:, 2].mean() > found[:, 0].mean() + 0.3


@openvino
def test_openvino_left_to_itself_is_not_asked(folder, capsys):
    verdicts, _ = judge_export(("cyclegan", "G_A"), 2, runtime=RUNTIMES["openvino"])
    assert blamed(verdicts) == []
    assert {one.measurement.probe.values for one in verdicts} == {Values.RECORDED, Values.LARGE}


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        ("tvm", "one of onnxruntime, openvino, litert, mindir, or FILE.py:run"),
        ("litert", "give one with --onnx FILE.tflite"),
        ("{folder}/runs.py:__doc__", "is not callable"),
        ("{folder}/runs.py:nothing", "run returns NoneType, not a dictionary"),
    ],
)
def test_what_is_no_runtime_is_refused_in_one_line(runtime, words, folder, capsys):
    assert compare(folder, runtime.format(folder=folder)) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1


def test_other_runs_do_not_take_a_runtime(folder, capsys):
    assert main(["compare", "cyclegan", "--quick", "--runtime", "openvino"]) == 2
    assert main(["mutants", "onnx-bgr", "--runtime", "mindir"]) == 2
    assert "--runtime" in capsys.readouterr().err


def test_every_runtime_has_budgets_of_its_own():
    modes = [runtime.mode for runtime in (*RUNTIMES.values(), CUT)]
    assert len(set(modes)) == len(modes)
    assert set(modes) <= BUDGETS.keys()


def test_pictures_are_needed(tmp_path, folder, capsys):
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "vector",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [3])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [3])],
    )
    onnx.save(onnx.helper.make_model(graph), tmp_path / "vector.onnx")
    assert compare(folder, "onnxruntime", "--onnx", str(tmp_path / "vector.onnx")) == 2
    assert "takes x float[3]; one float32 input [N, C, H, W] is needed" in capsys.readouterr().err
