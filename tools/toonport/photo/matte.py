"""Mattes: which part of a crop is the person. One small interface, two backends.

* `selfie`: MediaPipe selfie segmentation (Google, Apache-2.0) run by LiteRT, its border refined by GrabCut
  (Rother et al. 2004). The embedded default; `toonport fetch selfie_segmentation` brings the file.
* `head`: the reference's own network, `seg_model_384.pb`, when the user has it (or an ONNX conversion of it).
"""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from convert.errors import InputError
from parity_tests.harness.onnx.session import open_session
from toonport.fetch import fetch, load_manifest, weights_folder
from toonport.photo.align import Crop
from toonport.photo.backends import MATTE_NAMES, Backend, Usable, open_backend
from toonport.photo.picture import Picture, resize

SELFIE = "selfie_segmentation"
HEAD = "head-segmentation"
SELFIE_SIDE = 256
HEAD_SIDE = 384
HEAD_OUTPUT = "sigmoid/Sigmoid"

# GrabCut works on small copies, as its time grows with the pixels: it learns the colours on one and draws the border on
# a larger one. On the reference's own crops the mattes overlap its by 0.931; with 256 px for both it is 0.934, in
# six times the time. The border is then blurred, enlarged and sharpened, so that it stays even and crisp.
LEARN_SIDE, REFINE_SIDE = 32, 128
GAUSSIANS = 5  # of GrabCut's model of each side; fewer pixels than these teach it nothing
NO_BOX = (0, 0, 1, 1)  # GrabCut is given labels; the box is not looked at
CERTAIN_BACKGROUND, CERTAIN_PERSON = 0.1, 0.9
SPECK = 0.02  # share of the largest piece below which an island is somebody else, or nothing
SOFTENING = 1.0  # standard deviation of the blur of GrabCut's hard border, in pixels of the small copy
SHARPENING = 2.0  # how much steeper the border becomes once it has been enlarged

Probability = NDArray[np.float32]


Matte = Callable[[Crop], Picture]  # a crop -> where the person is, [S, S], 0 background to 255 person


def _examine_selfie() -> Usable:
    if importlib.util.find_spec("ai_edge_litert") is None:
        return Usable(False, "not installed; pip install ai-edge-litert")
    if not selfie_file().is_file():
        return Usable(False, f"no {selfie_file().name}; toonport fetch {SELFIE}")
    return Usable(True, "256x256, refined by GrabCut, offline")


def _examine_head() -> Usable:
    name, there = head_file().name, head_file().is_file()
    pages = "put it into the weights folder, toonport fetch head-segmentation says where it is published"
    return Usable(there, name if there else f"no {name}; {pages}")


def selfie_file() -> Path:
    """Return where the selfie network is looked for."""
    return weights_folder() / load_manifest()[SELFIE].file


def head_file() -> Path:
    """Return where the reference's network is looked for: an ONNX conversion first, else the frozen graph."""
    graph = weights_folder() / load_manifest()[HEAD].file
    converted = graph.with_suffix(".onnx")
    return converted if converted.is_file() else graph


class SelfieMatte:
    """MediaPipe selfie segmentation at 256x256, refined."""

    def __init__(self, path: Path, threads: int = 2) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with _silent():
            self._network = Interpreter(model_path=str(path), num_threads=threads)
            self._network.allocate_tensors()
        self._input = self._network.get_input_details()[0]["index"]
        self._output = self._network.get_output_details()[0]["index"]

    def __call__(self, crop: Crop) -> Picture:
        """Return the matte [S, S] of a crop."""
        small = crop.at(SELFIE_SIDE)
        self._network.set_tensor(self._input, small[None].astype(np.float32) / 255)  # [1, 256, 256, 3]
        self._network.invoke()
        probability = self._network.get_tensor(self._output)[0, :, :, 0]  # [256, 256]
        return to_matte(refine(small, probability), crop.side)


class HeadMatte:
    """The reference's segmentation network at 384x384, run by OpenCV (.pb) or ONNX Runtime (.onnx)."""

    def __init__(self, path: Path, threads: int = 2) -> None:
        self._run = _open_onnx(path, threads) if path.suffix == ".onnx" else _open_graph(path)

    def __call__(self, crop: Crop) -> Picture:
        """Return the matte [S, S] of a crop."""
        small = crop.at(HEAD_SIDE)
        probability = self._run(small[None].astype(np.float32) / 255)  # [1, 384, 384, 3] -> [384, 384]
        return to_matte(probability, crop.side)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep LiteRT from announcing its CPU kernels on the terminal, which no setting of it does."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def to_matte(probability: Probability, side: int) -> Picture:
    """Return probabilities as a matte of the crop's size: resized bilinearly, then cut to whole levels."""
    sized = cv2.resize(probability, (side, side), interpolation=cv2.INTER_LINEAR)
    np.clip(sized, 0, 1, out=sized)
    return np.multiply(sized, 255, out=sized).astype(np.uint8)


def refine(pixels: Picture, probability: Probability) -> Probability:
    """Return the matte with its uncertain border decided by the colours on both sides of it.

    Args:
        pixels: crop, RGB uint8 [S, S, 3].
        probability: [h, w] in 0..1 of any size; where it is certain it is not questioned.

    Returns:
        [256, 256] in 0..1, with a soft border.
    """
    small, labels = _labelled(pixels, probability, LEARN_SIDE)
    if min((labels == cv2.GC_BGD).sum(), (labels == cv2.GC_FGD).sum()) < GAUSSIANS:
        return np.asarray(cv2.resize(probability, (SELFIE_SIDE, SELFIE_SIDE)), np.float32)  # no certain colours
    cv2.setRNGSeed(0)  # the colour models start from random centres: the same photo gives the same matte
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, labels, NO_BOX, background, foreground, 1, cv2.GC_INIT_WITH_MASK)
    small, labels = _labelled(pixels, probability, REFINE_SIDE)
    cv2.grabCut(small, labels, NO_BOX, background, foreground, 1, cv2.GC_EVAL_FREEZE_MODEL)
    person = _without_specks(((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8))
    soft = cv2.GaussianBlur(person.astype(np.float32), (0, 0), SOFTENING)
    large = cv2.resize(soft, (SELFIE_SIDE, SELFIE_SIDE), interpolation=cv2.INTER_CUBIC)
    return np.clip(0.5 + SHARPENING * (large - 0.5), 0, 1)


def _labelled(pixels: Picture, probability: Probability, side: int) -> tuple[Picture, Picture]:
    """Return a small copy [side, side, 3] and GrabCut's labels [side, side]: certain, or probable."""
    guess = cv2.resize(probability, (side, side), interpolation=cv2.INTER_LINEAR)
    labels = np.where(guess > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[guess < CERTAIN_BACKGROUND] = cv2.GC_BGD
    labels[guess > CERTAIN_PERSON] = cv2.GC_FGD
    return np.ascontiguousarray(resize(pixels, side, side)), labels


def _without_specks(person: Picture) -> Picture:
    """Return the mask without the islands that are tiny beside its largest piece."""
    _, pieces, facts, _ = cv2.connectedComponentsWithStats(person)
    areas = facts[:, cv2.CC_STAT_AREA] * (np.arange(len(facts)) > 0)  # piece 0 is the background
    return np.asarray((areas >= SPECK * areas.max())[pieces] & (person > 0), np.uint8)


def _open_graph(path: Path) -> Any:
    """Return a function that runs the frozen TensorFlow graph in OpenCV."""
    try:
        network = cv2.dnn.readNetFromTensorflow(str(path))
    except cv2.error as error:
        raise InputError(
            f"{path}: OpenCV cannot read this graph ({error.err or error.code}); convert it to "
            f"{path.with_suffix('.onnx').name} (python -m tf2onnx.convert --graphdef), or use --matte selfie"
        ) from error

    def run(batch: NDArray[np.float32]) -> Probability:
        """[1, 384, 384, 3] -> [384, 384]."""
        network.setInput(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))
        return np.asarray(network.forward(HEAD_OUTPUT)[0, 0], np.float32)

    return run


def _open_onnx(path: Path, threads: int) -> Any:
    """Return a function that runs an ONNX conversion of the graph."""
    session = open_session(path, threads)
    name = session.get_inputs()[0].name
    return lambda batch: np.asarray(session.run(None, {name: batch})[0], np.float32).reshape(HEAD_SIDE, HEAD_SIDE)


MATTES: dict[str, Backend[Matte]] = {
    MATTE_NAMES[0]: Backend(_examine_selfie, lambda threads: SelfieMatte(selfie_file(), threads)),
    MATTE_NAMES[1]: Backend(_examine_head, lambda threads: HeadMatte(head_file(), threads)),
}


def bring_matte(name: str) -> None:
    """Fetch the default backend's network where it is missing, and say so on standard error.

    Raises InputError: it could not be fetched.
    """
    if name == MATTE_NAMES[0] and not selfie_file().is_file():
        release = load_manifest()[SELFIE]
        print(
            f"fetching {release.file}, which cuts people out, from {release.package} ({release.licence})",
            file=sys.stderr,
        )
        fetch(release, weights_folder())


def open_matte(name: str = "selfie", threads: int = 2) -> Matte:
    """Return a matte backend. Raises InputError: unknown, not installed, or its file is not there; says what to do."""
    return open_backend("matte", MATTES, name, threads)
