"""Small probes cut out of a user's own input: two different pictures, not square, on a size that both networks run."""

from collections.abc import Iterator, Sequence

import numpy as np

from parity_tests.harness.capture import REFUSALS, Pair
from parity_tests.harness.sides.base import Array, Side
from parity_tests.harness.sides.tree import Tree

MULTIPLES = (8, 16, 32)  # of which sides often have to be
Probes = tuple[Sequence[Array], Sequence[Array]]  # one for eval mode, one for train mode


def cut_probes(pair: Pair, inputs: Sequence[Array]) -> Probes:
    """Return probes for eval and train mode, the first size that both networks run in both modes.

    Odd sides are tried first, then multiples of 8, 16 and 32, then the whole pictures twice. Inputs that are not one
    array of pictures, and networks that run no other size, keep the inputs as they are.

    Args:
        pair: reference and port; their state is put back.
        inputs: what the user gave.
    """
    given = inputs
    if len(given) != 1 or given[0].ndim != 4 or (isinstance(given, Tree) and not given.plain):
        return given, given
    for height, width in _sizes(*given[0].shape[2:]):
        wide, tall = [_two(given[0], height, width)], [_two(given[0], width, height)]
        if _runs(pair, wide, tall):
            return wide, tall
    return given, given


def _sizes(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Sizes within a picture, of which the sides can also be swapped; the picture's own last."""
    side = min(height, width)
    yield (side // 2 | 1, side * 3 // 4)
    for multiple in MULTIPLES:
        short, long = side // 2 // multiple * multiple, side * 3 // 4 // multiple * multiple
        if 0 < short < long:
            yield short, long
    yield height, width


def _two(pictures: Array, height: int, width: int) -> Array:
    """Two pictures [2, C, h, w] from the corners of the first and the last, the second mirrored."""
    rows, columns = min(height, pictures.shape[2]), min(width, pictures.shape[3])
    first, last = pictures[:1, :, :rows, :columns], pictures[-1:, :, -rows:, -columns:][..., ::-1]
    return np.ascontiguousarray(np.concatenate([first, last]))


def _runs(pair: Pair, *probes: Sequence[Array]) -> bool:
    """Whether both networks run every probe in both modes, and the reference makes numbers of it."""
    try:
        for training in (False, True):
            pair.set_training(training)
            for inputs in probes:
                wanted, _ = _called(pair.reference, inputs), _called(pair.port, inputs)
                if not all(np.isfinite(array).all() for array in wanted):
                    return False
    except REFUSALS:
        return False
    finally:
        pair.set_training(False)
    return True


def _called(side: Side, inputs: Sequence[Array]) -> Sequence[Array]:
    with side.preserved():
        return side.call("", inputs)
