"""Unpaired pictures for training: a pure function of (seed, step), read ahead by threads.

Folder layout, flip, enlargement, random crop and normalisation are those of photo2cartoon and U-GAT-IT. Which
pictures a step gets, and how they are cut, follows from the seed and the step's number alone: a resumed run, another
framework or another number of threads gets the same batches.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.errors import InputError
from toonport.photo.files import picture_files
from toonport.photo.folder import PictureFolder
from toonport.photo.picture import read_picture, read_picture_as_torchvision
from toonport.train.config import RunConfig

READ_AHEAD = 4
ORDER, AUGMENTATION = 0, 1  # what a random stream is for

Picture = NDArray[np.float32]
Pixels = NDArray[np.uint8]


class Batches:
    """Batches of both domains by step number.

    Args:
        config: data folder, picture size, batch, seed and threads.
        rank: number of this process among `config.data_parallel`; each takes its own part of the global batch.
    """

    def __init__(self, config: RunConfig, rank: int = 0) -> None:
        self.config, self.rank = config, rank
        root = Path(config.data)
        advice = "; the data folder needs trainA and trainB"
        self._read = read_picture_as_torchvision if config.as_reference else read_picture
        self.folders = tuple(PictureFolder(root / f"train{domain}", advice, self._read) for domain in "AB")
        self._pool = ThreadPoolExecutor(max(1, config.workers), thread_name_prefix="pictures")
        self._ahead: dict[int, Future[tuple[Picture, Picture]]] = {}

    def __call__(self, step: int) -> tuple[Picture, Picture]:
        """Return the pictures of a step (counted from 1), two arrays [batch, 3, size, size] RGB in [-1, 1]."""
        for number in range(step, step + READ_AHEAD):
            if number not in self._ahead:
                self._ahead[number] = self._pool.submit(self._make, number)
        return self._ahead.pop(step).result()

    def close(self) -> None:
        """Stop reading ahead."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def unreadable(self) -> list[Path]:
        """Training pictures that could not be read so far and were left out."""
        return sorted(file for folder in self.folders for file in folder.unreadable)

    def _make(self, step: int) -> tuple[Picture, Picture]:
        batch, workers = self.config.batch, self.config.data_parallel
        first = ((step - 1) * workers + self.rank) * batch
        a, b = (np.stack([self.sample(domain, first + index) for index in range(batch)]) for domain in (0, 1))
        return a, b

    def sample(self, domain: int, number: int) -> Picture:
        """Return the `number`-th training picture of a domain (0 A, 1 B) of the endless shuffled stream, [3, H, W].

        In place of a picture that cannot be read comes the next one that can.

        Raises InputError: none of them can be read.
        """
        folder, config = self.folders[domain], self.config
        epoch, place = divmod(number, len(folder))
        order = _order(config.seed, domain, epoch, len(folder))
        pixels = next(folder.pictures(np.roll(order, -place), config.size + config.margin), None)
        if pixels is None:
            raise InputError(f"{folder.path}: none of the {len(folder)} pictures can be read")
        random = np.random.default_rng([config.seed, domain, AUGMENTATION, number])
        mirrored = random.random() < 0.5
        top, left = random.integers(0, config.margin, size=2, endpoint=True)
        pixels = pixels[:, ::-1] if config.flip and mirrored else pixels
        return normalized(pixels[top : top + config.size, left : left + config.size])

    def columns(self, domain: int, count: int) -> list[Picture]:
        """Return pictures [3, size, size] for a sample sheet: `count` of training and, if there are any, of test."""
        name = "AB"[domain]
        test = Path(self.config.data) / f"test{name}"
        folders = [self.folders[domain], *([PictureFolder(test, read=self._read)] if picture_files(test) else [])]
        side = self.config.size
        return [normalized(pixels) for folder in folders for pixels in islice(folder.pictures(side=side), count)]


def normalized(pixels: Pixels) -> Picture:
    """[H, W, 3] RGB bytes -> [3, H, W] in [-1, 1]: to [0, 1], then mean 0.5 and deviation 0.5."""
    scaled = pixels.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(((scaled - np.float32(0.5)) / np.float32(0.5)).transpose(2, 0, 1))


@lru_cache(maxsize=8)
def _order(seed: int, domain: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, domain, ORDER, epoch]).permutation(count)
