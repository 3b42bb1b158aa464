"""Draws a folder of photos with a number of processes, one thread each; the contender of the folder benchmark."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from toonport.cartoonizer import Cartoonizer, CartoonSettings
from toonport.photo.batch import plan_tasks, run_tasks
from toonport.photo.portrait import PortraitOptions

__all__ = ["main"]


def main(weights: str, photos: str, target: str, jobs: str) -> None:
    """Draw every photo of a folder.

    Raises:
        RuntimeError: a photo could not be drawn: times of half the work mean nothing.
    """
    settings = CartoonSettings(weights, portrait=PortraitOptions(threads=1), threads=1)
    for outcome in run_tasks(partial(Cartoonizer, settings), plan_tasks([photos], Path(target)), int(jobs)):
        if outcome.problem:
            raise RuntimeError(f"{outcome.source}: {outcome.problem}")


if __name__ == "__main__":
    import cv2

    cv2.setNumThreads(1)
    main(*sys.argv[1:])
