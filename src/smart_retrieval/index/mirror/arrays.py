"""Large arrays on the disk: mapped where all of it is read, row by row where a few are."""

from __future__ import annotations

import mmap
import os
import weakref
from contextlib import suppress
from pathlib import Path

import numpy as np

from ...locks import ForkLock
from ...types import Array
from ..codec.kernels import compiled_kernels
from .coarse import CoarseAnchors

# Below this, an array may stay resident whole.
LARGE_BYTES = 256 << 20
# Of so many neighbouring rows, one is wanted: then it is read by itself.
_SPARSE = 16


def release_pages(array: Array) -> None:
    """Take a large mapped array's pages out of this process's resident memory; they stay in the system's cache.

    An array that is small or not mapped is left alone.

    Example:
        >>> release_pages(np.zeros(3))
    """
    if array.nbytes < LARGE_BYTES:
        return
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        with suppress(OSError, ValueError):
            base.madvise(mmap.MADV_DONTNEED)


def rows_of(array: Array, rows: Array) -> Array:
    """Rows of an array, as they lie there if they follow each other.

    Example:
        >>> rows_of(np.arange(4), np.array([1, 2])).base is None
        False
    """
    if len(rows) > 1 and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return array[int(rows[0]) : int(rows[-1]) + 1]
    return array[rows]


class RowFile:
    """A mapped array of rows ``[n, D]``, and its file to read single rows from.

    Touching one row of a mapped file makes its neighbours resident, too, up to 2 MB of them on Linux: a few hundred
    scattered rows would be half a gigabyte.
    """

    def __init__(self, path: Path, array: Array) -> None:
        self.array = array
        self._lock, self._scans = ForkLock(), 0
        self._coarse: CoarseAnchors | None = None
        self._file: int | None = None
        if array.nbytes >= LARGE_BYTES and hasattr(os, "pread"):
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, self._file)

    def coarse(self) -> CoarseAnchors | None:
        """Its rows, if they are anchors, in 8 bits, for a scan; None where it is to read the rows themselves.

        Made for the second scan once there is a kernel for them: 40 ms and 8 MB for 20,000 anchors of 384 dimensions,
        which one search does not gain. An array that is too large to stay resident is not added to either.
        """
        if compiled_kernels() is not None and self.array.nbytes < LARGE_BYTES:
            with self._lock.held:
                self._scans += 1
                if self._scans == 2:
                    self._coarse = CoarseAnchors.of(self.array)
        return self._coarse

    def take(self, rows: Array) -> Array:
        """Rows ``[k, D]`` in the order given; where they lie, if they follow each other and may stay resident."""
        if self._file is None or not len(rows):
            return rows_of(self.array, rows)
        if int(rows.max() - rows.min()) < _SPARSE * len(rows):
            taken: Array = self.array[rows]
            release_pages(self.array)
            return taken
        size = self.array.strides[0]
        found = b"".join([os.pread(self._file, size, row * size) for row in rows.tolist()])
        if len(found) != size * len(rows):
            raise OSError("found the file of a mapped array cut short")
        return np.frombuffer(found, self.array.dtype).reshape(len(rows), *self.array.shape[1:])
