"""The pairing of photos and cartoons by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from convert.errors import InputError
from toonport.photo.folder import PictureFolder
from toonport.photo.picture import Picture

Pair = tuple[Picture | None, Picture]  # a photo, where there is one, and the cartoon; RGB uint8 [H, W, 3]


class Pairs(Protocol):
    """Where cartoons come from."""

    @property
    def folder(self) -> PictureFolder:
        """The folder whose names count."""

    def __call__(self, names: Sequence[str]) -> list[Pair]:
        """Return pairs by name, those that can be read."""


LISTED = 5  # names that an error shows


def require_pairs(photos: PictureFolder, cartoons: PictureFolder) -> None:
    """Make sure that every photo has its cartoon and every cartoon its photo, by name.

    Raises InputError: lists those that have none.
    """
    for some, others, what in ((cartoons, photos, "photo"), (photos, cartoons, "cartoon")):
        alone = [str(path) for name, path in some.files.items() if name not in others.files]
        if alone:
            more = f" and {len(alone) - LISTED} more" if len(alone) > LISTED else ""
            raise InputError(
                f"{others.path}: has no {what} named like {', '.join(alone[:LISTED])}{more}; "
                "give photos and cartoons the same names, or leave out --photos"
            )


@dataclass
class ReadyMade:
    """The cartoons of a folder, each with its photo when `photos` are given."""

    cartoons: PictureFolder
    photos: PictureFolder | None = None

    @property
    def folder(self) -> PictureFolder:
        """The folder whose names count."""
        return self.cartoons

    def __call__(self, names: Sequence[str]) -> list[Pair]:
        """Return pairs by name, those that can be read: both of them."""
        pairs = []
        for name in names:
            cartoon = self.cartoons.read(name)
            photo = self.photos.read(name) if self.photos else None
            if cartoon is not None and (photo is not None or self.photos is None):
                pairs.append((photo, cartoon))
        return pairs
