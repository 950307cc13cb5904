"""An approximate index over the anchors of a large index (faiss IVF,SQ8), kept as a file beside the mapped arrays.

Their stamp (:class:`~smart_retrieval.index.mirror.files.Stamp`) names the file together with its size and checksums, so
that it can belong to no other rows.
"""

from __future__ import annotations

import math
import os
import secrets
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...checksums import file_checksum
from ...errors import MissingExtraError, SmartWarning
from ...extras import require
from ...progress import progress
from ...types import Array
from .arrays import release_pages

# Rows from which on an index is worth its building; below, all anchors are read for every query.
ANN_ROWS = 200_000
# Queries of the calibration want as many as a search does by default, and miss at most one in two hundred.
CALIBRATED_FOR = 400
AIM = 0.995
SUFFIX = ".faiss"
_QUERIES = 96
_SEED = 20260523
_TRAIN_A_LIST = 64
_TRAIN_AT_MOST = 262_144
_AT_ONCE = 32_768
_BAR_FROM = 100_000
_LISTS_END = 12  # bytes that end the file of an index without rows: how sizes of lists are written, and how many
_warned = False

Advance = Callable[[int], None]


class AnchorIndex:
    """A faiss index whose ids are the positions 0 to ``rows`` - 1 of the mapped base; safe to use from several threads.

    It only proposes: cosines are taken again from the anchors themselves, and whatever it says that cannot be is passed
    over. ``probes`` is how many lists to look into for :data:`CALIBRATED_FOR` candidates.
    """

    def __init__(self, faiss: Any, index: Any, rows: int, probes: int) -> None:
        self._faiss = faiss
        self._index = index
        self.rows = rows
        self.probes = probes

    def nearest(self, anchor: Array, wanted: int, allowed: Array | None, available: int) -> Array | None:
        """Positions near a query, in no order, at least ``wanted`` of them unless fewer are allowed.

        Args:
            anchor: ``[Da]`` float32 of unit length.
            wanted: How many.
            allowed: One bit a position, little-endian, of those that may be found; None for all.
            available: How many bits are set.

        Returns:
            ``[n]`` int64; None where it finds fewer than there are, which an exact scan will not.
        """
        fetch = min(_fetched(wanted), available)
        # A filter thins the lists out: to see as many allowed rows, more of them are looked into.
        probes = self.probes * max(1.0, wanted / CALIBRATED_FOR) * self.rows / max(1, available)
        lists = int(self._index.nlist)
        while True:
            found = self._search(anchor, fetch, min(lists, math.ceil(probes)), allowed)
            if len(found) >= fetch:
                return found
            if probes >= lists:
                return found if len(found) >= min(wanted, available) else None
            probes *= 4

    def _search(self, anchor: Array, fetch: int, probes: int, allowed: Array | None) -> Array:
        selector = None if allowed is None else self._faiss.IDSelectorBitmap(allowed)
        parameters = self._faiss.SearchParametersIVF(sel=selector, nprobe=probes)
        _, found = self._index.search(np.ascontiguousarray(anchor, np.float32)[None], fetch, params=parameters)
        ids: Array = np.unique(found[0])
        return ids[(ids >= 0) & (ids < self.rows)]


def _fetched(wanted: int) -> int:
    """How many to ask an index for: a few more, since 8 bits blur the order and the cosines are taken again exactly."""
    return wanted + max(16, wanted // 8)


# -- building ----------------------------------------------------------------------------------------------------------


def lists_for(rows: int) -> int:
    """Inverted lists for so many rows: the power of two next to their square root, 8 at least."""
    return 1 << max(3, round(math.log2(max(1, rows)) / 2))


def build(faiss: Any, anchors: Array, advance: Advance) -> Any:
    """A faiss index over unit anchors ``[n, Da]``, trained on a sample of bounded size with a fixed seed."""
    lists = lists_for(len(anchors))
    count = min(len(anchors), _TRAIN_A_LIST * lists, max(_TRAIN_AT_MOST, 40 * lists))
    chosen = np.sort(np.random.default_rng(_SEED).choice(len(anchors), count, replace=False))
    index = _untrained(faiss, faiss.IndexFlatIP(anchors.shape[1]), anchors.shape[1], lists)
    index.cp.min_points_per_centroid = 1  # it would warn on stderr
    sample = []
    for part in np.array_split(chosen, 32):
        sample.append(anchors[part])
        release_pages(anchors)
    index.train(np.concatenate(sample))
    _add_rows(index, anchors, advance)
    return index


def _untrained(faiss: Any, quantizer: Any, anchor_dim: int, lists: int) -> Any:
    kind = faiss.ScalarQuantizer.QT_8bit
    return faiss.IndexIVFScalarQuantizer(quantizer, anchor_dim, lists, kind, faiss.METRIC_INNER_PRODUCT)


def _add_rows(index: Any, anchors: Array, advance: Advance) -> None:
    """Add the rows that the index does not hold yet; ``anchors`` begins with those it does."""
    for start in range(int(index.ntotal), len(anchors), _AT_ONCE):
        block = np.ascontiguousarray(anchors[start : start + _AT_ONCE])
        index.add(block)
        release_pages(anchors)
        advance(len(block))


def extend(faiss: Any, path: Path, anchors: Array) -> Any:
    """The index of a file with the newer rows of ``anchors`` added."""
    index = faiss.read_index(str(path))
    _add_rows(index, anchors, lambda rows: None)
    return index


def calibrate(faiss: Any, index: Any, anchors: Array) -> int:
    """The least number of probes that finds :data:`AIM` of the exact candidates.

    The queries are made from the anchors, as no others are known: half of them lie near one document, and half between
    two, where lists meet and more probes are needed.
    """
    rng = np.random.default_rng(_SEED + 1)
    first, second = anchors[rng.integers(0, len(anchors), _QUERIES)], anchors[rng.integers(0, len(anchors), _QUERIES)]
    share = np.where(np.arange(_QUERIES) % 2, 0.5, 0.75).astype(np.float32)[:, None]
    queries = np.ascontiguousarray(first * share + second * (1 - share))
    wanted = min(CALIBRATED_FOR, len(anchors))
    exact = _nearest(faiss, queries, anchors, wanted)
    release_pages(anchors)
    probes = 1
    while probes < index.nlist:
        parameters = faiss.SearchParametersIVF(nprobe=probes)
        _, found = index.search(queries, _fetched(wanted), params=parameters)
        hits = [len(np.intersect1d(a, b)) for a, b in zip(exact, found, strict=True)]
        if np.mean(hits) >= AIM * wanted:
            return probes
        probes = -(-probes * 3 // 2)
    return int(index.nlist)


def _nearest(faiss: Any, queries: Array, anchors: Array, wanted: int) -> Array:
    """The exact nearest rows of each query, ``[Q, wanted]``."""
    scores, rows = np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    for start in range(0, len(anchors), _AT_ONCE):
        block = np.ascontiguousarray(anchors[start : start + _AT_ONCE])
        near, which = faiss.knn(queries, block, min(wanted, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        release_pages(anchors)
        scores, rows = np.hstack([scores, near]), np.hstack([rows, which + start])
        if scores.shape[1] > wanted:
            best = np.argpartition(-scores, wanted - 1, axis=1)[:, :wanted]
            scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
    return rows


# -- the file ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AnnStamp:
    """What is known about the file."""

    file: str  # its name
    rows: int  # of the base that it covers
    trained: int  # rows there were when it was trained
    probes: int  # lists to look into
    size: int  # bytes
    checksum: int  # CRC-32 of the file


def faiss_module() -> Any | None:
    """The faiss module, or None after a warning (once) where it is not installed."""
    global _warned
    try:
        return require("faiss", "ann")
    except MissingExtraError as error:
        if not _warned:
            _warned = True
            warnings.warn(f"every search reads all anchors of this large index: {error}", SmartWarning, stacklevel=2)
        return None


def load(faiss: Any, folder: Path, stamp: AnnStamp, anchor_dim: int) -> AnchorIndex | None:
    """Map the file, whose checksum was compared; None if faiss cannot read it, or something else is in it."""
    path = folder / stamp.file
    try:
        if not (stamp.probes > 0 and 0 < stamp.trained <= stamp.rows and _is_sound(faiss, path, stamp, anchor_dim)):
            return None
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (OSError, RuntimeError, MemoryError):
        return None
    if not isinstance(index, faiss.IndexIVFScalarQuantizer) or (index.d, index.ntotal) != (anchor_dim, stamp.rows):
        return None
    return AnchorIndex(faiss, index, stamp.rows, stamp.probes)


def _is_sound(faiss: Any, path: Path, stamp: AnnStamp, anchor_dim: int) -> bool:
    """Whether a file, whoever made it, is laid out as the index of its stamp: faiss believes any size that it reads.

    What comes before the lists is compared with two indexes without rows, filled with different bytes: where these
    agree the file must, too. Of the lists the sizes are added up.
    """
    lists = lists_for(stamp.trained)
    one, other = (_without_rows(faiss, anchor_dim, lists, byte) for byte in (0, 255))
    start = len(one) - _LISTS_END
    with path.open("rb") as file:
        head = np.frombuffer(file.read(start), np.uint8)
        kind, count = file.read(4), int.from_bytes(file.read(8), "little")
        if count > 2 * lists:
            return False
        tail = file.read(8 * count)
    if len(head) < start or len(tail) < 8 * count or (head != one[:start])[one[:start] == other[:start]].any():
        return False
    numbers = np.frombuffer(tail, "<u8")
    if kind == b"sprs" and count % 2 == 0:  # numbers of those that are not empty, and their sizes
        places, sizes = numbers[::2], numbers[1::2]
        if (places >= lists).any() or (places[1:] <= places[:-1]).any():
            return False
    elif kind == b"full" and count == lists:
        sizes = numbers
    else:
        return False
    size = start + _LISTS_END + 8 * count + stamp.rows * (anchor_dim + 8)
    return not (sizes > stamp.rows).any() and int(sizes.sum()) == stamp.rows and path.stat().st_size == size


def _without_rows(faiss: Any, anchor_dim: int, lists: int, byte: int) -> Array:
    """The file of an index that was trained on nothing, every number in it that training sets of such bytes."""
    filled = np.full(4 * max(lists, 2) * anchor_dim, byte, np.uint8).view(np.float32)
    quantizer = faiss.IndexFlatIP(anchor_dim)
    quantizer.add(filled[: lists * anchor_dim].reshape(lists, anchor_dim))
    index = _untrained(faiss, quantizer, anchor_dim, lists)
    faiss.copy_array_to_vector(filled[: 2 * anchor_dim], index.sq.trained)
    index.is_trained, index.ntotal, index.nprobe = True, -(byte & 1), byte
    found: Array = faiss.serialize_index(index)
    return found


def write(faiss: Any, folder: Path, name: str, anchors: Array, before: AnnStamp | None) -> AnnStamp:
    """Write a file over all anchors of the base of a name: an earlier file with the newer rows added, or a new one.

    An index is retrained once its rows have doubled.
    """
    path = folder / f"{name}.ann-{secrets.token_hex(4)}{SUFFIX}"
    try:
        if before and len(anchors) < 2 * before.trained and file_checksum(folder / before.file) == before.checksum:
            index, trained, probes = extend(faiss, folder / before.file, anchors), before.trained, before.probes
        else:
            with progress("Indexing anchors", len(anchors), None if len(anchors) >= _BAR_FROM else False) as advance:
                index, trained = build(faiss, anchors, advance), len(anchors)
                probes = calibrate(faiss, index, anchors)
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # faiss's own: a full disk for one, or anchors that are no numbers
        path.unlink(missing_ok=True)
        raise OSError(f"{path.name} cannot be written ({error})") from error
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    size = path.stat().st_size
    return AnnStamp(path.name, len(anchors), trained, probes, size, file_checksum(path))
