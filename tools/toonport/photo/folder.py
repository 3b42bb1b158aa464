"""The pictures of a folder, tables or archives, read one at a time; what cannot be read is left out and counted."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convert.errors import InputError
from toonport.photo.files import distinct, left_out, name_photos, picture_files
from toonport.photo.picture import Picture, read_picture
from toonport.photo.shards import Photo, expanded, name_shards, names_in, photos_in

FAR = 256  # photos of a table or archive that are rather read over than gone past
PART = re.compile(r"part-\d{5}-of-\d{5}")  # tables that photos were gathered in, by their own names


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


class PictureShards(PictureFolder):
    """The pictures in tables and archives, as `PictureFolder` has those of a folder; best read in their order.

    Args:
        path: what they are called together.
        shards: tables and archives by name.
        column: of tables, see `photos_in`.

    Raises InputError: one cannot be read, or there are no pictures.
    """

    def __init__(self, path: Path, shards: Mapping[str, Path], column: str | None) -> None:
        self._column = column
        self._places: dict[Path, tuple[Path, int]] = {}  # picture -> its shard, and its place there
        self._reading: dict[Path, tuple[int, Iterator[Photo]]] = {}  # shard -> the next place, and what is read on
        files: dict[Path, Path] = {}  # name -> picture
        for name, shard in shards.items():
            folder = Path() if shard == path or PART.fullmatch(name) else Path(name)
            for place, photo in enumerate(names_in(shard, column)):
                self._places[shard / photo] = shard, place
                files[folder / f"{photo}.png"] = shard / photo
        if not files:
            raise InputError(f"{path}: no pictures there")
        super().__init__(path, read=self._read_on, files=dict(zip(distinct(list(files)), files.values(), strict=True)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reading": {}}

    def holder(self, name: str) -> Path:
        """The shard that a picture is in."""
        return self._places[self.files[name]][0]

    def _read_on(self, picture: Path) -> Picture:
        shard, place = self._places[picture]
        following, photos = self._reading.pop(shard, (0, iter(())))
        if not 0 < following <= place <= following + FAR:
            following, photos = place, photos_in(shard, self._column, place)
        content = b""
        for _ in range(following, place + 1):
            _, content = next(photos)
        self._reading[shard] = place + 1, photos
        return read_picture(content, str(picture))


def open_pictures(place: Path, advice: str = "", column: str | None = None) -> PictureFolder:
    """Open a folder of pictures, a pattern, a Parquet table, an archive of WebDataset, or a folder of these.

    Args:
        place: the path or the pattern.
        advice: what an error adds where there is nothing.
        column: of tables, see `photos_in`.

    Raises InputError: nothing there, or no pictures.
    """
    if place.is_dir() and picture_files(place):
        return PictureFolder(place, advice)
    named = expanded([str(place)])
    if shards := name_shards(named):
        return PictureShards(place, shards, column)
    return PictureFolder(place, files=name_photos(named)) if named != [str(place)] else PictureFolder(place, advice)
