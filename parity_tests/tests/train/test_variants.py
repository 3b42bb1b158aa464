"""Weights as others have them: in bfloat16, and of networks for grey pictures, wherever the usual ones work."""

import numpy as np
import pytest
from PIL import Image

from convert.plan import build_plan
from convert.registry import family_named, part_named
from parity_tests.harness.inputs import formula_state, image, in_channels
from parity_tests.tests.cases import save_torch, seeded_family, seeded_state, small_part
from toonport.cli import main
from toonport.draw.choices import usable_backends
from toonport.draw.generators import open_generator

FAMILIES = ("ugatit", "cyclegan", "whitebox", "dtn", "sagan_cyclegan")


def _backends(family):
    """All of them once; ONNX files are written of the module that PyTorch runs, and that takes long."""
    return usable_backends() if family == "cyclegan" else ("mindspore", "torch")


def _rounded(state):
    import torch

    return {
        name: torch.from_numpy(np.array(value)).to(torch.bfloat16) if value.dtype.kind == "f" else value
        for name, value in state.items()
    }


def _save_rounded(folder, family, parts):
    """The same weights as bfloat16 and, with the same values, as float32."""
    half = {part: _rounded(state) for part, state in parts.items()}
    whole = {
        part: {name: value.float() if hasattr(value, "float") else value for name, value in state.items()}
        for part, state in half.items()
    }
    return save_torch(folder / "half.pt", half), save_torch(folder / "whole.pt", whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_weights_draw_as_the_same_values_in_float32(family, tmp_path):
    files = _save_rounded(tmp_path, family, seeded_family(family))
    pictures = image("bfloat16", 1, 64, 64)
    for backend in _backends(family):
        half, whole = (open_generator(file, family, backend=backend)(pictures)["image"] for file in files)
        np.testing.assert_array_equal(half, whole)


def test_bfloat16_weights_are_exported_compared_and_trained_from(pictures, tmp_path, capsys):
    half, _ = _save_rounded(tmp_path, "cyclegan", {name: seeded_state("cyclegan", name) for name in ("G_A", "D_A")})
    assert main(["convert", str(half), str(tmp_path / "half.ckpt")]) == 0
    for file in (half, tmp_path / "half.ckpt"):
        out = ["--out", str(tmp_path / "net.onnx")]
        assert main(["export", "cyclegan", "--weights", str(file), "--size", "32", *out]) == 0
        assert main(["compare", "cyclegan", "--part", "D_A", "--weights", str(file), "--mode", "isolated"]) == 0
    quick = ["--size", "24", "--steps", "1", "--margin", "2", "--no-jit", "--no-tensorboard", "--sheet-every", "0"]
    for framework in ("torch", "mindspore"):
        flags = [
            "--data",
            str(pictures),
            "--init",
            str(half),
            "--framework",
            framework,
            "--out",
            str(tmp_path / framework),
        ]
        assert main(["train", "cyclegan", "--set", "identity=0", *flags, *quick]) == 0
    assert "internal error" not in capsys.readouterr().err


def _network(family, part, **channels):
    """A small network with other channels: its part, constructor arguments and seeded weights."""
    kwargs = {**small_part(family, part)[1], **channels}
    return kwargs, formula_state("channels", build_plan(part_named(family_named(family), part), kwargs).shapes)


GREY = {
    "cyclegan, grey in": ("cyclegan", "G_A", {"input_nc": 1}),
    "cyclegan, grey both ways": ("cyclegan", "G_A", {"input_nc": 1, "output_nc": 1}),
    "cyclegan, grey out": ("cyclegan", "G_A", {"output_nc": 1}),
    "ugatit, grey in": ("ugatit", "genA2B", {"input_nc": 1}),
    "whitebox, grey both ways": ("whitebox", "generator", {"in_channels": 1, "out_channels": 1}),
}


@pytest.mark.parametrize("kind", GREY)
def test_a_network_for_grey_pictures_draws_a_colour_photo_by_its_luminance(kind, tmp_path):
    family, part, channels = GREY[kind]
    kwargs, state = _network(family, part, **channels)
    file = save_torch(tmp_path / "grey.pth", state)
    photo = image("grey", 1, 64, 64)
    drawn = [open_generator(file, family, part, backend)(photo)["image"] for backend in _backends(family)]
    assert all(picture.shape == photo.shape for picture in drawn)
    assert max(np.abs(picture - drawn[0]).max() for picture in drawn) < 1 / 255
    if part_named(family_named(family), part).channels(kwargs) == 1:
        how = family_named(family).cartoonize
        grey = in_channels(photo, 1, how.channels).repeat(3, 1)
        if how.after is None:  # White-box's filter looks at the photo's own colours
            np.testing.assert_allclose(open_generator(file, family, part, "torch")(grey)["image"], drawn[-1], atol=1e-4)


def test_luminance_is_pillows():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    found = in_channels((pixels.transpose(2, 0, 1)[None] / 127.5 - 1).astype(np.float32), 1)
    wanted = np.asarray(Image.fromarray(pixels).convert("L"), np.float64)
    assert np.abs((found[0, 0] + 1) * 127.5 - wanted).max() <= 1


def test_other_channels_are_named_and_refused(pictures, tmp_path, capsys):
    for number, channels in enumerate(({"input_nc": 4}, {"input_nc": 2}, {"input_nc": 6})):
        file = save_torch(tmp_path / f"{number}.pth", _network("cyclegan", "G_A", **channels)[1])
        photo = str(next((pictures / "trainA").iterdir()))
        assert main(["cartoonize", photo, "--weights", str(file), "--out", str(tmp_path / "o.png")]) == 2
        assert f"takes {channels['input_nc']} channels" in capsys.readouterr().err
    file = save_torch(tmp_path / "grey.pth", _network("cyclegan", "G_A", input_nc=1)[1])
    start = ["--data", str(pictures), "--init", str(file), "--size", "16", "--out", str(tmp_path / "run")]
    assert main(["train", "cyclegan", "--framework", "torch", *start]) == 2
    assert "G_A takes pictures of 1 channels" in capsys.readouterr().err
