"""Arrays that lie on disk, for runs whose layers need more memory than there is."""

from tempfile import TemporaryFile

import numpy as np

from parity_tests.harness.sides.base import Array

IN_MEMORY = 2**30  # bytes that are kept in memory before the first array goes to disk
SEGMENT = 2**28  # bytes of a file, of which there are few: each takes a handle
ALIGNED = 64


class Shelf:
    """Keeps arrays, from the first `IN_MEMORY` bytes on in files without names, which the system pages in and out.

    The files lie in the folder for temporary ones (`TMPDIR`), and are gone with the arrays.
    """

    def __init__(self) -> None:
        self._kept = 0
        self._segment, self._used = np.zeros(0, np.uint8), 0

    def put(self, array: Array) -> Array:
        """Return the array, or one that is equal and lies on disk."""
        self._kept += array.nbytes
        if self._kept <= IN_MEMORY or not array.nbytes:
            return array
        if self._used + array.nbytes > len(self._segment):
            with TemporaryFile() as file:
                self._segment = np.memmap(file, np.uint8, "w+", shape=(max(SEGMENT, array.nbytes),))
            self._used = 0
        place = self._segment[self._used : self._used + array.nbytes]
        self._used += -(-array.nbytes // ALIGNED) * ALIGNED
        found = place.view(array.dtype).reshape(array.shape)
        found[...] = array
        return found
