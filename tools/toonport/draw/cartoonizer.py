"""What `toonport cartoonize` does with one photo: portrait, generator, composition, sheet."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.devices import CPU
from convert.errors import InputError
from toonport.draw.generators import Generator, open_generator
from toonport.photo.batch import Outcome, Task
from toonport.photo.captions import captioned
from toonport.photo.compose import finish, heat_picture, sheet, to_input
from toonport.photo.files import numbered
from toonport.photo.picture import Picture, resize, write_picture
from toonport.photo.portrait import Portrait, PortraitOptions, Portraits, warnings_of
from toonport.photo.preprocessor import load_photo

DEFAULT_SIDE = 256
NOISE = "seeded weights, which nobody trained: what they draw is noise, not a cartoon"


@dataclass(frozen=True)
class CartoonSettings:
    """What draws the cartoons, and of what."""

    weights: str  # file of the generator
    # family, part, backend, device, channels: as for `toonport.draw.generators.open_generator`
    family: str | None = None
    part: str | None = None
    backend: str | None = None
    device: str = CPU
    channels: str | None = None
    frame: str | None = None  # "portrait", "face" or "whole"; None: as the family was trained
    size: int | None = None  # side of the square that is drawn, or None for the family's own
    sheets: bool = False  # write a sheet beside each cartoon: photo, crop, heat map, cartoon
    portrait: PortraitOptions = field(default_factory=PortraitOptions)  # how photos become portraits
    threads: int | None = None  # threads for everything, None for all cores


@dataclass(frozen=True)
class Cartoon:
    """A finished cartoon and what it was made of; pictures are RGB uint8."""

    picture: Picture  # [S, S, 3], or the photo's size for networks that take any
    photo: Picture  # what it was made of
    attention: NDArray[np.float32] | None = None  # class activation map [h, w]; None for networks without attention
    portrait: Portrait | None = None  # the cut-out face, None when the whole photo was drawn

    @cached_property
    def crop(self) -> Picture:
        """What the network saw, on white, at the crop's own resolution [C, C, 3]."""
        return self.portrait.white if self.portrait else self.photo

    @cached_property
    def heat(self) -> Picture | None:
        """Where the network's attention lay, as colours, at the picture's size."""
        return None if self.attention is None else heat_picture(self.attention, *self.picture.shape[:2])

    def sheet(self, photo: Picture) -> Picture:
        """Return photo, crop, heat map and cartoon side by side, with captions where there is room."""
        height = self.picture.shape[0]
        shown = {"photo": photo, **({"crop": self.crop} if self.portrait else {})}
        shown |= {} if self.heat is None else {"attention": self.heat}
        shown["cartoon"] = self.picture
        return sheet([captioned(_at(height, it), name, name == "attention") for name, it in shown.items()], height)


def _at(height: int, picture: Picture) -> Picture:
    """Return a picture at another height, so that its caption is not made smaller with it."""
    return resize(picture, height, max(1, round(picture.shape[1] * height / len(picture))))


class Cartoonizer:
    """Makes cartoons of photos; holds the loaded generator and backends."""

    def __init__(self, settings: CartoonSettings) -> None:
        self.settings = settings
        chosen = (settings.family, settings.part, settings.backend, settings.device)
        self.generator = open_generator(settings.weights, *chosen, settings.threads, settings.channels)
        frame = settings.frame or self.generator.how.frame
        portrait = replace(settings.portrait, matte="") if frame == "face" else settings.portrait
        self._portraits = None if frame == "whole" else Portraits(portrait)
        _require_side(self.generator, settings.size)

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever draws should know of the weights."""
        return (f"{Path(self.settings.weights).name}: {NOISE}",) if self.generator.untrained else ()

    def __call__(self, task: Task) -> Outcome:
        """Write the cartoons of one photo, and their sheets.

        Raises InputError: not a picture, or no face in it; nothing is written then.
        """
        photo = load_photo(task, self.settings.portrait.as_reference)
        cartoons = self.draw(photo)
        files = numbered(task.target, len(cartoons))
        written = []
        for cartoon, name in zip(cartoons, files, strict=True):
            write_picture(Path(name), cartoon.picture)
            written.append(name)
            if self.settings.sheets:
                path = Path(name).with_name(f"{Path(name).stem}_sheet{Path(name).suffix}")
                write_picture(path, cartoon.sheet(photo))
                written.append(str(path))
        return Outcome(task.source, tuple(written), warnings=warnings_of(portraits_of(cartoons)), notes=self.notes)

    def draw(self, photo: Picture) -> list[Cartoon]:
        """Return the cartoons of a photo, RGB uint8 [H, W, 3]: one, or one per face from left to right.

        Raises InputError: there is no face, or the network does not take this size.
        """
        if self._portraits is None:
            return [self._draw(photo, self._fit(photo))]
        return [self._draw(photo, portrait.at(self._side), portrait) for portrait in self._portraits(photo)]

    def _draw(self, photo: Picture, sized: Picture, portrait: Portrait | None = None) -> Cartoon:
        channels = self.generator.how.channels
        outputs = self.generator(to_input(sized, channels))
        image = outputs["image"]  # [1, 3, H, W]
        height, width = image.shape[2:]
        heat = outputs.get("heatmap")
        picture = finish(image, resize(sized, height, width), channels)
        return Cartoon(picture, photo, None if heat is None else np.asarray(heat[0, 0], np.float32), portrait)

    @property
    def _side(self) -> int:
        """Side of the square that the network is given."""
        return self.settings.size or self.generator.fixed_side or self.generator.how.side or DEFAULT_SIDE

    def _fit(self, photo: Picture) -> Picture:
        """Bring a whole photo to a size that the network takes."""
        how = self.generator.how
        if self.settings.size or self.generator.fixed_side or how.side:
            return resize(photo, self._side, self._side)
        height, width = _within(photo.shape[:2], how.shorter_limit)
        rows, columns = height // how.multiple * how.multiple, width // how.multiple * how.multiple
        smallest = self.generator.smallest
        if min(rows, columns) < smallest:
            raise InputError(f"{width}x{height} pixels are too few: the network takes {smallest} and more")
        return resize(photo, height, width)[:rows, :columns]


def _within(size: tuple[int, ...], limit: int | None) -> tuple[int, int]:
    """Bring the shorter side down to `limit`, keeping the shape."""
    height, width = size
    shorter = min(size)
    if limit is None or shorter <= limit:
        return height, width
    return int(limit * height / shorter), int(limit * width / shorter)


def _require_side(generator: Generator, side: int | None) -> None:
    """Refuse a side that the network does not take. Raises InputError: says which it takes."""
    if side is None:
        return
    fixed, multiple = generator.fixed_side, generator.how.multiple
    if fixed and side != fixed:
        raise InputError(f"--size {side}: this network takes {fixed} only")
    if not fixed and (side % multiple or side < generator.smallest):
        smallest = -(-generator.smallest // multiple) * multiple
        raise InputError(f"--size {side}: this network takes multiples of {multiple} from {smallest} on")


def portraits_of(cartoons: list[Cartoon]) -> list[Portrait]:
    """Return the portraits that cartoons were made of; none where whole photos were drawn."""
    return [cartoon.portrait for cartoon in cartoons if cartoon.portrait]
