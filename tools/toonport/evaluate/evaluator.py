"""Evaluates a folder of cartoons, or what a generator draws, against one set of real cartoons."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from convert.errors import InputError
from toonport.draw.cartoonizer import Cartoonizer, CartoonSettings
from toonport.evaluate.metrics import BATCH, Evaluation, Looked, Networks, evaluate, joined, look
from toonport.evaluate.pictures import Pair, Pairs, ReadyMade
from toonport.photo.folder import PictureFolder

Tell = Callable[[int, int, str], None]


@dataclass
class Drawn:
    """Cartoons that a generator draws of photos; loads it for the first."""

    settings: CartoonSettings
    folder: PictureFolder  # the photos

    @cached_property
    def _cartoonizer(self) -> Cartoonizer:
        return Cartoonizer(self.settings)

    def __call__(self, names: Sequence[str]) -> list[Pair]:
        """Return photos by name, those that can be read, and their cartoons."""
        photos = (self.folder.read(name) for name in names)
        return [(photo, self._cartoonizer.draw(photo)[0].picture) for photo in photos if photo is not None]


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
    # what looks at batches of names elsewhere, in their order; None: this process
    spread: Callable[[Pairs, Sequence[tuple[str, ...]]], Iterator[Looked]] | None = None
    tell: Tell = lambda done, total, what: None  # shows progress: pictures done, pictures in all, what
    _real: Looked | None = None

    def of_folder(self, fake: PictureFolder) -> Evaluation:
        """Evaluate ready-made cartoons. Raises InputError: no picture of a folder can be read."""
        return self._evaluate(ReadyMade(fake, self.photos), "generated")

    def of_generator(self, settings: CartoonSettings, what: str = "drawing") -> Evaluation:
        """Evaluate the cartoons that a generator draws of the photos.

        Raises InputError: weights that cannot be used, or no picture of a folder can be read.
        """
        if self.photos is None:
            raise InputError("--photos DIR is needed: the photos that the cartoons are drawn of")
        return self._evaluate(Drawn(settings, self.photos), what)

    def _evaluate(self, pairs: Pairs, what: str) -> Evaluation:
        if self._real is None:
            self._real = self._look(ReadyMade(self.real), "real cartoons")
        fake = self._look(pairs, what)
        self.tell(len(pairs.folder), len(pairs.folder), f"{what}, distances")
        return evaluate(self._real, fake, self.networks, self.protocol, self.seed)

    def _look(self, pairs: Pairs, what: str) -> Looked:
        names, looked, done = list(pairs.folder.files), [], 0
        batches = [tuple(names[start : start + BATCH]) for start in range(0, len(names), BATCH)]
        self.tell(0, len(names), what)
        for part in self.spread(pairs, batches) if self.spread else (look(pairs(it), self.networks) for it in batches):
            looked.append(part)
            done += part.count
            self.tell(done, len(names), what)
        if not done:
            raise InputError(f"{pairs.folder.path}: none of the {len(names)} pictures can be read")
        return joined(looked)
