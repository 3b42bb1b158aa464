"""Training pictures: the same batches whoever asks, whenever; bad files left out and counted."""

import numpy as np
import pytest
from PIL import Image

from convert.errors import InputError
from toonport.train.config import RunConfig
from toonport.train.data import Batches, normalized

pytestmark = pytest.mark.quick

SIDE = 24


@pytest.fixture
def coloured(tmp_path):
    """Five pictures of A, three of B, each of one colour so that it can be told again."""
    for domain, count in (("A", 5), ("B", 3)):
        folder = tmp_path / f"train{domain}" / "inner"
        folder.mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (40, 30), (20 * index, 200 if domain == "B" else 0, 7)).save(folder / f"{index}.png")
    return tmp_path


def _batches(data, **changes):
    return Batches(RunConfig("ugatit", str(data), "", size=SIDE, margin=6, **changes))


def _reds(batch):
    """The colour that tells which file a picture is, by position in the batch."""
    return [round(float((one[0, 0, 0] + 1) * 127.5)) for one in batch]


def test_batches_follow_from_seed_and_step_alone(coloured):
    straight = _batches(coloured, batch=2, workers=4)
    wanted = {step: straight(step) for step in range(1, 9)}
    later = _batches(coloured, batch=2, workers=1)
    for step in (8, 3):
        for first, second in zip(wanted[step], later(step), strict=True):
            assert first.tobytes() == second.tobytes()
    other = _batches(coloured, batch=2, seed=1)
    assert any(other(step)[0].tobytes() != wanted[step][0].tobytes() for step in (1, 2, 3))
    for batches in (straight, later, other):
        batches.close()


def test_every_picture_comes_once_per_pass_and_passes_are_shuffled(coloured):
    batches = _batches(coloured)
    reds = [_reds(batches(step)[0])[0] for step in range(1, 26)]
    passes = [reds[start : start + 5] for start in range(0, 25, 5)]
    assert all(sorted(one) == [0, 20, 40, 60, 80] for one in passes)
    assert len({tuple(one) for one in passes}) > 1
    batches.close()


def test_processes_share_the_global_batch(coloured):
    whole = _batches(coloured, batch=2)
    parts = [
        Batches(RunConfig("ugatit", str(coloured), "", size=SIDE, margin=6, data_parallel=2), rank) for rank in (0, 1)
    ]
    for step in (1, 2, 3):
        together = np.concatenate([part(step)[0] for part in parts])
        assert together.tobytes() == whole(step)[0].tobytes()
    for batches in (whole, *parts):
        batches.close()


def _cuts_that_give(line, row):
    """(mirrored, left) of every cut of a row of pixels that gives the line."""
    return {
        (mirrored, left)
        for mirrored in (False, True)
        for left in range(7)
        if np.array_equal(line, normalized((row[::-1] if mirrored else row)[None, left : left + SIDE])[0, 0])
    }


def test_pictures_are_mirrored_enlarged_cropped_and_normalised(tmp_path):
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 1, 3))
    for domain in "AB":
        (tmp_path / f"train{domain}").mkdir()
        Image.fromarray(ramp).save(tmp_path / f"train{domain}" / "ramp.png")
    batches = _batches(tmp_path)
    grown = np.asarray(Image.fromarray(ramp).resize((SIDE + 6, SIDE + 6), Image.Resampling.BILINEAR))
    seen = set()
    for step in range(1, 40):
        picture = batches(step)[0][0]
        assert picture.shape == (3, SIDE, SIDE)
        assert picture.dtype == np.float32
        seen |= _cuts_that_give(picture[0, 0], grown[0])
    assert {mirrored for mirrored, _ in seen} == {False, True}
    assert {left for _, left in seen} == set(range(7))
    assert normalized(np.array([[[0, 255, 51]]], np.uint8)).ravel() == pytest.approx([-1, 1, -0.6])
    batches.close()


def test_a_bad_picture_is_replaced_by_the_next_and_counted_once(coloured):
    (coloured / "trainA" / "inner" / "2.png").write_bytes(b"not a picture")
    good = coloured / "trainA" / "inner" / "3.png"
    good.write_bytes(good.read_bytes()[:40])
    batches = _batches(coloured)
    reds = {_reds(batches(step)[0])[0] for step in range(1, 16)}
    assert reds == {0, 20, 80}
    assert [path.name for path in batches.unreadable] == ["2.png", "3.png"]
    batches.close()


def test_folders_without_pictures_are_refused(tmp_path, coloured):
    with pytest.raises(InputError, match="trainA: no such folder"):
        _batches(tmp_path / "nowhere")
    for file in (coloured / "trainB").rglob("*.png"):
        file.write_bytes(b"")
    batches = _batches(coloured)
    with pytest.raises(InputError, match="none of the 3 pictures can be read"):
        batches(1)
    batches.close()
    for file in (coloured / "trainB").rglob("*.png"):
        file.unlink()
    with pytest.raises(InputError, match="no pictures there"):
        _batches(coloured)
