"""Reads pictures as the eye sees them, and writes them; every picture inside is RGB uint8 [H, W, 3]."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from convert.disk import atomic_path
from convert.errors import InputError
from toonport.photo.files import WRITABLE
from toonport.photo.opening import in_srgb, open_picture, reduced, refused_if_damaged

Picture = NDArray[np.uint8]

JPEG_QUALITY = 95


def read_picture(source: Path | bytes, name: str = "") -> Picture:
    """Return a picture as RGB uint8 [H, W, 3], turned as its EXIF data say, with transparency laid on white.

    Grey, palette, CMYK and 16-bit pictures are brought to 8-bit RGB, and the colours of an ICC profile to sRGB. Of an
    animation, the first frame counts. One of more than `opening.WHOLE_PIXELS` is read at half its sides.

    Args:
        source: a file, or the content of one.
        name: what to call it in an error; default: the path.

    Raises InputError: no such file, not a picture, a damaged one, or one too large to be meant as a photo.
    """
    from PIL import ImageOps

    name = _called(source, name)
    with refused_if_damaged(name), open_picture(source, name) as opened:
        picture = reduced(opened)
        ImageOps.exif_transpose(picture, in_place=True)
        return _eight_bit(in_srgb(picture))


def read_picture_as_torchvision(source: Path | bytes, name: str = "") -> Picture:
    """Return a picture as torchvision's folder of pictures reads it: Pillow's conversion to RGB, and nothing else.

    EXIF data and profiles count for nothing, transparent pixels show the colour hidden under them, and grey levels of
    more than 8 bits are cut off at white.

    Args:
        source: a file, or the content of one.
        name: what to call it in an error; default: the path.

    Raises InputError: as `read_picture`.
    """
    name = _called(source, name)
    with refused_if_damaged(name), open_picture(source, name) as opened:
        return np.array(opened.convert("RGB"), np.uint8)


def read_picture_as_reference(source: Path | bytes, name: str = "") -> Picture:
    """Return a picture as the reference's scripts read it: a transparent pixel keeps the colour hidden under it.

    Args:
        source: a file, or the content of one.
        name: what to call it in an error; default: the path.

    Raises InputError: no such file, or not a picture that OpenCV reads.
    """
    name = _called(source, name)
    content = np.frombuffer(source.read_bytes() if isinstance(source, Path) else source, np.uint8)
    try:
        pixels = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
    except cv2.error:  # too many pixels
        pixels = None
    if pixels is None:
        raise InputError(f"{name}: not a picture that OpenCV reads, which the reference reads with")
    return np.ascontiguousarray(pixels[..., ::-1], np.uint8)


def network_picture(path: Path, side: int | tuple[int, int], step: int | None = None) -> NDArray[np.float32]:
    """Return a picture file as a network takes it: [1, 3, H, W] RGB in [-1, 1].

    Args:
        path: the file.
        side: of a square; with a step, the shorter side of a picture that keeps its shape; or height and width.
        step: by multiples of how many pixels the longer side may be longer; None: a square.

    Raises InputError: as `read_picture`.
    """
    pixels = read_picture(path)
    height, width = side if isinstance(side, tuple) else _sides(pixels.shape[0], pixels.shape[1], side, step)
    pixels = resize(pixels, height, width)
    return (pixels[None].transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32)


def _sides(height: int, width: int, shorter: int, step: int | None) -> tuple[int, int]:
    """Height and width of a picture whose shorter side becomes `shorter`; of a square without a step."""
    if step is None:
        return shorter, shorter
    longer = shorter * max(height, width) / min(height, width)
    rounded = shorter + step * round((longer - shorter) / step)
    return (rounded, shorter) if height > width else (shorter, rounded)


def _called(source: Path | bytes, name: str) -> str:
    if isinstance(source, Path) and not source.is_file():
        raise InputError(f"{source}: no such file")
    return name or (str(source) if isinstance(source, Path) else "the picture")


def _eight_bit(opened: Any) -> Picture:
    """Bring a picture of Pillow's to RGB uint8 [H, W, 3]."""
    from PIL import Image

    if opened.mode.startswith(("I", "F")):
        grey = _grey_levels(np.asarray(opened, np.float64), opened.mode)
        return np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))
    if "A" in opened.getbands() or "transparency" in opened.info:
        rgba = opened.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return np.array(Image.alpha_composite(white, rgba).convert("RGB"), np.uint8)
    return np.array(opened if opened.mode == "RGB" else opened.convert("RGB"), np.uint8)


def _grey_levels(values: NDArray[np.float64], mode: str) -> Picture:
    """Bring 16-bit, 32-bit and float grey to 0..255; floats are taken as 0..1 when nothing is above 1."""
    top = float(values.max(initial=0.0))
    if not np.isfinite(values).all() or values.min(initial=0.0) < 0:
        raise ValueError("grey levels below zero or not finite")
    full = 1.0 if mode == "F" and top <= 1 else 255.0 if top <= 255 else 65535.0
    if top > full:
        raise ValueError("grey levels above 16 bits")
    return np.round(values * (255.0 / full)).astype(np.uint8)


def encode(pixels: Picture, suffix: str = ".png") -> bytes:
    """Return a picture [H, W, 3] or [H, W, 4] as the bytes of a file of the kind that `suffix` means.

    Raises InputError: lists the suffixes that can be written.
    """
    from PIL import Image

    kind = WRITABLE.get(suffix.lower())
    if kind is None:
        raise InputError(f"cannot write a picture as '{suffix}'; use one of {', '.join(WRITABLE)}")
    if kind == "PNG":  # OpenCV takes half of Pillow's time, for files a few hundredths larger
        order = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
        return cv2.imencode(".png", cv2.cvtColor(pixels, order))[1].tobytes()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, quality=JPEG_QUALITY)
    return buffer.getvalue()


def write_picture(path: Path, pixels: Picture) -> None:
    """Write a picture in the format of the path's suffix; on any failure nothing is left behind."""
    content = encode(pixels, path.suffix)
    with atomic_path(path, durable=False) as temporary:
        temporary.write_bytes(content)


def resize(pixels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Return the picture at another size by area averaging, as the reference resizes."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
