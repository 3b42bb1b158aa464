"""The White-box representations of a picture: structure, texture weights, and the landmark term."""

import json
from dataclasses import replace

import numpy as np
import pytest

from convert.recipes.whitebox import FacialSettings, WhiteboxSettings, block_means, draw_colour_weights
from convert.registry import family_named
from parity_tests.harness.inputs import feature
from parity_tests.harness.judge import judge_all
from parity_tests.harness.training import measure_training
from parity_tests.harness.training_setup import small_setup
from parity_tests.tests.golden_others import image
from parity_tests.tolerances import FLOAT64_RELATIVE, ULP
from toonport.train.whitebox_landmarks import LandmarkWindows, four_landmarks, windows_of
from toonport.train.whitebox_structure import adaptive_structure, colour_segments, joined_segments, slic_structure

FACE = np.array([[[24.0, 28], [40, 28], [32, 36], [32, 46]]])


@pytest.mark.shared
def test_colours_of_segments_equal_facialcartoonization(shared):
    record = json.loads((shared / "golden" / "others" / "fc_losses.json").read_text())["items"]["label_colour"]["f64"]
    pixels = image("fake", (1, 3, 64, 64))[0].transpose(1, 2, 0).astype(np.float64)
    rows, columns = np.mgrid[:64, :64]
    labels = rows // 8 * 8 + columns // 8 + 1
    for amplitude, shift in ((30, 0), (60, 0), (120, 100), (200, 0)):
        found = colour_segments(pixels * amplitude + shift, labels).transpose(2, 0, 1)
        wanted = record[f"adaptive_mix_amp{amplitude}"]
        places = [int((k + 0.5) * found.size / 16) for k in range(16)]
        assert np.abs(found.reshape(-1)[places] - wanted["samples"]).max() < FLOAT64_RELATIVE * 255
        assert abs(np.linalg.norm(found) / wanted["l2"] - 1) < FLOAT64_RELATIVE


@pytest.mark.shared
def test_superpixels_equal_those_recorded_with_the_same_scikit_image(shared):
    import skimage

    if skimage.__version__ != "0.26.0":
        pytest.skip(f"recorded with scikit-image 0.26.0, this is {skimage.__version__}")
    recorded = np.load(shared / "golden" / "others" / "fc_arrays.npz")["slic_avg_200"]
    assert np.abs(slic_structure(image("photo", (2, 3, 64, 64))) - recorded).max() < 4 * ULP


@pytest.mark.parametrize("structure", [slic_structure, adaptive_structure])
def test_structure_is_flat_inside_segments_and_keeps_size_type_and_range(structure):
    photos = image("photo", (2, 3, 48, 64))
    found = structure(photos)
    assert found.shape == photos.shape
    assert found.dtype == photos.dtype
    assert np.abs(found).max() <= 1
    colours = {tuple(pixel) for pixel in found[0].reshape(3, -1).T.tolist()}
    assert 1 < len(colours) <= 220


def test_segments_are_joined_closest_first_until_few_pairs_are_left():
    pixels = np.repeat(np.array([0.0, 4.0, 200.0, 90.0])[None], 4, axis=0)[:, :, None].repeat(3, axis=2)
    labels = np.repeat(np.arange(4)[None], 4, axis=0)
    joined = joined_segments(pixels, labels, 2)
    assert len(np.unique(joined)) == 3
    assert joined[0, 0] == joined[0, 1]
    assert len(np.unique(joined_segments(pixels, labels, 1))) == 2


def _terms():
    import torch

    from torch_ref.losses_whitebox import landmark_loss, luminance

    pixels, offsets, weights = (torch.from_numpy(one) for one in windows_of(FACE, 64, 64, 4, 4))
    photo = torch.from_numpy(image("photo", (1, 3, 64, 64))).double()

    def loss(output):
        return landmark_loss(luminance(photo, "rgb"), luminance(output, "rgb"), pixels, offsets, weights, 20.0)

    return torch, photo, loss


def test_landmark_term_counts_squared_movement_in_eye_distances():
    torch, photo, loss = _terms()
    assert float(loss(photo)) == 0
    assert float(loss(0.4 * photo + 0.2)) < 1e-9  # brightness and contrast do not move a landmark
    for pixels in (1, 2, 3):
        for axis in (2, 3):
            moved = float(loss(torch.roll(photo, pixels, axis)))
            assert moved == pytest.approx((pixels / 16) ** 2, rel=1e-2)


def test_landmark_term_pulls_a_moved_landmark_back():
    torch, photo, loss = _terms()
    output = torch.roll(photo, 1, 3).requires_grad_()
    before = loss(output)
    (gradient,) = torch.autograd.grad(before, output)
    assert 0 < float(gradient.abs().max()) < 1
    with torch.no_grad():
        assert float(loss(output - gradient / gradient.norm())) < float(before)
    direction = torch.from_numpy(image("cartoon", (1, 3, 64, 64))).double()
    with torch.no_grad():
        numeric = float(loss(output + 1e-6 * direction) - loss(output - 1e-6 * direction)) / 2e-6
    assert numeric == pytest.approx(float((gradient * direction).sum()), rel=1e-4)


def test_landmark_windows_of_photos_without_a_face_weigh_nothing():
    points = np.zeros((68, 2))
    points[36:42], points[42:48], points[30], points[48:68] = [20, 24], [44, 24], [32, 36], [32, 48]
    assert four_landmarks(points).tolist() == [[20, 24], [44, 24], [32, 36], [32, 48]]
    answers = iter([points, None])
    windows = LandmarkWindows(lambda picture: next(answers))
    pixels, offsets, weights = windows(image("photo", (2, 3, 64, 64)))
    assert pixels.shape == (2, 4, 81, 81)
    assert offsets[40].tolist() == [0, 0]
    assert weights[0] == pytest.approx(1 / (4 * 24**2))
    assert weights[1].tolist() == [0] * 4
    middle = pixels[0, 0, 40, 40]
    assert (middle % 64, middle // 64) == (20, 24)
    assert windows_of(FACE + np.array([30, 0]), 64, 64, 4, 4)[2][0].tolist() == [
        1 / 16**2,
        0,
        0,
        0,
    ]  # three leave the picture


def test_landmark_term_is_the_same_in_both_frameworks_and_off_by_default():
    import ms_models.steps.whitebox as port
    import torch_ref.steps.whitebox as reference

    assert WhiteboxSettings().landmark == FacialSettings().landmark == 0
    windows = windows_of(FACE / 2, 32, 32, 3, 3)
    setup = small_setup(family_named("whitebox"), steps=1)
    setup = replace(setup, settings={**setup.settings, "landmark": 1e3})

    def with_windows(cls):
        def make(*args):
            step = cls(*args)
            assert step.hooks["landmarks"] is None
            step.hooks["landmarks"] = lambda photos: windows
            return step

        return make

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "WhiteboxStep", with_windows(reference.WhiteboxStep))
        verdicts = judge_all(measure_training(setup, with_windows(port.WhiteboxStep)))
    assert [(one.measurement.layer, one.measurement.quantity) for one in verdicts if not one.equal] == []
    assert any(one.measurement.quantity.name == "G.landmark" for one in verdicts)


def test_steps_say_what_they_miss():
    import ms_models.steps.whitebox
    import torch_ref.steps.whitebox

    for module in (torch_ref.steps.whitebox, ms_models.steps.whitebox):
        with pytest.raises(ValueError, match="needs VGG19"):
            _bare_step(module)


def _bare_step(module):
    from convert.family import resolve

    package = module.__name__.split(".")[0]
    networks = {
        "generator": resolve(package, "whitebox.UnetGenerator")(4, 1),
        "disc_gray": resolve(package, "whitebox.Discriminator")(1, 4),
        "disc_blur": resolve(package, "whitebox.Discriminator")(3, 4),
    }
    return module.WhiteboxStep(networks, module.WhiteboxSettings())


def test_texture_weights_of_a_batch_or_of_every_pixel():
    for changes in ({}, {"shift_per_pixel": True}, {"shift": "normal", "shift_per_pixel": True}):
        drawn = draw_colour_weights(np.random.default_rng(1), WhiteboxSettings(**changes), (2, 3, 8, 16))
        assert drawn[0].shape == ((2, 1, 8, 16) if changes else (1, 1, 1, 1))
    blue, green, red = drawn
    assert [round(float(one.mean()), 1) for one in (blue, green, red)] == [0.1, 0.6, 0.3]


def test_block_means_are_flat_and_keep_the_mean():
    pictures = feature("blocks", (1, 3, 16, 24))
    found = block_means(pictures)
    assert found[0, 0, :8, :8] == pytest.approx(pictures[0, 0, :8, :8].mean(), abs=4 * ULP)
    assert np.ptp(found[0, 1, 8:, 16:]) == 0


@pytest.mark.parametrize("structure", [slic_structure, adaptive_structure])
def test_a_picture_of_one_colour_is_one_segment(structure):
    found = structure(np.full((1, 3, 32, 32), -0.5, np.float32))
    assert found.shape == (1, 3, 32, 32)
    assert float(found.max() - found.min()) < 4 * ULP
