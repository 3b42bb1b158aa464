"""The pictures of an evaluation: folders, the pairing of photos and cartoons by name, what could not be read."""

from collections.abc import Callable, Iterator
from pathlib import Path

from convert.errors import InputError
from toonport.photo.files import name_photos
from toonport.photo.picture import Picture, read_picture

Pair = tuple[Picture | None, Picture]  # a photo, where there is one, and the cartoon; RGB uint8 [H, W, 3]
Draw = Callable[[Picture], Picture]
LISTED = 5  # names that an error shows


class PictureSet:
    """The pictures below a folder, in the order of their names.

    Args:
        path: the folder; its subfolders are searched too.

    Attributes:
        files: name without suffix, as `toonport cartoonize` names the cartoon of that picture -> file.
        skipped: files that could not be read so far.

    Raises:
        InputError: no such folder, or no pictures in it.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise InputError(f"{path}: no such folder")
        self.path = path
        self.files = name_photos([str(path)])
        self.skipped: set[Path] = set()

    def __len__(self) -> int:
        return len(self.files)

    def read(self, name: str) -> Picture | None:
        """Return a picture, RGB uint8 [H, W, 3]; None, and counted, when it cannot be read."""
        try:
            return read_picture(self.files[name])
        except InputError:
            self.skipped.add(self.files[name])
            return None

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures that can be read."""
        for name in self.files:
            pixels = self.read(name)
            if pixels is not None:
                yield pixels


def require_pairs(photos: PictureSet, cartoons: PictureSet) -> None:
    """Make sure that every photo has its cartoon and every cartoon its photo, by name.

    Raises:
        InputError: lists those that have none.
    """
    for some, others, what in ((cartoons, photos, "photo"), (photos, cartoons, "cartoon")):
        alone = [str(path) for name, path in some.files.items() if name not in others.files]
        if alone:
            more = f" and {len(alone) - LISTED} more" if len(alone) > LISTED else ""
            raise InputError(
                f"{others.path}: has no {what} named like {', '.join(alone[:LISTED])}{more}; "
                "give photos and cartoons the same names, or leave out --photos"
            )


def ready_made(cartoons: PictureSet, photos: PictureSet | None) -> Iterator[Pair]:
    """Yield the cartoons of a folder, each with its photo when `photos` are given; a pair needs both readable."""
    for name in cartoons.files:
        cartoon = cartoons.read(name)
        photo = photos.read(name) if photos else None
        if cartoon is not None and (photos is None or photo is not None):
            yield photo, cartoon


def drawn(photos: PictureSet, draw: Draw) -> Iterator[Pair]:
    """Yield each photo that can be read with the cartoon that `draw` makes of it."""
    for name in photos.files:
        photo = photos.read(name)
        if photo is not None:
            yield photo, draw(photo)
