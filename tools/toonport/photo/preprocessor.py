"""What `toonport preprocess` does with one photo: portraits for training, as the source systems prepare them."""

from pathlib import Path

from convert.errors import InputError
from toonport.photo.batch import Outcome, Task
from toonport.photo.files import numbered
from toonport.photo.picture import Picture, read_picture, read_picture_as_reference, resize, write_picture
from toonport.photo.portrait import PortraitOptions, Portraits, warnings_of


class Preprocessor:
    """Writes the portraits of a photo; holds the loaded backends.

    Args:
        options: how the portraits are made.
        size: their side in pixels, or None for the photo's own resolution.
    """

    def __init__(self, options: PortraitOptions, size: int | None = None) -> None:
        self._size, self._portraits = size, Portraits(options)

    def __call__(self, task: Task) -> Outcome:
        """Write the portraits of one photo.

        Raises InputError: not a picture, or no face in it; nothing is written then.
        """
        portraits = self._portraits(load_photo(task, self._portraits.options.as_reference))
        size = self._size
        files = numbered(task.target, len(portraits))
        for portrait, name in zip(portraits, files, strict=True):
            write_picture(Path(name), resize(portrait.white, size, size) if size else portrait.white)
        facts = {
            "sides": [portrait.side for portrait in portraits],
            "angles": [round(portrait.angle, 1) for portrait in portraits],
        }
        return Outcome(task.source, files, warnings=warnings_of(portraits), facts=facts)


def load_photo(task: Task, as_reference: bool = False) -> Picture:
    """Return the photo of a task, RGB uint8 [H, W, 3].

    Raises InputError: not a picture that can be read, or a smaller one than any face.
    """
    read = read_picture_as_reference if as_reference else read_picture
    picture = read(Path(task.source) if task.content is None else task.content, task.source)
    if min(picture.shape[:2]) < 2:
        raise InputError(f"{task.source}: {picture.shape[1]}x{picture.shape[0]} pixels are no photo")
    return picture
