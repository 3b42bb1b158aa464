"""Devices: every leg runs where it is told, without TF32 unless asked for; stand-ins take the place of a GPU."""

import ast
import re
from types import SimpleNamespace

import mindspore
import numpy as np
import onnxruntime
import pytest
import torch
from mindspore import device_context

import torch_ref.environment as torch_environment
from convert.devices import CPU, GPU
from convert.errors import InputError
from convert.plan import build_plan
from convert.registry import family_named, part_named
from parity_tests.harness.families import compare_family, seeded_source
from parity_tests.harness.inputs import seeded_weights
from parity_tests.harness.legs import ON_CPU, Legs, legs_in_use
from parity_tests.harness.measurement import Mode
from parity_tests.harness.onnx.session import open_session
from parity_tests.harness.onnx.write import write_onnx
from parity_tests.harness.pair import build_pair
from parity_tests.harness.recorded import recorded
from parity_tests.harness.report.console import summary_lines
from parity_tests.harness.request import CompareOptions
from parity_tests.harness.run import compare_pair, part_inputs, probe_inputs
from parity_tests.harness.sides.inexact import tf32_products
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.harness.stages import QUICK_MODES
from parity_tests.tests.cases import ROOT
from toonport import device_check
from toonport.cli import main
from torch_ref.build import build_torch, for_inference

pytestmark = pytest.mark.quick
NAMES = {"cpu", "gpu", "ascend", "CPU", "GPU", "Ascend", "cuda", "CPUExecutionProvider", "CUDAExecutionProvider"}
HOMES = {"convert/devices.py", "torch_ref/environment.py", "ms_models/environment.py", "parity_tests/harness/legs.py"}
PART = part_named(family_named("cyclegan"), "G_A")
NARROW = {**PART.kwargs, "ngf": 4, "n_blocks": 1}


def test_devices_are_named_in_one_module_of_each_layer():
    folders = ("convert", "torch_ref", "ms_models", "parity_tests", "tools")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if "tests" not in path.parts]
    assert {path.relative_to(ROOT).as_posix() for path in paths if _names_devices(path)} == HOMES


def _names_devices(path):
    """Whether a file says what a device is called; a key of a dictionary, such as "cpu" of a time, is none."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    keys = {id(key) for node in nodes if isinstance(node, ast.Dict) for key in node.keys}
    keys |= {id(node.slice) for node in nodes if isinstance(node, ast.Subscript)}
    return any(isinstance(node, ast.Constant) and node.value in NAMES and id(node) not in keys for node in nodes)


def _settings():
    older = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    own = {name: part.fp32_precision for name, part in torch_environment.products().items()}
    return *older, torch.get_float32_matmul_precision(), own


@pytest.fixture
def as_before():
    """PyTorch's settings as they were, at the end."""
    with torch_environment.computing(CPU):
        yield


@pytest.mark.parametrize("choice", ["nothing", "older names", "medium"])
def test_pytorch_multiplies_in_float32_and_is_as_before_at_the_end(choice, as_before):
    torch.set_float32_matmul_precision("medium" if choice == "medium" else "highest")
    torch.backends.cudnn.allow_tf32 = True
    if choice == "older names":
        torch.backends.cuda.matmul.allow_tf32 = True
    before, deterministic = _settings(), torch.are_deterministic_algorithms_enabled()
    assert "tf32" in before[-1].values()
    with torch_environment.computing(GPU):
        assert _settings() == (False, False, "highest", dict.fromkeys(torch_environment.products(), "ieee"))
        assert torch.are_deterministic_algorithms_enabled()
    with torch_environment.computing(GPU, tf32=True):
        assert list(_settings()[-1].values()) == ["tf32"] * 3 + ["ieee"] * 2
    assert (_settings(), torch.are_deterministic_algorithms_enabled()) == (before, deterministic)


@pytest.mark.parametrize(("seed", "wanted"), [(0, 1 + 3 * 2.0**-12), (1, 1 + 2.0**-10), (2, 1.0)])
def test_tf32_has_ten_bits_to_the_nearest_or_towards_zero(seed, wanted):
    one = torch.full((1, 1), 1 + 3 * 2.0**-12)
    with Legs(tf32=True).running(), tf32_products(seed):
        assert (one @ torch.eye(1)).item() == wanted
        assert torch.nn.functional.conv2d(one[None, None], torch.ones(1, 1, 1, 1)).item() == wanted
        assert (one + 0).item() == one.item()
    with tf32_products(seed):
        assert (one @ torch.eye(1)).item() == one.item()


class _Tf32Side(TorchSide):
    """PyTorch as a device computes that multiplies in TF32."""

    def _run(self, layer, inputs):
        with Legs(tf32=True).running(), tf32_products(2):
            return super()._run(layer, inputs)


def _compared(port, legs):
    weights = seeded_weights(PART, NARROW, "devices")
    with legs.running():
        pair = build_pair(PART, NARROW, weights, build_plan(PART, NARROW).to_mindspore(weights))
        pair = pair.__class__(**{**vars(pair), "port": port(weights), "port_weights": pair.reference_weights})
        probe = [probe_inputs(PART, NARROW, 0)]
        return compare_pair("net", pair, probe, probe, QUICK_MODES, quick=True)


def _rounding(weights, planted=False):
    network = build_torch(PART, NARROW, weights)
    for layer in network.modules() if planted else ():
        if isinstance(layer, torch.nn.InstanceNorm2d):
            layer.eps *= 1000
    return _Tf32Side(network)


def test_a_port_in_tf32_differs_from_its_first_convolution_on_and_is_equal_where_tf32_is_granted():
    strict = _compared(_rounding, ON_CPU)
    assert {verdict.measurement.layer_type for verdict in strict.blamed} <= {"Conv2d", "ConvTranspose2d"}
    assert strict.blamed[0].measurement.layer == "model.1"
    assert _compared(_rounding, Legs(tf32=True)).equal


def test_a_bug_is_found_beside_the_noise_of_tf32():
    found = _compared(lambda weights: _rounding(weights, planted=True), Legs(tf32=True))
    assert {verdict.measurement.layer_type for verdict in found.blamed} == {"InstanceNorm2d"}


def test_captures_of_other_devices_are_not_replayed(tmp_path):
    weights, probe = seeded_weights(PART, NARROW, "devices"), [probe_inputs(PART, NARROW, 0)]
    runs = []
    for legs in (ON_CPU, ON_CPU, Legs(tf32=True)):
        with legs.running():
            pair = recorded(build_pair(PART, NARROW, weights, build_plan(PART, NARROW).to_mindspore(weights)), tmp_path)
            pair.reference.call("", probe)
            runs.append(pair.reference.runs)
    assert runs == [1, 0, 1]


@pytest.fixture
def gpu(monkeypatch):
    """Stand-ins for the calls by which the frameworks use a GPU; they compute on the CPU and note what is asked for."""
    noted = SimpleNamespace(mindspore=[], sessions=[], sides=[])
    known = {"conv_allow_tf32": True, "matmul_allow_tf32": False, "deterministic": "OFF", "device_target": "CPU"}

    def setter(name, as_context=lambda value: value):
        def put(value):
            assert "allow" in name or known[name] != as_context(value), f"{name} is set once in a process"
            noted.mindspore.append((name, value))
            known[name] = as_context(value)

        return put

    precision = SimpleNamespace(**{name: setter(name) for name in ("conv_allow_tf32", "matmul_allow_tf32")})
    context, session = mindspore.get_context, onnxruntime.InferenceSession

    def open_session(content, options, providers):
        noted.sessions.append((*providers, options.use_deterministic_compute))
        opened = session(content, options, ["CPUExecutionProvider"])
        monkeypatch.setattr(opened, "get_providers", lambda: ["CUDAExecutionProvider"])
        return opened

    def made(side, module, dtype="float32", device=CPU, initialise=TorchSide.__init__):
        noted.sides.append((dtype, device))
        initialise(side, module, dtype, device)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch_environment, "CUDA", "cpu")
    monkeypatch.setattr(mindspore, "set_device", setter("device_target"))
    monkeypatch.setattr(mindspore, "set_deterministic", setter("deterministic", lambda on: "ON" if on else "OFF"))
    monkeypatch.setattr(mindspore, "get_context", lambda name: known[name] if name in known else context(name))
    monkeypatch.setattr(device_context.gpu, "op_precision", precision)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    monkeypatch.setattr(TorchSide, "__init__", made)
    return noted


@pytest.fixture
def exported(tmp_path):
    """An ONNX file, written where PyTorch sees no GPU."""
    part, path = part_named(family_named("photo2cartoon"), "disLA"), tmp_path / "net.onnx"
    source = seeded_source(family_named("photo2cartoon"), part, part.kwargs, 0)
    network = for_inference(build_torch(part, part.kwargs, source.reference))
    write_onnx(network, part_inputs(part, part.kwargs, 0), part.outputs, path)
    return path


def test_every_leg_runs_on_the_device_that_is_asked_for(exported, gpu):
    modes = Mode.ISOLATED, "onnx"
    options = CompareOptions("photo2cartoon", "disLA", modes=modes, onnx=exported, device=GPU, quick=True)
    (found,) = compare_family(options)
    assert found.equal
    assert found.facts["devices"] == "port on gpu, reference on gpu, truth on cpu; TF32 off on every side"
    assert f"  {found.facts['devices']}" in summary_lines(found)
    off_and_back = [("conv_allow_tf32", False), ("matmul_allow_tf32", False)]
    off_and_back += [("conv_allow_tf32", True), ("matmul_allow_tf32", False)]
    assert gpu.mindspore == [("device_target", "GPU"), ("deterministic", True), *off_and_back * len(modes)]
    assert set(gpu.sides) >= {("float64", CPU), ("float32", GPU)}
    assert {device for dtype, device in gpu.sides if dtype == "float64"} == {CPU}
    assert gpu.sessions
    assert all(each == (("CUDAExecutionProvider", {"use_tf32": "0"}), True) for each in gpu.sessions)
    assert legs_in_use() == ON_CPU


def test_the_reference_may_stay_on_the_cpu_and_tf32_be_granted(gpu):
    options = CompareOptions("photo2cartoon", "disLA", modes=(Mode.ISOLATED,), device=GPU, quick=True)
    options = options.__class__(**{**vars(options), "reference_device": CPU, "tf32": True})
    (found,) = compare_family(options)
    assert "reference on cpu" in found.facts["devices"]
    assert "TF32 on" in found.facts["devices"]
    assert ("conv_allow_tf32", True) in gpu.mindspore
    assert ("float32", GPU) not in gpu.sides


def test_a_side_and_its_tensors_lie_on_its_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch_environment, "CUDA", "meta")
    side = TorchSide(torch.nn.Conv2d(3, 4, 3), device=GPU)
    tensors = [*side.network.parameters(), *side._tensors([np.ones((1, 3, 8, 8), np.float32)])]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_a_gpu_that_onnx_runtime_cannot_start_is_no_cpu(gpu, monkeypatch):
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_: SimpleNamespace(get_providers=lambda: ["CPU"]))
    with pytest.raises(InputError, match="CUDAExecutionProvider does not start here"):
        open_session(b"", device=GPU)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["doctor", "--device", "gpu"], "not usable here by MindSpore 2.*; PyTorch .*; ONNX Runtime .*CUDA"),
        (["doctor", "--page", "x.md"], "--page goes with --device"),
        (["compare", "dtn", "--tf32"], "no leg runs on a device that rounds so; give --device gpu"),
        (["compare", "dtn", "--device", "gpu"], "not usable here by PyTorch .*; --reference-device cpu leaves"),
        (["compare", "dtn", "--device", "gpu", "--reference-device", "cpu"], "not usable here by MindSpore"),
        (["compare", "a.json", "--tf32"], "only where both networks run"),
    ],
)
def test_what_is_missing_is_said_in_one_line(argv, said, capsys):
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1

    assert re.search(said, error), error


def test_a_device_s_rows_take_the_place_of_older_ones(tmp_path, monkeypatch):
    page = tmp_path / "devices.md"
    before = ["| gpu | – | – | not run |", "| gpu: A | 1 | PyTorch 1.0 | old |", "| gpu: B | 1 | PyTorch 2.0 | kept |"]
    page.write_text("\n".join(["# Devices", "", device_check.HEADING, "|---|", *before, "", "More."]) + "\n")
    monkeypatch.setattr(device_check, "device_words", lambda device: (f"{device}: A", "2"))
    found = [
        device_check.Graded("PyTorch 3.0", {}),
        device_check.Graded("ONNX Runtime 1.0", {}, InputError("no kernels")),
    ]
    device_check.write_rows(page, GPU, found)
    assert page.read_text().splitlines()[4:] == [
        "| gpu: A | 2 | PyTorch 3.0 | – | – | – |",
        "| gpu: B | 1 | PyTorch 2.0 | kept |",
        "",
        "More.",
    ]
    with pytest.raises(InputError, match="no table"):
        device_check.write_rows(tmp_path / "none.md", GPU, found)


def test_a_framework_that_rounds_more_than_it_says_is_graded_as_different(monkeypatch, capsys):
    """PyTorch on the device is one that multiplies in TF32."""
    monkeypatch.setattr(device_check, "CHECKS", {"torch": device_check.CHECKS["torch"]})
    monkeypatch.setattr(device_check, "_trained", lambda setup, trainer: {})
    assert main(["doctor", "--device", "cpu"]) == 0
    monkeypatch.setattr(device_check, "TorchSide", _Tf32Side)
    assert main(["doctor", "--device", "cpu"]) == 1
    assert "out of it" in capsys.readouterr().out


def test_a_training_or_an_evaluation_on_a_device_that_is_not_there_is_refused(tmp_path):
    from parity_tests.harness.trainers import TorchTrainer
    from parity_tests.harness.training_setup import small_setup
    from toonport.evaluate.metrics import open_networks

    for use in (
        lambda: TorchTrainer(small_setup(family_named("dtn"), 1), device=GPU),
        lambda: open_networks(None, None, None, GPU),
    ):
        with pytest.raises(InputError, match="device gpu is not usable here by PyTorch"):
            use()
