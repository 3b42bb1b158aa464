"""The reference's landmark network, FAN, through the package `face-alignment`.

An extra: its weights come through `toonport fetch`, never by a silent download.
Source: Bulat & Tzimiropoulos 2017, arXiv 1703.07332; 1adrianb/face-alignment (BSD-3-Clause).
"""

import importlib.util
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from convert.devices import CPU
from toonport.fetch import load_manifest, weights_folder
from toonport.photo.backends import Usable
from toonport.photo.faces import Box, Points
from toonport.photo.landmarks_dlib import examine as examine_dlib
from toonport.photo.picture import Picture
from torch_ref.environment import device_beside, place_of

RELEASE = "face-alignment-landmarks"


def weights_file() -> Path:
    """Return where the network's weights are looked for."""
    return weights_folder() / load_manifest()[RELEASE].file


def examine() -> Usable:
    """Say whether the package and its weights are there."""
    if importlib.util.find_spec("face_alignment") is None:
        return Usable(False, "not installed; pip install 'toonport[face]'")
    if not weights_file().is_file():
        return Usable(False, f"no weights; toonport fetch {RELEASE}")
    dlib = examine_dlib()
    return Usable(True, "68 points, offline") if dlib.usable else dlib


class FaceAlignmentLandmarks:
    """The 2D-FAN-4 network on one device."""

    def __init__(self, device: str = CPU) -> None:
        self._network = _open(weights_file(), place_of(device_beside(device)))

    def __call__(self, picture: Picture, boxes: list[Box]) -> list[Points]:
        """Return the landmarks [68, 2] of every box."""
        if not boxes:
            return []
        found = self._network.get_landmarks_from_image(np.ascontiguousarray(picture), detected_faces=boxes)
        return [np.asarray(points, np.float64)[:, :2] for points in found]


def _open(weights: Path, device: str) -> Any:
    """Build the network without a download: PyTorch's hub folder points to the fetched file meanwhile.

    "folder" is the package's detector that loads nothing; the boxes are dlib's, found here.
    """
    import face_alignment
    import torch

    before = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the package imports
        checkpoints = Path(folder) / "checkpoints"
        checkpoints.mkdir()
        (checkpoints / weights.name).symlink_to(weights.resolve())
        torch.hub.set_dir(folder)
        try:
            kind = face_alignment.LandmarksType.TWO_D
            return face_alignment.FaceAlignment(kind, device=device, face_detector="folder", compile=False)
        finally:
            torch.hub.set_dir(before)
