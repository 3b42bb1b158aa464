"""The contenders of the folder benchmark: a folder of photos, and the generator alone, with one thread per process."""

import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.harness.onnx.session import open_session
from toonport.draw.cartoonizer import Cartoonizer, CartoonSettings
from toonport.photo.batch import plan_tasks, run_tasks
from toonport.photo.portrait import PortraitOptions

SIDE = 256  # of photo2cartoon's pictures


def main(weights: str, photos: str, target: str, jobs: str) -> None:
    """Draw every photo of a folder.

    Raises RuntimeError: a photo could not be drawn: times of half the work mean nothing.
    """
    settings = CartoonSettings(weights, portrait=PortraitOptions(threads=1), threads=1)
    for outcome in run_tasks(partial(Cartoonizer, settings), plan_tasks([photos], Path(target)), int(jobs)):
        if outcome.problem:
            raise RuntimeError(f"{outcome.source}: {outcome.problem}")


def draw_noise(exported: Path, count: int) -> None:
    """Let a generator draw `count` pictures [1, 3, 256, 256] of noise; it is loaded once per process."""
    inputs = np.random.default_rng(0).uniform(-1, 1, (1, 3, SIDE, SIDE)).astype(np.float32)
    for _ in range(count):
        _session(exported).run(["output"], {"input": inputs})


@cache
def _session(exported: Path) -> Any:
    return open_session(exported, threads=1)


if __name__ == "__main__":
    import cv2

    cv2.setNumThreads(1)
    main(*sys.argv[1:])
