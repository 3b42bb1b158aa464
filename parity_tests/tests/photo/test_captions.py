"""Captions on sheets: words where there is room, sizes as before, and a scale on heat maps."""

import numpy as np
import pytest

from toonport.photo.captions import captioned
from toonport.train.logs import SMOOTHED_POINTS, smoothed
from toonport.train.sheets import _row_names, _with_captions

pytestmark = pytest.mark.quick
GREY = np.full((128, 128, 3), 90, np.uint8)


def test_words_are_written_into_a_corner_of_a_copy():
    found = captioned(GREY, "photo")
    assert found.shape == GREY.shape
    assert (GREY == 90).all()
    assert (found[:24, :50] != 90).any()
    assert (found[30:, 60:] == 90).all()
    assert captioned(GREY[:64, :64], "photo") is not None
    assert (captioned(GREY[:64, :64], "photo") == 90).all()  # no room for words


def test_a_heat_map_has_a_scale_from_blue_to_red():
    below = captioned(GREY, "attention", with_scale=True)[100:].reshape(-1, 3).astype(int)
    colours = below[(below.max(1) - below.min(1)) > 100]
    assert (colours[:, 2] > colours[:, 0] + 100).any()
    assert (colours[:, 0] > colours[:, 2] + 100).any()


@pytest.mark.parametrize(("both", "rows"), [(True, 7), (True, 4), (False, 2), (False, 3), (False, 5)])
def test_rows_of_training_sheets_are_named_in_the_first_column_only(both, rows):
    column = np.concatenate([GREY] * rows)
    sheet = np.concatenate([column] * 3, axis=1)
    found = _with_captions(sheet, column, _row_names("A", "B", both))
    assert (found[:, 128:] == 90).all()
    written = [(found[128 * row : 128 * (row + 1), :128] != 90).any() for row in range(rows)]
    assert written == [rows != 5] * rows  # a sheet of another form is left as it is


def test_many_steps_are_averaged_and_few_are_not():
    steps, values = np.arange(1.0, 11), np.arange(10.0)
    assert smoothed(steps, values)[1] is values
    steps = np.arange(1.0, 10 * SMOOTHED_POINTS + 1)
    noise = np.random.default_rng(0).normal(size=len(steps))
    middle, mean = smoothed(steps, noise)
    assert mean.std() < noise.std() / 2
    assert middle[0] == pytest.approx(5.5)  # of the first ten
    assert len(middle) == len(mean)
