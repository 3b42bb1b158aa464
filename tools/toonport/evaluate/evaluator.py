"""Evaluates a folder of cartoons, or what a generator draws, against one set of real cartoons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from convert.errors import InputError
from toonport.draw.cartoonizer import Cartoonizer, CartoonSettings
from toonport.evaluate.metrics import Evaluation, Looked, Networks, evaluate, look
from toonport.evaluate.pictures import Pair, PictureSet, drawn, ready_made
from toonport.photo.picture import Picture

__all__ = ["Evaluator", "Tell", "generator_settings"]

Tell = Callable[[int, int, str], None]


def generator_settings(
    weights: Path,
    family: str | None = None,
    part: str | None = None,
    backend: str | None = None,
    device: str = "cpu",
    size: int | None = None,
) -> CartoonSettings:
    """Return how a generator draws for an evaluation: whole photos, which are crops already, as in training."""
    return CartoonSettings(str(weights), family, part, backend, device, frame="whole", size=size)


@dataclass
class Evaluator:
    """Measures cartoons against the same real ones.

    Attributes:
        networks: what to measure with.
        real: the real cartoons.
        photos: what the cartoons were, or are to be, drawn of; None leaves out what compares a cartoon with its photo.
        protocol, seed: of the kernel distance.
        tell: shows progress: pictures done, pictures in all, what.
    """

    networks: Networks
    real: PictureSet
    photos: PictureSet | None
    protocol: str
    seed: int
    tell: Tell
    _real: Looked | None = None

    def of_folder(self, fake: PictureSet) -> Evaluation:
        """Evaluate ready-made cartoons.

        Raises:
            InputError: no picture of a folder can be read.
        """
        return self._evaluate(ready_made(fake, self.photos), len(fake), "generated", fake.path)

    def of_generator(self, settings: CartoonSettings, what: str = "drawing") -> Evaluation:
        """Evaluate the cartoons that a generator draws of the photos.

        Raises:
            InputError: weights that cannot be used, or no picture of a folder can be read.
        """
        if self.photos is None:
            raise InputError("--photos DIR is needed: the photos that the cartoons are drawn of")
        cartoonizer = Cartoonizer(replace(settings, sheets=False))

        def draw(photo: Picture) -> Picture:
            return cartoonizer.draw(photo)[0].picture

        return self._evaluate(drawn(self.photos, draw), len(self.photos), what, self.photos.path)

    def _evaluate(self, pairs: Iterable[Pair], total: int, what: str, path: Path) -> Evaluation:
        if self._real is None:
            self._real = self._look(_alone(self.real), len(self.real), "real cartoons", self.real.path)
        fake = self._look(pairs, total, what, path)
        self.tell(total, total, f"{what}, distances")
        return evaluate(self._real, fake, self.networks, self.protocol, self.seed)

    def _look(self, pairs: Iterable[Pair], total: int, what: str, path: Path) -> Looked:
        self.tell(0, total, what)
        looked = look(pairs, self.networks, lambda done: self.tell(done, total, what))
        if not looked.count:
            raise InputError(f"{path}: none of the {total} pictures can be read")
        return looked


def _alone(pictures: PictureSet) -> Iterator[Pair]:
    return ((None, one) for one in pictures.pictures())
