"""What `toonport preprocess` and `toonport cartoonize` share: options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toonport.photo.portrait import PortraitOptions

__all__ = ["add_portrait_options", "number", "portrait_options"]


def add_portrait_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a face is found and cut out."""
    parser.add_argument("--all-faces", action="store_true", help="every face, left to right (default: the largest)")
    parser.add_argument(
        "--landmarks", choices=("dlib", "face-alignment"), default="dlib", help="what sets the 68 landmarks"
    )
    parser.add_argument(
        "--matte",
        choices=("selfie", "head"),
        default="selfie",
        help="what cuts the person out; head is the reference's",
    )
    parser.add_argument(
        "--reference-exact",
        action="store_true",
        help="as the reference's scripts do: only upright faces are found, faces are turned by less than 90 degrees, "
        "hidden colours under transparency count, the matte also covers the corners filled with white",
    )
    parser.add_argument("--jobs", type=number, help="processes (default: as many as there are cores, for many photos)")


def portrait_options(args: argparse.Namespace, keep_background: bool = False) -> PortraitOptions:
    """Return the portrait options that the command line means."""
    from toonport.photo.portrait import PortraitOptions

    return PortraitOptions(
        landmarks=args.landmarks,
        matte="" if keep_background else args.matte,
        every=args.all_faces,
        as_reference=args.reference_exact,
        device=getattr(args, "device", "cpu"),
    )


def number(text: str) -> int:
    """Return a whole number from 1 on, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value
