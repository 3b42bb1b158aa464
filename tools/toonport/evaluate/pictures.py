"""The pairing of photos and cartoons by name."""

from collections.abc import Iterator

from convert.errors import InputError
from toonport.photo.folder import PictureFolder
from toonport.photo.picture import Picture

Pair = tuple[Picture | None, Picture]  # a photo, where there is one, and the cartoon; RGB uint8 [H, W, 3]
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


def ready_made(cartoons: PictureFolder, photos: PictureFolder | None) -> Iterator[Pair]:
    """Yield the cartoons of a folder, each with its photo when `photos` are given; a pair needs both readable."""
    for name in cartoons.files:
        cartoon = cartoons.read(name)
        photo = photos.read(name) if photos else None
        if cartoon is not None and (photos is None or photo is not None):
            yield photo, cartoon
