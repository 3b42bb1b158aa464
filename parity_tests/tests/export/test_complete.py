"""Complete files draw what `toonport cartoonize` draws, without it; and exported files say what they are."""

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from convert.conversion import load_networks
from convert.errors import InputError
from parity_tests.harness.inputs import image, is_seeded, seeded_weights
from parity_tests.harness.onnx import mindir
from parity_tests.tests.cases import save_torch, seeded_state, small_part
from parity_tests.tolerances import BACKEND_EQUAL_SHARE, BACKEND_LEVELS
from toonport.cli import main
from toonport.draw.cartoonizer import Cartoonizer, CartoonSettings
from toonport.draw.choices import usable_backends
from toonport.draw.generators import open_generator
from toonport.exporters import complete
from toonport.exporters.exporter import ExportOptions, export_network
from toonport.photo.example import drawn_face
from toonport.photo.picture import read_picture, write_picture

RUNNERS = [name for name in ("onnxruntime", "openvino") if name in usable_backends()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """White-box weights, seeded (blue first, with a filter behind the network), and complete files of both kinds."""
    folder = tmp_path_factory.mktemp("complete")
    save_torch(folder / "wb.pt", seeded_state("whitebox", "generator"))
    for kind in complete.PICTURES:
        options = ExportOptions("whitebox", str(folder / "wb.pt"), dynamic=True, complete=kind)
        done = export_network(options, folder / f"{kind}.onnx")
        assert all(verdict.equal for verdict in done.verdicts)
    return folder


def drawn(folder, file, photo, backend=None):
    settings = CartoonSettings(str(folder / file), "whitebox", backend=backend)
    return Cartoonizer(settings).draw(photo)[0].picture


def assert_same(one, other):
    difference = np.abs(one.astype(int) - other)
    assert difference.max() <= BACKEND_LEVELS
    assert (difference == 0).mean() >= BACKEND_EQUAL_SHARE


def test_a_complete_file_draws_without_any_other_program(folder):
    photo = np.ascontiguousarray(drawn_face(96)[:64])
    wanted = drawn(folder, "wb.pt", photo)
    session = onnxruntime.InferenceSession(str(folder / "bytes.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": photo[None]})
    assert (found.dtype, found.shape) == (np.uint8, (1, 64, 96, 3))
    assert_same(found[0], wanted)
    assert wanted.std() > 10
    session = onnxruntime.InferenceSession(str(folder / "unit.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": (photo[None] / 255).transpose(0, 3, 1, 2).astype(np.float32)})
    assert 0 <= found.min() <= found.max() <= 1
    assert_same((found[0].transpose(1, 2, 0) * 255 + 1e-3).astype(np.uint8), wanted)


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("kind", complete.PICTURES)
def test_cartoonize_draws_with_a_complete_file(folder, kind, runner):
    photo = np.ascontiguousarray(drawn_face(96)[:64])
    assert_same(drawn(folder, f"{kind}.onnx", photo, runner), drawn(folder, "wb.pt", photo))
    generator = open_generator(folder / f"{kind}.onnx", backend=runner)
    assert (generator.how.channels, generator.how.after, generator.backend) == ("RGB", None, runner)
    with pytest.raises(InputError, match="no --channels"):
        open_generator(folder / f"{kind}.onnx", channels="BGR")


def test_a_grey_network_is_fed_luminance_and_draws_grey(tmp_path):
    part, kwargs = small_part("cyclegan", "G_A")
    save_torch(tmp_path / "grey.pt", seeded_weights(part, {**kwargs, "input_nc": 1, "output_nc": 1}, "grey"))
    options = ExportOptions("cyclegan", str(tmp_path / "grey.pt"), part="G_A", side=32, complete="unit")
    export_network(options, tmp_path / "grey.onnx")
    batch = image("grey", 1, 32, 32)
    one, other = (open_generator(tmp_path / f"grey.{end}", "cyclegan", "G_A")(batch) for end in ("pt", "onnx"))
    assert one["image"].shape == (1, 3, 32, 32)
    np.testing.assert_allclose(one["image"], other["image"], atol=1e-4)


def test_bytes_that_draw_something_else_are_not_kept(folder, monkeypatch):
    run = complete.run_named

    def off_by_two(path, inputs):
        found = run(path, inputs)
        return {name: value ^ 2 if value.dtype == np.uint8 else value for name, value in found.items()}

    monkeypatch.setattr(complete, "run_named", off_by_two)
    argv = ["export", "whitebox", "--weights", str(folder / "wb.pt"), "--complete", "--size", "32"]
    assert main([*argv, "--out", str(folder / "wrong.onnx")]) == 1
    assert not (folder / "wrong.onnx").exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--fp16"], "--complete bytes"),
        (["--to", "mindir"], "--complete bytes"),
        (["--part", "disc_gray"], "no pictures"),
    ],
)
def test_what_cannot_be_complete_is_refused(options, word, tmp_path, capsys):
    save_torch(tmp_path / "d.pt", seeded_state("whitebox", "disc_gray"))
    argv = ["export", "whitebox", "--weights", str(tmp_path / "d.pt"), "--complete", *options]
    assert main(argv) == 2
    assert word in capsys.readouterr().err


def facts_of(path):
    if path.suffix == ".mindir":
        return mindir.read_metadata(path)
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@pytest.mark.parametrize("suffix", [".onnx", ".mindir"])
def test_exported_files_say_what_they_are(folder, suffix, tmp_path):
    target = tmp_path / f"net{suffix}"
    export_network(ExportOptions("whitebox", str(folder / "wb.pt"), suffix[1:], side=32), target)
    facts = facts_of(target)
    expected = {"family": "whitebox", "part": "generator", "range": "-1 1", "channels": "BGR", "sizes": "32x32"}
    assert {name: facts[f"toonport.{name}"] for name in expected} == expected
    assert facts["toonport.licence"]
    assert len(facts["toonport.weights_sha256"]) == 64
    assert json.loads(facts["toonport.outputs"]) == ["output"]
    assert "toonport.weights" not in facts, "nobody knows whether others' weights are trained"


def test_complete_files_say_their_own_range_order_and_sizes(folder):
    for kind, own in complete.PICTURES.items():
        facts = facts_of(folder / f"{kind}.onnx")
        assert facts["toonport.range"] == own.range
        assert facts["toonport.channels"] == "RGB"
        assert facts["toonport.sizes"] == "from 16 in steps of 4"


def test_an_unknown_range_is_refused(folder, tmp_path):
    model = onnx.load(folder / "unit.onnx")
    next(entry for entry in model.metadata_props if entry.key == "toonport.range").value = "0 2"
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(InputError, match="unknown range of values '0 2'"):
        open_generator(tmp_path / "other.onnx")


def test_untrained_weights_are_known_by_their_values_and_warned_of_once(tmp_path, capsys):
    part, kwargs = small_part("whitebox", "generator")
    save_torch(tmp_path / "demo.pt", seeded_weights(part, kwargs, "demo/generator"))
    network = load_networks(tmp_path / "demo.pt", "whitebox")[0]
    assert is_seeded(network)
    assert not is_seeded(replace(network, tensors={}))
    export_network(ExportOptions("whitebox", str(tmp_path / "demo.pt"), side=32), tmp_path / "demo.onnx")
    assert facts_of(tmp_path / "demo.onnx")["toonport.weights"] == "seeded, untrained"
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(2):
        write_picture(photos / f"{number}.png", np.roll(drawn_face(64), number, 1))
    for weights in ("demo.pt", "demo.onnx"):
        argv = ["cartoonize", str(photos), "--weights", str(tmp_path / weights), "--family", "whitebox", "--size", "32"]
        assert main([*argv, "--frame", "whole", "--out", str(tmp_path / f"{weights}_out"), "--jobs", "1"]) == 0
        assert capsys.readouterr().err.count("nobody trained") == 1
    assert read_picture(tmp_path / "demo.pt_out" / "0.png").shape == (32, 32, 3)


def test_other_weights_are_not_called_untrained(folder):
    assert not is_seeded(load_networks(folder / "wb.pt", "whitebox")[0])
    assert not open_generator(folder / "wb.pt", "whitebox").untrained
