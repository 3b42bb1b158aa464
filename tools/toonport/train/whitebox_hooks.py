"""The functions on numpy pictures that White-box's training step asks for by name; they need packages of their own."""

from collections.abc import Callable
from typing import Any


def picture_function(name: str, settings: Any) -> Callable[..., Any]:
    """Return what a step's hook `name` is filled with, by the step's settings."""
    if name == "landmarks":
        from toonport.train.whitebox_landmarks import LandmarkWindows

        return LandmarkWindows()
    from toonport.train.whitebox_structure import adaptive_structure, slic_structure

    return {"superpixels": adaptive_structure if settings.adaptive_structure else slic_structure}[name]
