"""Networks that turn a picture into a vector: what the distances between sets of pictures are measured in.

Only vectors of the very Inception weights that the Fréchet Inception distance was defined with may carry its name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from convert.conversion import load_networks, torch_arrays
from convert.devices import CPU
from convert.disk import sha256_of
from convert.errors import InputError
from convert.tensors import Array
from toonport.evaluate.inception import load_inception
from toonport.fetch import fetch, load_manifest, weights_folder
from toonport.photo.compose import to_input
from toonport.photo.picture import Picture, resize
from torch_ref.build import build_torch
from torch_ref.losses_ugatit import face_embeddings

SIDE = 256  # of pictures given to the face network and VGG19, as in the training of portraits
RELEASES = {"inception": ("inception",), "face": ("mobilefacenet",), "vgg": ("vgg19", "vgg19-numpy")}


@dataclass(frozen=True)
class Features:
    """A loaded network."""

    key: str  # short name for options and files
    name: str  # what it is and how many numbers it gives, e.g. "MobileFaceNet-128".
    dimension: int  # how many numbers
    standard: bool  # these are the features that FID and KID are defined with
    how: str  # what is done with a picture, in words
    # path, sha256: the weights
    path: Path
    sha256: str
    network: torch.nn.Module  # the PyTorch network, in eval mode
    forward: Callable[[Sequence[Picture]], torch.Tensor]  # pictures -> their vectors, with gradients

    def run(self, pictures: Sequence[Picture]) -> Array:
        """Pictures, RGB uint8 [H, W, 3] of any sizes -> their vectors, float32 [N, dimension]."""
        with torch.no_grad():
            return np.asarray(self.forward(pictures).cpu().numpy())


def find_weights(kind: str, given: str | None) -> Path | None:
    """Return a weight file of one of RELEASES: the one given, else the one that `toonport fetch` stored, else None.

    Raises InputError: the file given is not there, or the fetched one is not what the manifest says.
    """
    if given is not None:
        if not Path(given).is_file():
            raise InputError(f"{given}: no such file")
        return Path(given)
    releases = load_manifest()
    known = [releases[name] for name in RELEASES[kind]]
    found = [release for release in known if (weights_folder() / release.file).is_file()]
    return fetch(found[0], weights_folder()) if found else None


def batch_of(pictures: Sequence[Picture]) -> torch.Tensor:
    """Return pictures of any sizes as one batch [N, 3, 256, 256] in [-1, 1], resized by area averaging."""
    return torch.from_numpy(np.concatenate([to_input(resize(pixels, SIDE, SIDE)) for pixels in pictures]))


def open_inception(path: Path, device: str = CPU) -> Features:
    """Load the network of the Fréchet Inception distance. Raises InputError: not that network's file."""
    network = load_inception(path).to(device)
    found = sha256_of(path)
    standard = found == load_manifest()["inception"].sha256

    def forward(pictures: Sequence[Picture]) -> torch.Tensor:
        """Pictures of any sizes -> the vectors of the last pool."""
        units = (
            torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()).to(device).float() / 255 for pixels in pictures
        )
        return network(torch.cat([interpolate(x, (299, 299), mode="bilinear", align_corners=False) for x in units]))

    return Features(
        key="inception",
        name="Inception-2048" if standard else f"Inception-2048 with weights {found[:8]}",
        dimension=2048,
        standard=standard,
        how="last pool of TensorFlow's Inception v3 of 2015-12-05; pictures brought to 299x299 bilinearly without "
        "antialiasing, in [-1, 1]",
        path=path,
        sha256=found,
        network=network,
        forward=forward,
    )


def _of_family(
    path: Path,
    family: str,
    device: str,
    label: str,
    dimension: Callable[[Mapping[str, Any]], int],
    forward: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor],
    how: str,
) -> Features:
    """Load a network of the registry that takes pictures of SIDE."""
    found = load_networks(path, family)[0]
    network = build_torch(found.part, found.kwargs, torch_arrays(found)).requires_grad_(False).to(device)
    numbers = dimension(found.kwargs)
    return Features(
        key=family,
        name=f"{label}-{numbers}",
        dimension=numbers,
        standard=False,
        how=how,
        path=path,
        sha256=sha256_of(path),
        network=network,
        forward=lambda pictures: forward(network, batch_of(pictures).to(device)),
    )


def open_face(path: Path, device: str = CPU) -> Features:
    """Load MobileFaceNet: face embeddings of aligned portraits, cut as the Face-ID loss cuts them.

    Raises InputError: not a file of MobileFaceNet.
    """
    how = (
        f"unit vectors of MobileFaceNet; pictures brought to {SIDE}x{SIDE}, the face region of aligned portraits "
        "cut out and brought to 112x112 as in the Face-ID loss"
    )
    size = itemgetter("embedding_size")
    return _of_family(path, "mobilefacenet", device, "MobileFaceNet", size, face_embeddings, how)


def open_vgg(path: Path, device: str = CPU) -> Features:
    """Load VGG19 up to conv4_4: its last layer, averaged over the picture. Raises InputError: not a file of VGG19."""
    how = f"conv4_4 of VGG19 averaged over the picture; pictures brought to {SIDE}x{SIDE}"
    return _of_family(
        path, "vgg19", device, "VGG19", lambda kwargs: 8 * kwargs["width"], lambda net, x: net(x).mean((2, 3)), how
    )
