"""The pictures below a folder, read one at a time; what cannot be read is left out and counted."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from convert.errors import InputError
from toonport.photo.files import left_out, name_photos
from toonport.photo.picture import Picture, read_picture


class PictureFolder:
    """The pictures below a folder and its subfolders, sorted by path.

    Args:
        path: the folder.
        advice: what an error adds where there is no such folder.
        read: reads a file.
        files: the pictures by name, where `path` only says what they are called together.

    Attributes:
        files: name without suffix, as `toonport cartoonize` names the cartoon of that picture -> file.
        unreadable: files that could not be read so far.
        left_out: how many files are no pictures, and why, in one line; "" where there are none.

    Raises InputError: no such folder, or no pictures in it.
    """

    def __init__(
        self,
        path: Path,
        advice: str = "",
        read: Callable[[Path], Picture] = read_picture,
        files: Mapping[str, Path] | None = None,
    ) -> None:
        if files is None and not path.is_dir():
            raise InputError(f"{path}: no such folder{advice}")
        self.path, self.files = path, name_photos([str(path)]) if files is None else dict(files)
        self.left_out = left_out(path) if files is None else ""
        self._read = read
        self._order = list(self.files)
        self.unreadable: set[Path] = set()

    def __len__(self) -> int:
        return len(self.files)

    def holder(self, name: str) -> Path:
        """The file that a picture is in."""
        return self.files[name]

    def read(self, picture: str | Path, side: int | None = None) -> Picture | None:
        """Return a picture by name or file, RGB uint8 [H, W, 3]; None, and counted, when it cannot be read.

        `side`: of the square that it is made, [side, side, 3].
        """
        file = self.files[picture] if isinstance(picture, str) else picture
        try:
            pixels = self._read(file)
        except InputError:
            self.unreadable.add(file)
            return None
        return pixels if side is None else _square(pixels, side)

    def pictures(self, places: Iterable[int] | None = None, side: int | None = None) -> Iterator[Picture]:
        """Yield the pictures that can be read: all in order, or those at some places of the order; see `read`."""
        for place in range(len(self)) if places is None else places:
            pixels = self.read(self._order[place], side)
            if pixels is not None:
                yield pixels


def _square(pixels: Picture, side: int) -> Picture:
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR))
