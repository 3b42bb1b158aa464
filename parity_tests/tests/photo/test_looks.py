"""Small faces in groups and faces in very long pictures, within bounds; and none where there is none."""

import cv2
import numpy as np
import pytest

from toonport.photo import looks
from toonport.photo.detect import find_faces
from toonport.photo.example import drawn_face
from toonport.photo.faces import turn_back
from toonport.photo.landmarks import open_landmarks
from toonport.photo.looks import agreed, enlargement, look, overlap
from toonport.photo.picture import resize

FACE = 189 / 400  # breadth of the drawn face's landmarks, as a share of its picture


def _page(height, width):
    page = np.full((height, width, 3), 245, np.uint8)
    for row in range(40, height, 60):
        text = f"line {row}, and nothing but text here " * (1 + width // 500)
        cv2.putText(page, text, (5, row), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (30, 30, 30), 2)
    return page


def _group(count, height, width, smallest, largest, background=110):
    """Drawn faces of `smallest` to `largest` pixels in rows, and their middles."""
    picture = np.full((height, width, 3), background, np.uint8)
    rows = round((count * height / width) ** 0.5)
    columns, middles = -(-count // rows), []
    for number in range(count):
        breadth = smallest + (largest - smallest) * number / count
        side = min(round(breadth / FACE), width // columns, height // rows)
        top, left = number // columns * height // rows, number % columns * width // columns
        picture[top : top + side, left : left + side] = resize(drawn_face(), side, side)
        middles.append((left + side / 2, top + side * 0.64))
    return picture, np.array(middles)


@pytest.mark.parametrize(
    ("count", "height", "width", "smallest", "largest"),
    [(17, 600, 899, 24, 34), (29, 683, 1024, 26, 60), (6, 240, 360, 24, 26)],
)
def test_small_faces_of_groups_are_found_and_nothing_else(count, height, width, smallest, largest):
    picture, middles = _group(count, height, width, smallest, largest)
    faces = find_faces(picture, open_landmarks(), every=True)
    places = np.array([face.points.mean(axis=0) for face in faces])
    distances = np.linalg.norm(places[:, None] - middles, axis=2)
    assert (distances.min(axis=1) < largest).all()
    assert len(set(distances.argmin(axis=1))) == len(faces) >= 0.96 * count


def test_one_small_face_is_found_without_asking_for_every_face():
    picture, _ = _group(1, 600, 899, 24, 24)
    assert len(find_faces(picture, open_landmarks())) == 1


@pytest.mark.parametrize(
    ("height", "width", "side", "turns"),
    [(20000, 1080, 400, 0), (1200, 14000, 300, 0), (1200, 14000, 300, 1), (12000, 600, 240, 2), (9000, 160, 150, 0)],
)
def test_a_face_in_a_very_long_picture_is_found_whichever_way_up(height, width, side, turns):
    page = _page(height, width)
    top, left = (height - side) * 3 // 4, (width - side) * 3 // 4
    page[top : top + side, left : left + side] = resize(drawn_face(), side, side)
    turned = np.ascontiguousarray(np.rot90(page, turns))
    (face,) = find_faces(turned, open_landmarks())
    back = turn_back(face.points, turns, *page.shape[:2]).mean(axis=0)
    np.testing.assert_allclose(back, (left + side * 0.5, top + side * 0.64), atol=side * 0.1)


@pytest.mark.parametrize("turns", range(4))
def test_strips_show_what_the_whole_shows(turns, monkeypatch):
    picture, _ = _group(12, 200, 2400, 50, 70)
    picture = np.ascontiguousarray(np.rot90(picture, -turns))
    whole = look(picture, 1024, turns)
    monkeypatch.setattr(looks, "STRIP_PIXELS", 2**19)
    strips = look(picture, 1024, turns)
    assert len(whole) == len(strips) == 12
    for box, _ in strips:
        assert max(overlap(box, other) for other, _ in whole) > 0.5


def test_weak_faces_count_when_two_looks_agree():
    one, beside, other = (0.0, 0.0, 10.0, 10.0), (1.0, 0.0, 11.0, 10.0), (50.0, 0.0, 60.0, 10.0)
    assert agreed([[(one, 0.15), (other, 0.2)], [(beside, 0.12)], [(one, 0.05)]]) == [(one, 0.15)]
    assert agreed([[(other, 0.3)], [(one, 0.12)], [(one, 0.12)], [(one, 0.12)]]) == [(other, 0.3)]
    assert agreed([[], []]) == []


@pytest.mark.parametrize("shape", [(600, 899), (50, 60), (20000, 1080), (700, 65000), (4000, 4000)])
def test_a_look_is_bounded_in_pixels_and_enlargement(shape):
    picture = np.broadcast_to(np.uint8(0), (*shape, 3))
    for side in (256, 1024, 4096):
        factor = enlargement(picture, side)
        assert factor <= 4
        assert factor**2 * shape[0] * shape[1] <= min(4 * side**2, 2**25) * 1.0001


@pytest.mark.parametrize("every", [False, True])
def test_no_face_where_there_is_none(every):
    random = np.random.default_rng(0)
    clouds = cv2.GaussianBlur(random.uniform(0, 255, (150, 200, 3)), (0, 0), 6)
    clouds = np.clip((clouds - clouds.mean()) * 8 + 128, 0, 255).astype(np.uint8)
    discs = np.full((150, 200, 3), 200, np.uint8)
    for _ in range(60):
        centre, radius = tuple(int(place) for place in random.integers(0, 200, 2)), int(random.integers(3, 20))
        cv2.circle(discs, centre, radius, tuple(int(level) for level in random.integers(0, 256, 3)), -1)
    for picture in (clouds, discs, _page(200, 150)):
        assert find_faces(picture, open_landmarks(), every) == []
