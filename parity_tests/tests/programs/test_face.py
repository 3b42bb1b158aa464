"""The library's face: a line or two for what the commands do, and no framework before it is needed."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import toonport
from parity_tests.harness.onnx.session import open_session
from parity_tests.tests.cases import OWN_INPUTS, own_pair
from toonport.cli import main
from toonport.photo.example import drawn_face
from toonport.photo.picture import read_picture, write_picture

FUNCTIONS = {"port", "capture", "load", "convert", "compare", "compare_steps", "environment", "export", "cartoonize"}
OTHERS = {"InputError", "TrainingStep", "__version__"}


def test_importing_the_library_loads_no_framework():
    heavy = ("torch", "mindspore", "onnx", "onnxruntime", "cv2", "PIL", "scipy", "gradio", "matplotlib", "dlib")
    code = f"import sys, toonport; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_library_shows_what_it_offers():
    assert set(dir(toonport)) > FUNCTIONS | OTHERS
    assert set(toonport.__all__) == FUNCTIONS | OTHERS
    for name in FUNCTIONS:
        function = getattr(toonport, name)
        assert "return" in function.__annotations__
        assert "Raises" in function.__doc__
        assert f"toonport.{name}(" in function.__doc__


def test_exporting_does_not_hide_the_function_behind_a_package():
    import toonport.exporters.mindir

    assert all(callable(getattr(toonport, name)) for name in FUNCTIONS)


def test_one_file_is_loaded_in_both_frameworks_and_draws_the_same(six_networks, tmp_path):
    import mindspore

    done = toonport.convert(six_networks, tmp_path / "six.ckpt")
    assert [path.name for path in done.outputs] == ["six.ckpt"]
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 3, 256, 256)).astype(np.float32)
    module = toonport.load(six_networks, framework="torch")  # of six networks, the one that draws
    assert not module.training
    with torch.no_grad():
        wanted = module(torch.from_numpy(picture))[0].numpy()
    for path in (six_networks, tmp_path / "six.ckpt"):
        cell = toonport.load(path, part="genA2B")
        found = cell(mindspore.Tensor(picture))[0].asnumpy()
        np.testing.assert_allclose(found, wanted, atol=1 / 127.5)  # a grey level: the weights here are noise
    assert type(toonport.load(six_networks, "torch", part="disLA")).__name__ == "Discriminator"


def test_own_networks_and_families_are_compared_by_one_function(six_networks):
    assert toonport.compare(*own_pair(), OWN_INPUTS).equal
    result = toonport.compare(*own_pair("slope"), OWN_INPUTS, modes=["isolated"])
    assert {verdict.measurement.layer for verdict in result.blamed} == {"act"}
    found = toonport.compare("photo2cartoon", part="disLA", weights=str(six_networks), modes=("weights", "isolated"))
    assert [(comparison.name, comparison.equal) for comparison in found] == [("photo2cartoon disLA", True)]


def test_export_and_cartoonize_do_what_the_commands_do(tmp_path, monkeypatch, write):
    from parity_tests.tests.cases import seeded_state

    weights = write(tmp_path / "whitebox.safetensors", seeded_state("whitebox", "generator"))
    photo = tmp_path / "photo.png"
    write_picture(photo, drawn_face(64))
    picture = toonport.cartoonize(photo, weights, tmp_path / "face.png", "whitebox", backend="torch")
    command = ["cartoonize", str(photo), "--weights", str(weights), "--family", "whitebox", "--backend", "torch"]
    assert main([*command, "--out", str(tmp_path / "command.png")]) == 0
    np.testing.assert_array_equal(picture, read_picture(tmp_path / "command.png"))
    np.testing.assert_array_equal(read_picture(tmp_path / "face.png"), picture)
    np.testing.assert_array_equal(
        toonport.cartoonize(drawn_face(64), weights, family="whitebox", backend="torch"), picture
    )
    monkeypatch.chdir(tmp_path)
    done = toonport.export(weights, family="whitebox", side=32)
    assert (done.path.name, done.path.is_file()) == ("whitebox_generator.onnx", True)
    assert open_session(done.path, 1).get_inputs()[0].shape[1:] == [3, 32, 32]
    assert all(verdict.equal for verdict in done.verdicts)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda file: toonport.load(file, framework="jax"), "unknown framework 'jax'; frameworks: mindspore, torch"),
        (lambda file: toonport.load(file, device="tpu"), "unknown device 'tpu'; devices: cpu, gpu, ascend"),
        (lambda file: toonport.load(file.with_name("none.pt")), "none.pt: no such file"),
        (lambda file: toonport.compare("photo2cartoon", *own_pair()), "builds both networks itself"),
        (lambda file: toonport.compare(own_pair()[0]), "a module, a cell and their inputs"),
        (lambda file: toonport.export(file, dynamik=True), "unknown option dynamik; options: calibration"),
        (lambda file: toonport.cartoonize(file, file), "not a picture that can be read"),
    ],
)
def test_a_caller_s_mistake_is_one_line(six_networks, call, said):
    with pytest.raises(toonport.InputError, match=said.replace("(", r"\(")) as caught:
        call(six_networks)
    assert "\n" not in str(caught.value)
