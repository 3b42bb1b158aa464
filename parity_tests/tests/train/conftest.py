"""What the training tests share: pictures to train on."""

import numpy as np
import pytest
from PIL import Image

from parity_tests.harness.inputs import image


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A data folder with three seeded pictures of each kind, 100x100."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("trainA", "trainB", "testA", "testB"):
        (folder / name).mkdir()
        for index in range(3):
            pixels = (image(f"{name}{index}", 1, 100, 100)[0].transpose(1, 2, 0) * 127.5 + 127.5).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder
