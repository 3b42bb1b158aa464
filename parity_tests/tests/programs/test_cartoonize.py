"""From photos to cartoons: every backend one picture, every way in and out, and what is refused."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from convert.conversion import convert_file
from convert.errors import InputError
from convert.family import Cartoonize
from convert.registry import families, family_named, part_named
from parity_tests.harness.inputs import image, seeded_weights
from parity_tests.tests.cases import save_torch, seeded_state
from parity_tests.tolerances import BACKEND_EQUAL_SHARE, BACKEND_LEVELS
from toonport.cli import main
from toonport.draw import generators
from toonport.draw.cartoonizer import Cartoonizer, CartoonSettings
from toonport.draw.choices import usable_backends
from toonport.draw.generators import Generator, open_generator
from toonport.photo.compose import finish, to_input
from toonport.photo.example import drawn_face
from toonport.photo.picture import read_picture, write_picture


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small U-GAT-IT generator in both frameworks' files, and a small photo2cartoon one."""
    folder = tmp_path_factory.mktemp("weights")
    save_torch(folder / "ugatit.pt", {"genA2B": seeded_state("ugatit", "genA2B")})
    save_torch(folder / "photo2cartoon.pt", seeded_state("photo2cartoon", "genA2B"))
    for name in ("ugatit", "photo2cartoon"):
        convert_file(folder / f"{name}.pt", folder / f"{name}.ckpt", part="genA2B")
    return folder


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "face.png"
    write_picture(path, drawn_face(320))
    return path


def third_party_onnx(path, kind="FLOAT", side=256, channels=3):
    """An ONNX file as others publish them: one input, one output, no word about itself; draws the negative."""
    import onnx
    from onnx import TensorProto, helper

    number = getattr(TensorProto, kind)
    shape = [1, channels, side, side]
    graph = helper.make_graph(
        [helper.make_node("Neg", ["input"], ["output"])],
        "negative",
        [helper.make_tensor_value_info("input", number, shape)],
        [helper.make_tensor_value_info("output", number, shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    return path


def _same_picture(one, other):
    difference = np.abs(one.astype(int) - other)
    assert difference.max() <= BACKEND_LEVELS
    assert (difference == 0).mean() >= BACKEND_EQUAL_SHARE


def test_the_backends_draw_the_same_picture(weights):
    batch = image("backends", 1, 64, 64)
    outputs = {
        backend: open_generator(weights / ("ugatit.ckpt" if backend == "torch" else "ugatit.pt"), backend=backend)(
            batch
        )
        for backend in usable_backends()
    }
    opaque = np.zeros((64, 64, 3), np.uint8)
    pictures = {backend: finish(found["image"], opaque) for backend, found in outputs.items()}
    assert pictures["torch"].std() > 10
    for picture in pictures.values():
        _same_picture(pictures["torch"], picture)
    for found in outputs.values():
        assert set(found) == {"image", "cam_logit", "heatmap"}


def test_one_exported_file_draws_photos_of_every_size(tmp_path, monkeypatch):
    save_torch(tmp_path / "whitebox.pt", seeded_state("whitebox", "generator"))
    export, exports = generators.export_onnx, []
    monkeypatch.setattr(generators, "export_onnx", lambda *args: exports.append(1) or export(*args))
    exported, own = (
        open_generator(tmp_path / "whitebox.pt", "whitebox", backend=backend) for backend in ("onnxruntime", "torch")
    )
    for height, width in ((64, 96), (80, 48)):
        batch, opaque = image("sizes", 1, height, width), np.zeros((height, width, 3), np.uint8)
        _same_picture(*(finish(one(batch)["image"], opaque) for one in (exported, own)))
    assert len(exports) == 1


def test_standard_input_is_read_and_warned_of_like_a_file(tmp_path, monkeypatch, capfdbinary, matte_network):
    small = np.dstack([drawn_face(110), np.full((110, 110), 255, np.uint8)])
    small[:, :30, 3] = 0  # hidden colours, which only the reference shows
    write_picture(tmp_path / "small.png", small)
    weights = third_party_onnx(tmp_path / "published.onnx")
    for extra in ([], ["--reference-exact"]):
        command = ["cartoonize", "--weights", str(weights), *extra, "--frame", "whole"]
        assert main([*command, str(tmp_path / "small.png"), "--out", str(tmp_path / "file.png")]) == 0
        capfdbinary.readouterr()
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO((tmp_path / "small.png").read_bytes())))
        assert main([*command, "-", "--out", str(tmp_path / "piped.png")]) == 0
        np.testing.assert_array_equal(read_picture(tmp_path / "file.png"), read_picture(tmp_path / "piped.png"))
    capfdbinary.readouterr()
    write_picture(tmp_path / "small.png", drawn_face(110))
    assert main(["cartoonize", str(tmp_path / "small.png"), "--weights", str(weights), "--out", "-"]) == 0
    assert b"the face is small" in capfdbinary.readouterr().err


def _onnx(path, outputs, shape=("N", "C", "H", "W")):
    """An ONNX file with the given outputs: name -> operator on the picture."""
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node(kind, ["input"], [name], **more) for name, (kind, more) in outputs.items()],
        "given",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", "c", "h", "w"]) for name in outputs],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=10), str(path))
    return str(path)


def test_the_picture_of_an_onnx_file_is_known_by_name_and_by_shape(tmp_path):
    batch, mean = image("given", 1, 64, 64), ("ReduceMean", {"axes": [1]})
    path = _onnx(tmp_path / "NET.ONNX", {"heat": mean, "output": ("Neg", {})})
    found = open_generator(path)(batch)
    np.testing.assert_array_equal(found["image"], -batch)
    assert found["heat"].shape == (1, 1, 64, 64)
    with pytest.raises(InputError, match="'score' is no picture"):
        open_generator(_onnx(tmp_path / "disc.onnx", {"score": mean}))(batch)
    with pytest.raises(InputError, match="not one picture"):
        open_generator(_onnx(tmp_path / "grey.onnx", {"output": ("Neg", {})}, (1, 2, 64, 64)))


@pytest.mark.shared
def test_the_backends_draw_the_same_picture_with_trained_weights(shared):
    weights = str(shared / "weights" / "whitebox_unet_arthurin_keys_fp32.pth")
    photo = read_picture(shared / "data" / "wild" / "05_portrait_man.jpg")
    one, *others = (
        Cartoonizer(CartoonSettings(weights, "whitebox", backend=backend, size=256)).draw(photo)[0].picture
        for backend in usable_backends()
    )
    assert one.std() > 30
    for other in others:
        _same_picture(one, other)
        assert (one == other).all(axis=2).mean() >= BACKEND_EQUAL_SHARE  # whole pixels, too


def test_portraits_are_the_same_from_both_frameworks_weights(weights, photo, tmp_path, matte_network):
    for suffix in ("pt", "ckpt"):
        command = ["cartoonize", str(photo), "--weights", str(weights / f"photo2cartoon.{suffix}"), "--sheet"]
        assert main([*command, "--size", "64", "--out", str(tmp_path / f"{suffix}.png")]) == 0
    one, other = (read_picture(tmp_path / f"{suffix}.png") for suffix in ("pt", "ckpt"))
    assert one.shape == (64, 64, 3)
    assert (one[:4, :4] == 255).all()  # cut out on white
    _same_picture(one, other)
    row = read_picture(tmp_path / "pt_sheet.png")  # photo, crop, heat map, cartoon: four squares and three gaps
    assert row.shape == (64, 4 * 64 + 3 * 8, 3)
    np.testing.assert_array_equal(row[:, -64:], one)


def test_a_third_party_onnx_file_is_enough(photo, tmp_path, matte_network):
    path = third_party_onnx(tmp_path / "published.onnx")
    assert main(["cartoonize", str(photo), "--weights", str(path), "--out", str(tmp_path / "out"), "--sheet"]) == 0
    found = read_picture(tmp_path / "out" / "face.png")
    assert found.shape == (256, 256, 3)
    (portrait,) = Cartoonizer(CartoonSettings(str(path))).draw(read_picture(photo))
    rgba = portrait.portrait.rgba
    inside = rgba[rgba.shape[0] // 2, rgba.shape[1] // 2, :3].astype(int)
    assert np.abs(found[128, 128] + inside - 255).max() <= 6  # the negative of what it saw
    assert (found[:4, :4] == 255).all()  # and white around it
    sheet = read_picture(tmp_path / "out" / "face_sheet.png")
    assert sheet.shape == (256, 3 * 256 + 2 * 8, 3)  # no attention, no heat map


def test_float16_onnx_files_are_fed_float16(tmp_path):
    generator = open_generator(third_party_onnx(tmp_path / "half.onnx", "FLOAT16"))
    batch = image("half", 1, 256, 256)
    np.testing.assert_allclose(generator(batch)["image"], -batch, atol=1e-3)
    assert generator.fixed_side == 256


def test_onnx_files_that_cannot_be_used_say_why(tmp_path, weights):
    with pytest.raises(InputError, match="not one picture"):
        open_generator(third_party_onnx(tmp_path / "two.onnx", channels=2))
    (tmp_path / "torn.onnx").write_bytes(b"torn")
    with pytest.raises(InputError, match="not an ONNX file"):
        open_generator(tmp_path / "torn.onnx")
    with pytest.raises(InputError, match="no such file"):
        open_generator(tmp_path / "none.onnx")
    path = third_party_onnx(tmp_path / "good.onnx")
    with pytest.raises(InputError, match="give a checkpoint instead"):
        open_generator(path, backend="torch")
    with pytest.raises(InputError, match="takes 256 only"):
        Cartoonizer(CartoonSettings(str(path), size=128, frame="whole"))
    with pytest.raises(InputError, match="not usable"):
        open_generator(path, device="ascend")


def test_networks_that_draw_nothing_are_refused(tmp_path):
    save_torch(tmp_path / "face.pt", seeded_state("mobilefacenet", "mobilefacenet"))
    with pytest.raises(InputError, match="mobilefacenet draws no pictures; families that do: photo2cartoon"):
        open_generator(tmp_path / "face.pt")
    save_torch(tmp_path / "judge.pt", {"disGA": seeded_state("photo2cartoon", "disGA")})
    with pytest.raises(InputError, match="disGA draws no pictures; the file has no genA2B"):
        open_generator(tmp_path / "judge.pt")


def test_sizes_a_network_does_not_take_are_refused(weights, tmp_path):
    settings = CartoonSettings(str(weights / "photo2cartoon.pt"), frame="whole")
    for side in (250, 16):
        with pytest.raises(InputError, match="multiples of 16 from 32 on"):
            Cartoonizer(replace(settings, size=side))
    part = part_named(family_named("photo2cartoon"), "genA2B")
    kwargs = {"ngf": 4, "img_size": 32, "light": False}
    state = seeded_weights(part, kwargs, "full")
    save_torch(tmp_path / "full.pt", {"genA2B": state})
    settings = CartoonSettings(str(tmp_path / "full.pt"), frame="whole")
    (cartoon,) = Cartoonizer(settings).draw(drawn_face(100))
    assert cartoon.picture.shape == (32, 32, 3)
    with pytest.raises(InputError, match="takes 32 only"):
        Cartoonizer(replace(settings, size=64))


def _stub(run, **how):
    """A cartoonizer around a made-up network."""
    cartoonizer = Cartoonizer.__new__(Cartoonizer)
    family = family_named("ugatit")
    fixed = how.pop("fixed_side", None)
    cartoonizer.generator = Generator(
        family, Cartoonize("genA2B", **how), "torch", ("image",), fixed, 8, lambda batch: [run(batch)]
    )
    cartoonizer.settings = CartoonSettings("")
    cartoonizer._portraits = None
    return cartoonizer


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((65, 79), (64, 72)), ((721, 900), (720, 896)), ((1000, 750), (960, 720)), ((800, 801), (720, 720))],
)
def test_networks_that_take_any_size_are_given_the_photo_s_own(size, drawn):
    network = _stub(lambda batch: batch, side=None, multiple=8, shorter_limit=720)
    (cartoon,) = network.draw(np.zeros((*size, 3), np.uint8))
    assert cartoon.picture.shape[:2] == drawn
    with pytest.raises(InputError, match="too few"):
        network.draw(np.zeros((7, 30, 3), np.uint8))


@pytest.mark.shared
def test_white_box_sizes_are_those_recorded(shared):
    record = json.loads((shared / "golden" / "others" / "wbc_preprocess.json").read_text())
    network = _stub(lambda batch: batch, side=None, multiple=8, shorter_limit=720)
    for size, wanted in record["sizes"]:
        if min(wanted) >= 8:
            assert list(network._fit(np.zeros((*size, 3), np.uint8)).shape[:2]) == wanted


def test_channel_order_and_finishing_filter_of_a_family(monkeypatch):
    seen = []
    photo = np.full((16, 16, 3), (200, 100, 0), np.uint8)
    network = _stub(lambda batch: seen.append(batch) or batch, side=16, channels="BGR")
    (cartoon,) = network.draw(photo)
    assert seen[0][0, 0, 0, 0] == pytest.approx(-1)  # blue comes first
    np.testing.assert_array_equal(cartoon.picture, photo)

    monkeypatch.setattr(generators, "resolve", lambda package, name: lambda before, after: (before + after) / 2)
    network = _stub(lambda batch: batch * 0, side=16, after="any.filter")
    (cartoon,) = network.draw(photo)
    np.testing.assert_allclose(to_input(cartoon.picture), to_input(photo) / 2, atol=2 / 127.5)


def test_networks_that_draw_smaller_than_they_see(monkeypatch):
    network = _stub(lambda batch: batch[:, :, ::2, ::2], side=16)
    (cartoon,) = network.draw(np.full((40, 40, 3), 90, np.uint8))
    assert cartoon.picture.shape == (8, 8, 3)
    network = _stub(lambda batch: batch * np.nan, side=16)
    with pytest.raises(InputError, match="not finite"):
        network.draw(np.zeros((40, 40, 3), np.uint8))


def _check_feeding(family, draws):
    how = family.cartoonize
    assert how is not None, family.name
    assert (how.then or how.part) in draws
    assert how.frame in ("portrait", "face", "whole")
    assert how.channels in ("RGB", "BGR")
    part = part_named(family, how.part)
    if how.side:
        assert how.side % how.multiple == 0
        assert how.side >= part.smallest(part.kwargs)


def test_every_family_with_a_generator_says_how_to_feed_it():
    for family in families():
        draws = [part.name for part in family.parts if part.outputs[0] == "image"]
        if not draws:
            assert family.cartoonize is None, family.name
            continue
        _check_feeding(family, draws)


def _pipe(monkeypatch, content):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, write_through=True))
    return written


def test_standard_input_and_output(photo, tmp_path, monkeypatch, capsys):
    path = str(third_party_onnx(tmp_path / "n.onnx", side=64))
    written = _pipe(monkeypatch, photo.read_bytes())
    assert main(["cartoonize", "-", "--weights", path, "--frame", "whole"]) == 0
    found = read_picture(written.getvalue())
    assert found.shape == (64, 64, 3)
    written = _pipe(monkeypatch, b"no picture")
    assert main(["cartoonize", "-", "--weights", path, "--out", "-", "--frame", "whole"]) == 2
    assert written.getvalue() == b""
    _pipe(monkeypatch, photo.read_bytes())
    assert main(["cartoonize", "-", "--weights", path, "--out", str(tmp_path / "a.jpg"), "--frame", "whole"]) == 0
    assert read_picture(tmp_path / "a.jpg").shape == (64, 64, 3)


def test_what_makes_no_sense_is_refused(photo, tmp_path, capsys):
    path = str(third_party_onnx(tmp_path / "n.onnx"))
    cases = {
        "--out is needed": [str(photo)],
        "must be a folder": [str(photo), str(photo), "--out", str(tmp_path / "a.png")],
        "takes one photo": [str(photo), str(photo), "--out", "-"],
        "needs --out with a file name": ["-", "--out", str(tmp_path)],
    }
    for message, arguments in cases.items():
        assert main(["cartoonize", *arguments, "--weights", path]) == 2
        assert message in capsys.readouterr().err
    assert main(["cartoonize", str(photo), "--weights", "none.pt", "--out", str(tmp_path)]) == 2
    assert "no such file" in capsys.readouterr().err


def test_a_photo_without_a_face_leaves_nothing_behind(tmp_path, capsys, matte_network):
    write_picture(tmp_path / "wall.png", np.full((200, 200, 3), 90, np.uint8))
    path = str(third_party_onnx(tmp_path / "n.onnx"))
    target = tmp_path / "cartoon.png"
    assert main(["cartoonize", str(tmp_path / "wall.png"), "--weights", path, "--out", str(target)]) == 2
    assert "no face found; nothing written" in " ".join(capsys.readouterr().err.split())
    assert not target.exists()


def test_a_folder_in_two_processes(tmp_path, capsys, matte_network):
    for number in range(3):
        write_picture(tmp_path / "in" / f"{number}.png", drawn_face(260 + 20 * number))
    (tmp_path / "in" / "torn.png").write_bytes(b"torn")
    path = str(third_party_onnx(tmp_path / "n.onnx"))
    command = ["cartoonize", str(tmp_path / "in"), "--weights", path, "--out", str(tmp_path / "out"), "--jobs", "2"]
    assert main(command) == 2
    assert sorted(one.name for one in (tmp_path / "out").glob("*.png")) == ["0.png", "1.png", "2.png"]
    assert "3 of 4 photos done" in capsys.readouterr().out


@pytest.mark.shared
def test_one_photo_in_every_position_is_one_cartoon(shared, tmp_path, matte_network):
    network = Cartoonizer(CartoonSettings(str(third_party_onnx(tmp_path / "n.onnx"))))
    wild = shared / "data" / "wild"
    drawn = {}
    for name in ("01_portrait_front", "03_portrait_rot90", "04_portrait_rot180"):
        (drawn[name],) = network.draw(read_picture(Path(wild / f"{name}.jpg")))
    first = drawn["01_portrait_front"].picture.astype(int)
    for name, cartoon in drawn.items():
        assert np.abs(first - cartoon.picture).mean() < 12, name
