"""From a photo to a portrait: recorded numbers of the reference, every way up."""

import json

import cv2
import numpy as np
import pytest

from convert.errors import InputError
from parity_tests.harness.inputs import feature, noise
from parity_tests.tests.cases import drawn_picture, recorded
from parity_tests.tolerances import RECORDED_LEVELS
from toonport.photo.align import WHITE, Crop, carried, crop_face, crop_window, eye_angle, upright_matrix
from toonport.photo.compose import finish, heat_picture, mask_of, on_white, sheet, to_input
from toonport.photo.detect import find_faces
from toonport.photo.example import drawn_face
from toonport.photo.faces import turn_back
from toonport.photo.landmarks import open_landmarks
from toonport.photo.matte import HeadMatte
from toonport.photo.picture import resize
from toonport.photo.portrait import PortraitOptions, Portraits

RECORDED = ("0:400x300", "1:240x320", "2:200x200")


def _recorded_case(record, key):
    number, _, size = key.partition(":")
    height, width = (int(side) for side in size.split("x"))
    y0, y1, x0, x1 = record["crop"][key]["box_frac"]
    u = noise(f"open/pre/lm{number}", 136).reshape(68, 2)
    points = np.stack([(x0 + (x1 - x0) * u[:, 0]) * width, (y0 + (y1 - y0) * u[:, 1]) * height], axis=1).round(3)
    return drawn_picture(f"open/pre/img{number}", height, width), points


def _rgba(side):
    y, x = np.ogrid[:side, :side]
    radius = np.hypot((y - side / 2) / (side / 2), (x - side / 2) / (side / 2))
    alpha = np.floor(np.clip((1.1 - radius) * 2, 0, 1) * 255 + 0.5)
    return np.dstack([drawn_picture(f"open/pre/rgba{side}", side, side), alpha.astype(np.uint8)])


def _assert_close(record, picture, levels=RECORDED_LEVELS):
    wanted, found = recorded(record, picture)
    assert list(picture.shape) == record["shape"]
    assert np.abs(wanted - found).max() <= levels
    assert abs(picture.astype(np.float64).sum() - record["sum"]) <= levels * 0.01 * picture.size


@pytest.fixture
def record(shared):
    return json.loads((shared / "golden" / "ugatit" / "preprocess.json").read_text())


@pytest.mark.shared
@pytest.mark.parametrize("key", RECORDED)
def test_crop_is_the_reference_s_crop(record, key):
    picture, points = _recorded_case(record, key)
    _assert_close(record["crop"][key]["out"], crop_face(picture, points).pixels, levels=0)


@pytest.mark.shared
@pytest.mark.parametrize("key", RECORDED)
def test_turning_upright_is_the_reference_s(record, key):
    case = record["rotate"][key]
    picture, points = _recorded_case(record, key)
    points[36], points[45] = case["eye36"], case["eye45"]
    matrix, size = upright_matrix(*picture.shape[:2], eye_angle(points, as_reference=True))
    wanted, found = recorded(case["landmarks_out"], carried(points, matrix))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    _assert_close(case["out"], cv2.warpAffine(picture, matrix, size, borderValue=WHITE))


@pytest.mark.quick
@pytest.mark.parametrize("degrees", [0, 20, 90, -135])
def test_a_face_turned_alone_is_the_one_in_the_turned_photo(degrees):
    picture, angle = drawn_picture("turned alone", 200, 260), np.radians(degrees)
    picture = cv2.GaussianBlur(picture, (0, 0), 3)
    points = np.random.default_rng(2).uniform((-20, 60), (60, 130), (68, 2))
    matrix, size = upright_matrix(*picture.shape[:2], angle)
    turned = cv2.warpAffine(picture, matrix, size, borderValue=WHITE)
    wanted = crop_face(turned, carried(points, matrix))
    crop = crop_face(picture, points, angle)
    photo = cv2.warpAffine(np.ones(picture.shape[:2], np.uint8), matrix, size)
    within = crop_face(np.dstack([photo] * 3), carried(points, matrix)).pixels[..., 0] == 1
    assert (crop.inside != within).sum() <= 2 * crop.side  # along the photo's border, by a pixel at most
    far_in, far_out = (
        cv2.erode(place.astype(np.uint8), np.ones((3, 3)), iterations=2) > 0 for place in (within, ~within)
    )
    assert np.abs(crop.pixels.astype(int) - wanted.pixels)[far_in].max() <= RECORDED_LEVELS
    assert far_out.any()
    assert (crop.pixels[far_out] == 255).all()


@pytest.mark.shared
@pytest.mark.parametrize("side", [256, 300])
def test_network_input_and_finished_picture_are_the_reference_s(record, side):
    case = record["infer_io"][f"rgba{side}"]
    _assert_close(case["rgba"], _rgba(side), levels=0)
    sized = resize(_rgba(side), 256, 256)
    wanted, found = recorded(case["net_input"], to_input(sized))
    np.testing.assert_allclose(found, wanted, atol=RECORDED_LEVELS / 127.5 if side != 256 else 1e-6)
    finished = finish(np.sin(3 * to_input(sized)), sized)
    _assert_close(case["output_bgr_uint8"], finished[..., ::-1], levels=1 if side == 256 else 3 * RECORDED_LEVELS)


@pytest.mark.shared
def test_head_network_is_fed_and_read_as_in_the_reference(record):
    case, seen = record["seg_io"], []
    network = HeadMatte.__new__(HeadMatte)
    network._run = lambda batch: seen.append(batch) or feature("open/pre/segmask", (384, 384, 1), 0.5, 0.5)[..., 0]
    picture = drawn_picture("open/pre/seg", 300, 260)
    network(Crop(picture, np.ones(picture.shape[:2], np.bool_)))
    wanted, found = recorded(case["input_300x260"], seen[0])
    np.testing.assert_allclose(found, wanted, atol=RECORDED_LEVELS / 255)
    mask = (255 * cv2.resize(feature("open/pre/segmask", (384, 384, 1), 0.5, 0.5), (260, 300))).astype(np.uint8)
    _assert_close(case["mask_to_300x260"], mask)


@pytest.mark.shared
def test_heat_colours_are_the_reference_s(record):
    case = record["cam"]
    heat = feature("open/pre/heat", tuple(case["heat_shape"]), 3, 2)[..., 0]
    found = heat_picture(heat, case["size"], case["size"])[..., ::-1] / 255  # recorded as BGR in 0..1
    wanted, sampled = recorded(case["out"], found)
    np.testing.assert_allclose(sampled, wanted, atol=4 * RECORDED_LEVELS / 255)  # JET moves 4 levels per level


def test_flat_heat_map_is_all_blue_and_not_a_number_nowhere():
    found = heat_picture(np.full((4, 4), 7.0), 8, 8)
    assert (found == found[0, 0]).all()
    assert found[0, 0, 2] > 100 > found[0, 0, 0]


@pytest.mark.parametrize("degrees", [0, 30, 90, 135, 180, -90, -170])
def test_turning_brings_the_eyes_level_and_the_right_way_up(degrees):
    points = np.random.default_rng(0).uniform(80, 120, (68, 2))
    points[36], points[45] = (80, 90), (120, 90)
    radians = np.radians(degrees)
    matrix = np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
    tilted = (points - 100) @ matrix + 100
    upright = carried(tilted, upright_matrix(200, 200, eye_angle(tilted))[0])
    assert upright[45, 1] == pytest.approx(upright[36, 1])
    assert upright[45, 0] - upright[36, 0] == pytest.approx(40)


def test_the_reference_s_half_circle_leaves_such_a_face_upside_down():
    points = np.zeros((68, 2))
    points[36], points[45] = (120, 100), (80, 100)
    assert eye_angle(points) == pytest.approx(np.pi)
    assert eye_angle(points, as_reference=True) == pytest.approx(0)
    points[45] = (120, 140)
    assert eye_angle(points, as_reference=True) == pytest.approx(np.pi / 2)
    points[45] = points[36]
    with pytest.raises(InputError, match="same point"):
        eye_angle(points)


@pytest.mark.parametrize("turns", range(4))
def test_points_of_a_turned_picture_come_back(turns):
    picture = np.zeros((7, 11), int)
    picture[2, 8] = 1
    y, x = np.argwhere(np.rot90(picture, turns) == 1)[0]
    np.testing.assert_array_equal(turn_back(np.array([[x, y]], float), turns, 7, 11), [[8, 2]])


def test_crop_reaching_outside_is_white_there_and_says_so():
    picture = np.full((100, 100, 3), 50, np.uint8)
    points = np.random.default_rng(1).uniform((5, 60), (60, 95), (68, 2))
    crop = crop_face(picture, points)
    top, left, side = crop_window(points)
    assert crop.pixels.shape == (side, side, 3)
    assert (crop.pixels[~crop.inside] == 255).all()
    assert (crop.pixels[crop.inside] == 50).all()
    assert crop.inside.sum() == (100 - max(0, top)) * (min(100, left + side) - max(0, left))
    with pytest.raises(InputError, match="outside the photo"):
        crop_face(picture, points + 1000)


def test_a_photo_too_long_for_opencv_is_cropped():
    picture = np.full((300, 33000, 3), 90, np.uint8)
    points = np.random.default_rng(1).uniform((32000, 60), (32100, 160), (68, 2))
    crop = crop_face(picture, points, 0.1)
    assert (cv2.erode(crop.pixels[..., 0], np.ones((5, 5)))[crop.inside] == 90).all()


def test_every_face_is_found_beside_larger_and_turned_ones():
    picture = np.full((900, 1500, 3), 128, np.uint8)
    picture[:700, :700] = drawn_face(700)
    picture[300:800, 900:1400] = np.rot90(drawn_face(500))
    landmarks = open_landmarks()
    faces = find_faces(picture, landmarks, every=True)
    assert sorted(face.turns for face in faces) == [0, 3]
    middles = {face.turns: face.points.mean(axis=0) for face in faces}
    np.testing.assert_allclose(middles[0], (350, 440), atol=30)
    np.testing.assert_allclose(middles[3], (900 + 315, 300 + 250), atol=30)
    assert find_faces(np.zeros((3, 30000, 3), np.uint8), landmarks) == []  # a thread of a picture


def test_white_stays_white_through_network_input_and_back():
    rgba = np.dstack([drawn_picture("white", 8, 8), np.zeros((8, 8), np.uint8)])
    assert (on_white(rgba) == 255).all()
    assert (to_input(rgba) == 1).all()
    assert (finish(np.full((1, 3, 8, 8), -1.0), rgba) == 255).all()
    opaque = rgba[..., :3]
    assert (mask_of(opaque) == 1).all()
    np.testing.assert_array_equal(finish(to_input(opaque).astype(np.float64), opaque), opaque)
    np.testing.assert_array_equal(finish(to_input(opaque, "BGR"), opaque, "BGR"), opaque)
    assert (to_input(opaque, "BGR") == to_input(opaque)[:, ::-1]).all()
    assert (finish(np.full((1, 3, 8, 8), 9.0), opaque) == 255).all()


def test_sheet_keeps_each_picture_s_shape():
    found = sheet([np.zeros((100, 50, 3), np.uint8), np.zeros((40, 40, 3), np.uint8)], 40)
    assert found.shape == (40, 20 + 8 + 40, 3)


@pytest.mark.parametrize("turns", range(4))
def test_a_face_is_found_whichever_way_up(turns):
    upright = drawn_face(300)
    faces = find_faces(np.ascontiguousarray(np.rot90(upright, turns)), open_landmarks())
    assert len(faces) == 1
    (straight,) = find_faces(upright, open_landmarks())
    assert np.abs(turn_back(faces[0].points, turns, 300, 300) - straight.points).max() < 6


@pytest.fixture(scope="module")
def portraits(matte_network):
    return Portraits(PortraitOptions())


def test_portrait_of_a_drawn_face(portraits):
    (portrait,) = portraits(drawn_face(400))
    assert portrait.side == pytest.approx(383, rel=0.05)
    assert abs(portrait.angle) < 3
    alpha = portrait.rgba[..., 3]
    middle = portrait.side // 2
    assert alpha[middle, middle] == 255
    assert alpha[3, 3] == 0
    assert (portrait.white[3, 3] == 255).all()
    assert portrait.warnings == ()


def test_matte_never_covers_what_lies_outside_the_photo(portraits):
    close = drawn_face(400)[120:360, 100:300]
    (portrait,) = portraits(close)
    outside = (portrait.rgba[..., :3] == 255).all(axis=2)
    assert outside.any()
    assert (portrait.rgba[..., 3][outside] == 0).all()


def test_largest_face_by_default_every_face_on_demand(portraits, matte_network):
    scene = np.full((400, 1000, 3), (120, 160, 200), np.uint8)
    scene[100:400, :300] = drawn_face(300)
    scene[:, 500:900] = drawn_face(400)
    (largest,) = portraits(scene)
    assert largest.side > 340
    both = Portraits(PortraitOptions(every=True))(scene)
    assert [one.side > 340 for one in both] == [False, True]  # from left to right


def test_small_faces_are_warned_about_and_no_face_is_an_error(portraits):
    scene = np.full((700, 700, 3), (120, 160, 200), np.uint8)
    scene[300:420, 300:420] = drawn_face(120)
    (portrait,) = portraits(scene)
    assert "small" in portrait.warnings[0]
    with pytest.raises(InputError, match="no face found"):
        portraits(drawn_picture("noise", 300, 300))


def test_reference_exact_finds_upright_faces_only(matte_network):
    exact = Portraits(PortraitOptions(as_reference=True, matte=""))
    assert len(exact(drawn_face(400))) == 1
    with pytest.raises(InputError, match="no face found"):
        exact(np.ascontiguousarray(drawn_face(400)[::-1]))


def test_crop_without_matte_keeps_its_background():
    (portrait,) = Portraits(PortraitOptions(matte=""))(drawn_face(400))
    assert (portrait.white[portrait.rgba[..., 3] == 255] == portrait.rgba[..., :3][portrait.rgba[..., 3] == 255]).all()
    assert portrait.white[20, portrait.side // 2, 2] > 150  # the drawing's blue wall above the hair
