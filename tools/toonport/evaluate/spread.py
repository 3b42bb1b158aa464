"""An evaluation's pictures on the actors of Ray; what the networks made of each batch is kept, for a second run."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from convert.disk import atomic_path, sha256_of
from convert.errors import guarded
from toonport.cluster import in_order, on_ray
from toonport.evaluate.evaluator import Drawn
from toonport.evaluate.metrics import Looked, Networks, look
from toonport.evaluate.pictures import Pairs, ReadyMade
from toonport.photo.batch import Task, state_of
from toonport.photo.folder import PictureFolder

Unit = tuple[int, tuple[str, ...], str]  # number of a batch, names of its pictures, name of the file that keeps it
Seen = tuple[int, Looked, list[list[str]]]  # number of a batch, what was made of it, files of each folder not readable
VECTORS, PAIRED = "vectors.", ("similar", "distant")


@dataclass
class Looker:
    """One worker: opens the networks for the first batch that is not kept.

    Args:
        networks: opens them.
        pairs: where the pictures come from.
        kept: the folder that keeps what was made of batches.
    """

    networks: Callable[[], Networks]
    pairs: Pairs
    kept: Path
    _open: Networks | None = None

    def __call__(self, unit: Unit) -> Seen:
        """Look at a batch, or read what was made of it. Raises InputError: see `look`; or it cannot be kept."""
        number, names, key = unit
        path = self.kept / f"{key}.npz"
        if path.is_file():
            with guarded(path, "not what an evaluation keeps; remove it"), np.load(path) as file:
                found = dict(file)
                vectors = {name[len(VECTORS) :]: value for name, value in found.items() if name.startswith(VECTORS)}
                paired = [[float(value) for value in found[name]] for name in PAIRED]
                return number, Looked(int(found["count"]), vectors, *paired), json.loads(str(found["unreadable"]))
        folders = folders_of(self.pairs)
        for folder in folders:
            folder.unreadable.clear()
        self._open = self._open or self.networks()
        looked = look(self.pairs(names), self._open)
        unreadable = [sorted(map(str, folder.unreadable)) for folder in folders]
        arrays: dict[str, Any] = {VECTORS + name: value for name, value in looked.vectors.items()}
        arrays |= {name: np.array(getattr(looked, name), np.float64) for name in PAIRED}
        with atomic_path(path, durable=False) as temporary, open(temporary, "wb") as file:
            np.savez(file, count=looked.count, unreadable=json.dumps(unreadable), **arrays)
        return number, looked, unreadable


def folders_of(pairs: Pairs) -> list[PictureFolder]:
    """The folders that pictures are read from."""
    photos = pairs.photos if isinstance(pairs, ReadyMade) else None
    return [pairs.folder, *([photos] if photos else [])]


@dataclass(frozen=True)
class Spread:
    """Looks at batches on Ray.

    Args:
        opener: opens the networks; picklable.
        networks: what it opens.
        address, jobs, gpu: see `on_ray`.
        kept: the folder that keeps what was made of batches.
    """

    opener: Callable[[], Networks]
    networks: Networks
    address: str
    jobs: int | None
    gpu: bool
    kept: Path

    def __call__(self, pairs: Pairs, batches: Sequence[tuple[str, ...]]) -> Iterator[Looked]:
        """Yield what the networks make of batches of names, in their order."""
        about: list[Any] = [(network.key, network.sha256) for network in self.networks.features]
        if isinstance(pairs, Drawn):
            about += [asdict(pairs.settings), sha256_of(Path(pairs.settings.weights))]
        folders = folders_of(pairs)
        units = []
        for number, names in enumerate(batches):
            pictures = [(str(folder.files[name]), folder.holder(name)) for folder in folders for name in names]
            content = json.dumps([about, [(name, state_of(Task(str(file), ""))) for name, file in pictures]])
            units.append((number, names, hashlib.sha256(content.encode()).hexdigest()[:32]))
        make = partial(Looker, self.opener, pairs, self.kept)
        seen = on_ray(make, units, self.address, self.jobs, self.gpu)
        for looked, unreadable in in_order((number, (looked, files)) for number, looked, files in seen):
            for folder, files in zip(folders, unreadable, strict=True):
                folder.unreadable.update(map(Path, files))
            yield looked
