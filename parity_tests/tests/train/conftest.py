"""What the training tests share: pictures to train on."""

import pytest
from PIL import Image

from parity_tests.tests.cases import drawn_picture


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A data folder with three seeded pictures of each kind, 100x100."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("trainA", "trainB", "testA", "testB"):
        (folder / name).mkdir()
        for index in range(3):
            Image.fromarray(drawn_picture(f"{name}{index}", 100, 100)).save(folder / name / f"{index}.png")
    return folder
