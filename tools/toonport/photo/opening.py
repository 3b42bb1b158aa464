"""Opens picture files of every kind within a bound of memory, and brings their colours to sRGB.

What Pillow opens, HEIC through pillow-heif where that is installed, and Radiance HDR through OpenCV.
"""

import importlib.util
import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from convert.errors import InputError

WHOLE_PIXELS = 89_478_485  # a picture of more is read at half its sides; Pillow's own limit
MOST_PIXELS = 2**28  # a phone's largest photo has 200 million; at most 1.5 GB are taken for that many
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
HEIC_REMEDY = "pip install 'toonport[heif]'"
JP2_DEPTH = re.compile(rb"\xff\x4f\xff\x51.{38}(.)", re.DOTALL)  # begins a codestream; bits of a value, less one
HDR_SIZE = re.compile(rb"\n[-+]([XY]) (\d+) [-+][XY] (\d+)\n")
_opening = threading.Lock()  # Pillow's limit and the filters of Python's warnings belong to all threads


@contextmanager
def refused_if_damaged(name: str) -> Iterator[None]:
    """Turn what a decoder raises into an InputError that says that this is no picture."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # what Pillow raises for damaged files depends on the format
        raise InputError(f"{name}: not a picture that can be read") from error


def open_picture(source: Path | bytes, name: str) -> Any:
    """Open a picture with Pillow, its pixels unread but for those of a reduced one.

    Args:
        source: a file, or the content of one.
        name: what to call it in an error.

    Raises:
        InputError: more than `MOST_PIXELS`, or HEIC without pillow-heif.
        Exception: not a picture, or a damaged one; see `refused_if_damaged`.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        opened = _opened(source)
    except UnidentifiedImageError:
        if (hdr := _radiance(source, name)) is not None:
            return Image.fromarray(hdr)
        if _is_heic(source) and not _heif_registered():
            raise InputError(f"{name}: HEIC pictures need pillow-heif; {HEIC_REMEDY}") from None
        raise
    width, height = opened.size
    _require_bounded(width, height, name)
    if opened.format == "JPEG2000" and opened.mode in ("RGB", "RGBA") and width * height <= WHOLE_PIXELS:
        return _of_sixteen_bits(source, opened)
    return opened


def reduced(opened: Any) -> Any:
    """Return an opened picture, at half its sides where it has more than `WHOLE_PIXELS`; JPEGs are decoded so."""
    width, height = opened.size
    if width * height <= WHOLE_PIXELS:
        return opened
    if opened.format in ("JPEG", "MPO"):
        opened.draft(None, (width // 2, height // 2))
        return opened
    orientation, profile = opened.getexif(), opened.info.get("icc_profile")
    if opened.mode in ("1", "P", "PA"):
        opened = opened.convert("RGBA" if "transparency" in opened.info or opened.mode == "PA" else "RGB")
    elif opened.mode.startswith("I;16"):
        opened = opened.convert("I")
    half = opened.reduce(2)
    half.info = {"exif": orientation.tobytes(), "icc_profile": profile}
    return half


def in_srgb(picture: Any) -> Any:
    """Return a picture with the colours of its ICC profile brought to sRGB; one without a usable profile as it is."""
    from PIL import ImageCms

    profile = _profile(picture)
    if profile is None:
        return picture
    picture.load()  # what is damaged shall not look like a profile that cannot be used
    seen_through = picture.mode in ("PA", "RGBA", "LA") or "transparency" in picture.info
    alpha = picture.convert("RGBA").getchannel("A") if seen_through else None
    plain = picture.convert("RGB" if picture.mode in ("P", "PA") else picture.mode.rstrip("A"))
    if {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(profile.profile.xcolor_space.strip()) != plain.mode:
        return picture
    try:
        coloured: Any = ImageCms.profileToProfile(plain, profile, _srgb(), outputMode="RGB")
    except ImageCms.PyCMSError:
        return picture
    if alpha:
        coloured.putalpha(alpha)
    return coloured


def picture_size(source: Path | bytes, name: str) -> tuple[int, int]:
    """Return width and height of a picture, read from its header.

    Raises InputError: not a picture, or more than `MOST_PIXELS`.
    """
    with refused_if_damaged(name), open_picture(source, name) as opened:
        width, height = opened.size
        return width, height


def _opened(source: Path | bytes) -> Any:
    """Open a picture without Pillow's warnings and its limit, which `_require_bounded` replaces."""
    from PIL import Image

    _heif_registered()
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            opened = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
            if opened.format != "PNG":  # which is decoded for it; nothing else warns of its EXIF data later
                opened.getexif()
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    return opened


def _require_bounded(width: int, height: int, name: str) -> None:
    if width * height > MOST_PIXELS:
        millions = f"{width * height / 1e6:.0f} million, at most {MOST_PIXELS / 1e6:.0f}"
        raise InputError(f"{name}: too many pixels for a photo ({millions}); make it smaller")


@cache
def _heif_registered() -> bool:
    """Let Pillow open HEIC pictures, where pillow-heif is installed; return whether it is."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    import pillow_heif

    pillow_heif.register_heif_opener()
    return True


def _is_heic(source: Path | bytes) -> bool:
    head = _head(source)
    return head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS


def _head(source: Path | bytes, count: int = 4096) -> bytes:
    if isinstance(source, bytes):
        return source[:count]
    with open(source, "rb") as file:
        return file.read(count)


def _radiance(source: Path | bytes, name: str) -> Any:
    """Return a Radiance HDR picture, RGB uint8 [H, W, 3], what is brighter than white as white; None for others."""
    head = _head(source)
    size = HDR_SIZE.search(head) if head.startswith(b"#?") else None
    if size is None:
        return None
    _require_bounded(int(size[2]), int(size[3]), name)
    content = source if isinstance(source, bytes) else source.read_bytes()
    light = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if light is None:
        return None
    linear = np.clip(light[..., ::-1], 0, 1)
    curve = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.power(linear, 1 / 2.4) - 0.055)  # IEC 61966-2-1
    return np.round(curve * 255).astype(np.uint8)


def _of_sixteen_bits(source: Path | bytes, opened: Any) -> Any:
    """Return a coloured JPEG 2000 picture, read by OpenCV where it has 16 bits: Pillow makes its white black."""
    from PIL import Image

    depth = JP2_DEPTH.search(_head(source))
    if depth is None or depth[1][0] != 15:
        return opened
    content = source if isinstance(source, bytes) else source.read_bytes()
    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim != 3 or values.dtype != np.uint16:
        return opened
    channels = [2, 1, 0, 3][: values.shape[2]]  # OpenCV's are BGR
    picture = Image.fromarray(np.round(values[..., channels] / 257).astype(np.uint8))
    picture.info = dict(opened.info)
    opened.close()
    return picture


def _profile(picture: Any) -> Any:
    """Return the ICC profile of a picture; None where it has none, or that of sRGB, or none that can be used."""
    from PIL import ImageCms

    content = picture.info.get("icc_profile")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content)) if content else None
        return profile if profile and "sRGB" not in ImageCms.getProfileDescription(profile) else None
    except (OSError, ImageCms.PyCMSError):
        return None


@cache
def _srgb() -> Any:
    from PIL import ImageCms

    return ImageCms.createProfile("sRGB")
