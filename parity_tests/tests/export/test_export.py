"""Exported files: names, sizes, precisions, and that a file that computes something else is never kept."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from convert.conversion import convert_file, load_networks, torch_arrays
from parity_tests.harness.inputs import image
from parity_tests.harness.onnx.write import Sizes, find_sizes
from parity_tests.tests.cases import ROOT, save_torch, seeded_state
from toonport.cli import main
from torch_ref.build import build_torch


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small networks as .pt and .ckpt, and one export that several tests look at."""
    path = tmp_path_factory.mktemp("export")
    save_torch(path / "gen.pt", seeded_state("ugatit", "genA2B"))
    save_torch(path / "dis.pt", seeded_state("photo2cartoon", "disLA"))
    convert_file(path / "gen.pt", path / "gen.ckpt", "ugatit", "genA2B")
    argv = ["export", "ugatit", "--weights", str(path / "gen.ckpt"), "--dynamic", "--outputs", "all"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toonport.exporters.exporter._first_input", lambda *_: image("small", 1, 32, 32))
        assert main([*argv, "--out", str(path / "gen.onnx")]) == 0
    return path


def load_module(path, family):
    network = load_networks(path, family)[0]
    return build_torch(network.part, network.kwargs, torch_arrays(network))


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_a_mindspore_checkpoint_gives_a_file_for_any_size_that_computes_what_pytorch_does(folder):
    opened = session(folder / "gen.onnx")
    assert [(one.name, one.shape) for one in opened.get_inputs()] == [("input", ["batch", 3, "height", "width"])]
    assert [one.name for one in opened.get_outputs()] == ["output", "cam_logit", "heatmap"]
    assert opened.get_outputs()[0].shape == ["batch", 3, "height", "width"]
    module = load_module(folder / "gen.pt", "ugatit")
    for shape in ((1, 16, 16), (3, 48, 20)):
        inputs = image("sizes", *shape)
        with torch.no_grad():
            wanted = module(torch.from_numpy(inputs))
        for name, one, found in zip(("image", "cam", "heat"), wanted, opened.run(None, {"input": inputs}), strict=True):
            assert np.abs(one.numpy() - found).max() < 1e-4 * max(1.0, float(one.abs().max())), name


@pytest.mark.quick
def test_the_file_says_what_it_is_and_nothing_about_the_machine(folder):
    model = onnx.load(folder / "gen.onnx")
    facts = {one.key: one.value for one in model.metadata_props}
    assert facts["toonport.family"] == "ugatit"
    assert facts["toonport.part"] == "genA2B"
    assert len(facts["toonport.weights_sha256"]) == 64
    content = (folder / "gen.onnx").read_bytes()
    for trace in (b".py", b"stack_trace", str(folder).encode(), b"site-packages"):
        assert trace not in content


def test_spectral_norm_is_folded_and_one_output_is_the_default(folder, capsys):
    target = folder / "dis.onnx"
    argv = ["export", "photo2cartoon", "--weights", str(folder / "dis.pt"), "--part", "disLA", "--size", "32"]
    assert main([*argv, "--out", str(target)]) == 0
    assert "output at 32x32 px" in capsys.readouterr().out
    graph = onnx.load(target).graph
    assert [one.name for one in graph.output] == ["output"]
    reached = {"input"}
    for node in graph.node:
        assert reached & set(node.input), f"{node.name} computes from weights alone"
        reached.update(node.output)
    assert session(target).run(None, {"input": image("batch", 3, 32, 32)})[0].shape[0] == 3


def test_float16_halves_the_file_and_is_judged_in_float16(folder, capsys):
    argv = ["export", "ugatit", "--weights", str(folder / "gen.pt"), "--size", "32", "--fp16", "--outputs", "all"]
    assert main([*argv, "--out", str(folder / "half.onnx")]) == 0
    assert "output at 32x32 px, batch 2" in capsys.readouterr().out
    weights = [numpy_helper.to_array(one) for one in onnx.load(folder / "half.onnx").graph.initializer]
    large = [one for one in weights if one.ndim == 4 and one.size > 500]
    assert large
    assert all(one.dtype == np.float16 for one in large)
    assert {one.type for one in session(folder / "half.onnx").get_inputs()} == {"tensor(float)"}


def test_a_file_that_computes_something_else_is_not_kept(folder, monkeypatch, capsys):
    def damage(path):
        model = onnx.load(path)
        weight = next(one for one in model.graph.initializer if len(one.dims) == 4)
        values = numpy_helper.to_array(weight).copy()
        values.flat[0] += 0.5
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        onnx.save(model, path)

    monkeypatch.setattr("toonport.exporters.exporter.to_float16", damage)
    target = folder / "damaged.onnx"
    argv = ["export", "photo2cartoon", "--weights", str(folder / "dis.pt"), "--part", "disLA", "--size", "32"]
    assert main([*argv, "--fp16", "--out", str(target)]) == 1
    assert "does not reproduce the network: output at 32x32 px" in capsys.readouterr().err
    assert [path for path in folder.iterdir() if "damaged" in path.name] == []


def test_int8_reports_its_measured_error_and_takes_the_users_pictures(folder, tmp_path, capsys):
    from toonport.photo.example import drawn_face
    from toonport.photo.picture import write_picture

    for index in range(2):
        write_picture(tmp_path / f"{index}.png", drawn_face(64 + index))
    argv = ["export", "ugatit", "--weights", str(folder / "gen.pt"), "--size", "32", "--int8"]
    assert main([*argv, "--calibration", str(tmp_path), "--out", str(folder / "int8.onnx")]) == 0
    text = capsys.readouterr().out
    assert "int8 against float64 on 2 pictures: PSNR" in text
    assert "grey levels" in text
    assert "calibrated on 2 given pictures" in text
    types = {one.data_type for one in onnx.load(folder / "int8.onnx").graph.initializer if np.prod(one.dims) > 500}
    assert types == {onnx.TensorProto.INT8}
    assert (folder / "int8.onnx").stat().st_size < 0.6 * (folder / "gen.onnx").stat().st_size


def test_mindir_computes_what_float64_pytorch_does(folder, capsys):
    from parity_tests.harness.onnx import mindir

    target = folder / "gen.mindir"
    argv = ["export", "ugatit", "--weights", str(folder / "gen.pt"), "--size", "32", "--out", str(target)]
    assert main(argv) == 0
    assert "image in PyNative at 32x32 px" in capsys.readouterr().out
    inputs = image("toonport/0", 1, 32, 32)
    with torch.no_grad():
        wanted = load_module(folder / "gen.pt", "ugatit").double()(torch.from_numpy(inputs).double())[0].numpy()
    (found,) = mindir.run(target, {"input": inputs}).values()
    assert np.abs(found - wanted).max() < 1e-4
    kinds = [each.op_type for each in mindir._proto(target).primitives]
    assert kinds.count("BatchNorm") == 1, "that for inference; runtimes of files have none for training"


def test_a_wrong_mindir_is_not_kept(folder, monkeypatch):
    from parity_tests.harness.onnx import mindir

    run = mindir.run
    wrong = lambda path, inputs: {name: 1.001 * value for name, value in run(path, inputs).items()}  # noqa: E731
    monkeypatch.setattr(mindir, "run", wrong)
    target = folder / "wrong.mindir"
    argv = ["export", "ugatit", "--weights", str(folder / "gen.pt"), "--size", "32", "--out", str(target)]
    assert main(argv) == 1
    assert not target.exists()


def test_sizes_are_found_by_trying(folder):
    assert find_sizes(load_module(folder / "gen.pt", "ugatit"), 3, 16) == Sizes(16, 4)
    fixed = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 2))
    assert find_sizes(fixed, 3, 8) is None


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--out", "net.pb"], "must end in .onnx"),
        (["--to", "mindir", "--fp16"], "--to mindir"),
        (["--to", "mindir", "--dynamic"], "--to mindir"),
        (["--calibration", "x.png"], "is for --int8"),
        (["--size", "33"], "--size 33"),
        (["--size", "0"], "at least 1"),
        (["--part", "genX"], "no part 'genX'"),
        (["--int8", "--calibration", str(ROOT / "convert")], "no pictures there"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder, options, word, capsys):
    assert main(["export", "ugatit", "--weights", str(folder / "gen.pt"), *options]) == 2
    assert word in capsys.readouterr().err


def test_a_size_that_is_fixed_stays_fixed(tmp_path, capsys):
    weights = save_torch(tmp_path / "face.pt", seeded_state("mobilefacenet", "mobilefacenet"))
    argv = ["export", "mobilefacenet", "--weights", str(weights), "--dynamic", "--out", str(tmp_path / "x.onnx")]
    assert main(argv) == 2
    assert "112x112 only" in capsys.readouterr().err
