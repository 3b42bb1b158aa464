"""What the web page does with an uploaded photo, without the page: limits, choices, and the pictures of one run."""

import time
import traceback
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convert.devices import CPU
from convert.errors import InputError
from convert.formats import FORMATS, READABLE
from convert.registry import families
from toonport.draw.cartoonizer import Cartoonizer, CartoonSettings
from toonport.draw.choices import usable_backends
from toonport.photo.opening import picture_size
from toonport.photo.picture import Picture, read_picture

ANY = "as the file says"
KEPT = 2  # generators held in memory at once
SUFFIXES = (*FORMATS, ".onnx")


@dataclass(frozen=True)
class Limits:
    """The largest upload: bytes of the file, and pixels of the picture in it."""

    file_bytes: int = 20 * 2**20
    pixels: int = 40_000_000


@dataclass(frozen=True)
class Drawing:
    """The pictures of one run, RGB uint8, and a line about it; pictures that do not exist are None."""

    message: str  # what was done, or why nothing was
    photo: Picture | None = None  # as it was understood, turned by its EXIF data
    crop: Picture | None = None  # what the network saw, on white
    matte: Picture | None = None  # which part of the crop is the person, white on black
    heat: Picture | None = None  # where the network's attention lay
    cartoon: Picture | None = None  # the finished picture


def find_weights(given: Sequence[str], default: Path) -> dict[str, Path]:
    """Return name -> file of the weights that the page offers.

    Args:
        given: files and folders; of a folder, every file with a suffix of a checkpoint or of ONNX counts.
        default: folder to look into when nothing is given.

    Raises InputError: something given is not there, or nothing was found.
    """
    places = [Path(place) for place in given] or ([default] if default.is_dir() else [])
    found = list(dict.fromkeys(path.resolve() for place in places for path in _weights_at(place)))
    if not found:
        place = ", ".join(given) or str(default)
        raise InputError(f"{place}: holds no weights; give --weights FILE, or see toonport fetch")
    names = [path.name for path in found]
    return {
        path.name if names.count(path.name) == 1 else f"{path.name} ({number}, in {path.parent.name})": path
        for number, path in enumerate(found, 1)
    }


def _weights_at(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted(file for file in place.iterdir() if file.suffix.lower() in SUFFIXES)
    known = (*READABLE, ".onnx")
    if not place.is_file() or place.suffix.lower() not in known:
        raise InputError(f"{place}: no folder, and no file of a kind that holds weights ({' '.join(known)})")
    return [place]


class Studio:
    """Draws cartoons of uploaded photos, one at a time and always in the same thread, as the frameworks like it.

    Args:
        weights: name -> file; nothing else can be loaded.
        limits: the largest upload.
        device: as for `toonport cartoonize`.
    """

    def __init__(self, weights: Mapping[str, Path], limits: Limits | None = None, device: str = CPU) -> None:
        self.weights, self.limits, self.device = dict(weights), limits or Limits(), device
        self.families = (ANY, *(family.name for family in families() if family.cartoonize))
        self.backends = (ANY, *usable_backends())
        self._loaded: OrderedDict[tuple[str, str, str], Cartoonizer] = OrderedDict()
        self._worker = ThreadPoolExecutor(max_workers=1)

    def draw(self, content: bytes, weights: str, family: str = ANY, backend: str = ANY) -> Drawing:
        """Return the pictures made of the content of a file; a user's mistake becomes the message."""
        return self._worker.submit(self._draw, content, (weights, family, backend)).result()

    def preview(self, content: bytes) -> Picture | None:
        """Return an uploaded photo as it will be understood, or None where it cannot be; `draw` says why."""
        try:
            return self._read(content)
        except InputError:
            return None

    def _draw(self, content: bytes, choice: tuple[str, str, str]) -> Drawing:
        photo = None
        try:
            offered = (self.weights, self.families, self.backends)
            if any(name not in names for name, names in zip(choice, offered, strict=True)):
                raise InputError("choose weights, family and backend from the lists")
            photo = self._read(content)
            cartoonizer = self._cartoonizer(choice)
            start = time.perf_counter()
            cartoon = cartoonizer.draw(photo)[0]
        except InputError as error:
            return Drawing(self._in_words(error), photo)
        except Exception as error:  # a visitor gets words, whatever goes wrong
            traceback.print_exc()
            return Drawing(f"Failed inside: {type(error).__name__}; the server's log has more", photo)
        seconds = time.perf_counter() - start
        portrait = cartoon.portrait
        generator = cartoonizer.generator
        told = (*cartoonizer.notes, *(portrait.warnings if portrait else ()))
        notes = "".join(f". Note: {text}" for text in told)
        return Drawing(
            f"Drawn by {generator.family.name} with {generator.backend} in {seconds:.1f} s{notes}",
            photo,
            cartoon.crop,
            np.repeat(portrait.rgba[:, :, 3:], 3, axis=2) if portrait else None,
            cartoon.heat,
            cartoon.picture,
        )

    def _in_words(self, error: InputError) -> str:
        """Return the error in one line, with the names of weights files in place of their paths."""
        text = " ".join(str(error).split())
        for name, path in self.weights.items():
            text = text.replace(str(path), name)
        return text[:1].upper() + text[1:]

    def _read(self, content: bytes) -> Picture:
        """Read an upload, refusing what is too large before it is unpacked."""
        if len(content) > self.limits.file_bytes:
            raise InputError(f"the file is larger than {self.limits.file_bytes / 2**20:.0f} MiB")
        width, height = picture_size(content, "this file")
        if width * height > self.limits.pixels:
            raise InputError(f"the picture has more than {self.limits.pixels / 1e6:g} million pixels; make it smaller")
        return read_picture(content, "this file")

    def _cartoonizer(self, choice: tuple[str, str, str]) -> Cartoonizer:
        """Return the loaded generator of a choice; the one used longest ago makes room."""
        if choice not in self._loaded:
            weights, family, backend = choice
            while len(self._loaded) >= KEPT:
                self._loaded.popitem(last=False)
            self._loaded[choice] = Cartoonizer(
                CartoonSettings(
                    str(self.weights[weights]),
                    None if family == ANY else family,
                    backend=None if backend == ANY else backend,
                    device=self.device,
                )
            )
        self._loaded.move_to_end(choice)
        return self._loaded[choice]
