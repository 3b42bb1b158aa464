"""Evaluates a folder of cartoons, or what a generator draws, against one set of real cartoons."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from convert.errors import InputError
from toonport.draw.cartoonizer import Cartoonizer, CartoonSettings
from toonport.evaluate.metrics import Evaluation, Looked, Networks, evaluate, look
from toonport.evaluate.pictures import Pair, ready_made
from toonport.photo.folder import PictureFolder

Tell = Callable[[int, int, str], None]


@dataclass
class Evaluator:
    """Measures cartoons against the same real ones."""

    networks: Networks  # what to measure with
    real: PictureFolder  # the real cartoons
    # what the cartoons were, or are to be, drawn of; None leaves out what compares a cartoon with its photo
    photos: PictureFolder | None
    # protocol, seed: of the kernel distance
    protocol: str
    seed: int
    tell: Tell = lambda done, total, what: None  # shows progress: pictures done, pictures in all, what
    _real: Looked | None = None

    def of_folder(self, fake: PictureFolder) -> Evaluation:
        """Evaluate ready-made cartoons. Raises InputError: no picture of a folder can be read."""
        return self._evaluate(ready_made(fake, self.photos), len(fake), "generated", fake.path)

    def of_generator(self, settings: CartoonSettings, what: str = "drawing") -> Evaluation:
        """Evaluate the cartoons that a generator draws of the photos.

        Raises InputError: weights that cannot be used, or no picture of a folder can be read.
        """
        if self.photos is None:
            raise InputError("--photos DIR is needed: the photos that the cartoons are drawn of")
        draw = Cartoonizer(settings).draw
        pairs = ((photo, draw(photo)[0].picture) for photo in self.photos.pictures())
        return self._evaluate(pairs, len(self.photos), what, self.photos.path)

    def _evaluate(self, pairs: Iterable[Pair], total: int, what: str, path: Path) -> Evaluation:
        if self._real is None:
            pictures = ((None, picture) for picture in self.real.pictures())
            self._real = self._look(pictures, len(self.real), "real cartoons", self.real.path)
        fake = self._look(pairs, total, what, path)
        self.tell(total, total, f"{what}, distances")
        return evaluate(self._real, fake, self.networks, self.protocol, self.seed)

    def _look(self, pairs: Iterable[Pair], total: int, what: str, path: Path) -> Looked:
        self.tell(0, total, what)
        looked = look(pairs, self.networks, lambda done: self.tell(done, total, what))
        if not looked.count:
            raise InputError(f"{path}: none of the {total} pictures can be read")
        return looked
