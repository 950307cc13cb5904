"""Best similarities from codes: the NumPy reference, and when the compiled kernels take over.

A code is a centroid number (2 bytes, optional), G table bytes and a length byte (optional). The similarity of query
token q with it is ``(centroid[number, q] + sum_g tables[g, byte_g, q] + shift[document, q]) * scale[byte]``, summed in
this order in float32; the result is the maximum over the document's rows. (Look-up tables for products with quantised
vectors: Jegou, Douze, Schmid, "Product quantization for nearest neighbor search", 2011; here with all query tokens side
by side, so that one row of a table serves them all in a few vector instructions.)

Loading Numba and its cached code takes longer (0.5 to 1 s; compiling them once, several) than a few searches with the
NumPy reference, which gives the same bits. So a process that searches once never loads it, and one that goes on gets it
from a thread.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType

import numpy as np

from ...core.vectors import frozen
from ...errors import SmartWarning
from ...locks import ForkLock
from ...threads import in_threads, thread_count
from ...types import Array

#: Rows of an intermediate block; 8192 x 64 query tokens of float32 take 2 MiB.
BLOCK_ROWS = 8192

# Products of query tokens with document tokens below which a further thread costs more than it saves.
_WORTH_A_THREAD = 250_000

# Of a vector of length 1, in whole numbers of 16 bits.
STEPS = 32767.0

#: Products of query tokens with document tokens done in NumPy before Numba is loaded; about a quarter of a second.
PATIENCE = 4_000_000


@dataclass(frozen=True)
class Lookup:
    """The tables of one query tile of P query tokens."""

    tables: Array  # [G, 256, P] float32 partial products
    shift: Array | None = None  # [N, P] float32 added to every row of a document
    centroids: Array | None = None  # [K, P] float32 products with centroids; None: codes begin with the table bytes
    slots: Array | None = None  # [K'] int32, row of ``centroids`` of a centroid number
    scales: Array | None = None  # [256] float32 factors of the last byte


def best_from_tables(lookup: Lookup, codes: Array, starts: Array, stops: Array) -> Array:
    """Best similarity of each document and query token, ``[N, P]`` float32, ``-inf`` for empty documents.

    ``codes`` are ``[R, B]`` uint8; a document's rows are those from its start to before its stop, ``[N]`` int64 each.
    The Numba kernel is used once it is loaded; both give the same bits.
    """
    fast = compiled_kernels()
    width = lookup.tables.shape[2]
    if fast is None:
        _count(int((stops - starts).sum()) * width)
        return _reference_best(lookup, codes, starts, stops)
    best = np.full((len(starts), width), -np.inf, np.float32)
    none = np.zeros((0, width), np.float32)
    tables = [
        frozen(lookup.tables),
        frozen(none if lookup.centroids is None else lookup.centroids),
        frozen(np.zeros(0, np.int32) if lookup.slots is None else lookup.slots),
        frozen(np.zeros(0, np.float32) if lookup.scales is None else lookup.scales),
    ]

    def score(part: slice) -> None:
        shift = none if lookup.shift is None else lookup.shift[part]
        fast.best_from_tables(
            frozen(codes), frozen(starts[part]), frozen(stops[part]), *tables, frozen(shift), best[part]
        )

    in_threads(score, _shares(np.cumsum(stops - starts), width))
    return best


def _shares(rows: Array, width: int) -> list[slice]:
    """Documents, by the sums of their rows up to each, in parts that are worth a thread each."""
    most = int(rows[-1]) * width // _WORTH_A_THREAD if len(rows) else 0
    parts = max(1, min(thread_count(), most))
    cuts = np.searchsorted(rows, rows[-1] * np.arange(1, parts) / parts).tolist() if parts > 1 else []
    return [slice(*cut) for cut in pairwise([0, *cuts, len(rows)])]


def _reference_best(lookup: Lookup, codes: Array, starts: Array, stops: Array) -> Array:
    best = np.full((len(starts), lookup.tables.shape[2]), -np.inf, np.float32)
    for documents, rows, offsets in row_blocks(starts, stops):
        block = codes[rows]
        first = 0
        values = np.zeros((len(block), lookup.tables.shape[2]), np.float32)
        if lookup.centroids is not None and lookup.slots is not None:
            values += lookup.centroids[lookup.slots[centroid_numbers(block)]]
            first = 2
        for group, table in enumerate(lookup.tables):
            values += table[block[:, first + group]]
        if lookup.shift is not None:
            values += np.repeat(lookup.shift[documents], np.diff(offsets, append=len(block)), axis=0)
        if lookup.scales is not None:
            values *= lookup.scales[block[:, -1]][:, None]
        best[documents] = np.maximum(best[documents], np.maximum.reduceat(values, offsets, axis=0))
    return best


def best_from_vectors(
    decode: Callable[[Array], Array], queries: Sequence[Array], codes: Array, starts: Array, stops: Array
) -> list[Array]:
    """The same by decoding blocks ``[n, B]`` to ``[n, D]`` float32 and multiplying: for codes of many bytes a token.

    Of several matrices of query tokens ``[P, D]``, each of which is multiplied by itself.
    """
    found = [np.full((len(starts), len(one)), -np.inf, np.float32) for one in queries]
    fast = compiled_kernels()
    columns = [np.ascontiguousarray(one.T) for one in queries]
    for documents, rows, offsets in row_blocks(starts, stops, BLOCK_ROWS // 4):
        vectors = decode(codes[rows])
        cuts = [*pairwise([*offsets.tolist(), len(vectors)])]
        for transposed, best in zip(columns, found, strict=True):
            values = np.empty((len(vectors), best.shape[1]), np.float32)
            # One product a document: BLAS rounds a row by its place in the matrix, so in a product of the whole block a
            # document's scores would depend on its neighbours, and change when the index is optimized.
            for start, stop in cuts:
                np.matmul(vectors[start:stop], transposed, out=values[start:stop])
            if fast is not None:
                fast.segment_best(frozen(values), frozen(offsets), frozen(documents), best)
            else:
                _count(values.size)
                best[documents] = np.maximum(best[documents], np.maximum.reduceat(values, offsets, axis=0))
    return found


def exact_products(
    rows: Array, columns: Sequence[Array], used: Array | None = None, longest: float = 1.0
) -> list[Array]:
    """Products ``[n, P]`` float32 that do not depend on where a row stands, as those of BLAS do in their last bits.

    They are of whole numbers of 16 bits, which add up without any error in whatever order: those of two vectors that
    are no longer than 32767 stay below 2^31 in int32, and below 2^53 in float64. Off by some 1e-5 of the longest row
    times the column's length.

    Args:
        rows: ``[N, D]`` float32, or float16 to be widened.
        columns: ``[D, P]`` float32 each; the products are a list of as many. Columns of zeros may follow at the end.
        used: ``[n]`` int64, which of the rows; all when None.
        longest: No row is longer.
    """
    rounded = [rounded_columns(one, longest) for one in columns]
    asked, scale = (np.concatenate(parts, axis=-1) for parts in zip(*rounded, strict=True))
    steps = np.float32(STEPS / longest)
    products = np.empty((len(rows) if used is None else len(used), len(scale)), np.float32)
    fast = compiled_kernels()
    side_by_side = None if fast is None else frozen(fast.side_by_side(asked))

    # NumPy's blocks stay in the cache; the kernels have blocks of their own.
    step = 512 if fast is None else max(512, -(-len(products) // thread_count()))

    def multiply(start: int) -> None:
        part, out = slice(start, start + step), products[start : start + step]
        if fast is not None and used is not None and rows.dtype == np.float16:
            fast.rounded_float16_products(
                frozen(rows.view(np.uint16)), frozen(used[part]), steps, side_by_side, frozen(scale), out
            )
            return
        block = (rows[part] if used is None else rows[used[part]]).astype(np.float32, copy=False)
        if fast is not None:
            fast.rounded_products(frozen(block), steps, side_by_side, frozen(scale), out)
        else:
            out[:] = np.rint(block * steps).astype(np.float64) @ asked
            out *= scale

    in_threads(multiply, range(0, len(products), step))
    found, start = [], 0
    for one, (_, scales) in zip(columns, rounded, strict=True):
        own = np.zeros((len(products), one.shape[1]), np.float32)
        stop = start + len(scales)
        own[:, : stop - start] = products[:, start:stop]
        found.append(own)
        start = stop
    return found


def rounded_columns(columns: Array, longest: float) -> tuple[Array, Array]:
    """Columns as whole numbers ``[D, F]`` float64, and what their products are to be multiplied with ``[F]``.

    Up to the last column that is not all zeros. Each matrix is rounded by itself, as how NumPy adds squares up depends
    on how many columns there are.
    """
    filled = int(np.flatnonzero(columns.any(axis=0)).max(initial=-1)) + 1
    wide = columns.astype(np.float64)
    widest = np.linalg.norm(wide, axis=0)[:filled]
    widest[widest == 0] = 1
    scales = np.float32(longest / STEPS**2) * widest.astype(np.float32)
    return np.rint(wide[:, :filled] * (STEPS / widest)), scales


def int8_as_float32(codes: Array) -> Array:
    """int8 numbers that lie in uint8 rows, as float32 of the same shape."""
    fast = compiled_kernels()
    numbers = np.ascontiguousarray(codes).view(np.int8)
    if fast is None:
        return numbers.astype(np.float32)
    wide = np.empty(numbers.shape, np.float32)
    fast.int8_to_float32(frozen(numbers), wide)
    return wide


def centroid_numbers(codes: Array) -> Array:
    """The little-endian number in the first two bytes of each code, ``[T]`` int64."""
    numbers: Array = codes[:, 0].astype(np.int64) | (codes[:, 1].astype(np.int64) << 8)
    return numbers


def used_centroids(codes: Array, starts: Array, stops: Array) -> Array:
    """The centroid numbers that occur in the rows asked for, ascending."""
    used = np.zeros(65536, np.bool_)
    fast = compiled_kernels()
    if fast is not None:
        fast.mark_used(frozen(codes), frozen(starts), frozen(stops), used)
    else:
        for _, rows, _ in row_blocks(starts, stops):
            used[centroid_numbers(codes[rows])] = True
    return used.nonzero()[0]


def row_blocks(starts: Array, stops: Array, rows: int = BLOCK_ROWS) -> Iterator[tuple[Array, Array | slice, Array]]:
    """Cut row ranges into blocks of at most ``rows`` rows; a long document is cut too.

    Yields:
        Documents of the block, ``[n]``; its rows (a slice where they are consecutive); where each document's rows start
        within the block, ``[n]`` int64.
    """
    lengths = stops - starts
    pieces = np.maximum(-(-lengths // rows), 0)
    owners = np.repeat(np.arange(len(starts)), pieces)
    number = np.arange(len(owners)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begin = starts[owners] + number * rows
    length = np.minimum(stops[owners], begin + rows) - begin
    ends = np.cumsum(length)
    left = 0
    while left < len(owners):
        before = ends[left - 1] if left else 0
        right = max(left + 1, int(np.searchsorted(ends, before + rows, side="right")))
        offsets = ends[left:right] - length[left:right] - before
        if (begin[left + 1 : right] == begin[left : right - 1] + length[left : right - 1]).all():
            chosen: Array | slice = slice(int(begin[left]), int(begin[right - 1] + length[right - 1]))
        else:
            chosen = np.repeat(begin[left:right] - offsets, length[left:right]) + np.arange(ends[right - 1] - before)
        yield owners[left:right], chosen, offsets
        left = right


# -- loading the compiled kernels ----------------------------------------------------------------------------------

_lock = ForkLock()
_done = 0
_thread: threading.Thread | None = None
_kernels: ModuleType | None = None


def compiled_kernels() -> ModuleType | None:
    """The Numba kernels, or None where they are not loaded (yet)."""
    return _kernels


def load_kernels() -> ModuleType | None:
    """Load them now; None where Numba is not installed."""
    global _kernels
    if _kernels is None and importlib.util.find_spec("numba") is not None:
        kernels = importlib.import_module(".kernels_numba", __package__)
        _compile(kernels)
        _kernels = kernels
    return _kernels


def _count(products: int) -> None:
    """Note work that was done in NumPy; beyond :data:`PATIENCE` the kernels are loaded in the background."""
    global _done, _thread
    if _kernels is not None or _thread is not None:
        return
    with _lock.held:
        _done += products
        if _done > PATIENCE and _thread is None:
            _thread = threading.Thread(target=_load_in_background, name="smart-kernels")
            _thread.start()


def _load_in_background() -> None:
    try:
        load_kernels()
    except Exception as error:  # a broken installation must not cost the searches, which go on without
        warnings.warn(f"Numba cannot be used, searches go on in NumPy: {error}", SmartWarning, stacklevel=1)


def _compile(kernels: ModuleType) -> None:
    """Call every kernel with the types that it will be called with: each compiles, or loads, when first called."""
    codes, numbers = np.zeros((1, 4), np.uint8), np.zeros(0, np.int64)
    floats, best = np.zeros((1, 8), np.float32), np.zeros((0, 8), np.float32)
    lookup = (np.zeros((1, 256, 8), np.float32), floats, np.zeros(1, np.int32), np.zeros(256, np.float32), floats)
    kernels.best_from_tables(*(frozen(part) for part in (codes, numbers, numbers, *lookup)), best)
    kernels.mark_used(frozen(codes), frozen(numbers), frozen(numbers), np.zeros(1, np.bool_))
    kernels.segment_best(frozen(floats), frozen(numbers), frozen(numbers), best)
    kernels.int8_to_float32(frozen(np.zeros((0, 8), np.int8)), best)
    halves, one = frozen(np.zeros((1, 8), np.int16)), np.float32(1)
    kernels.int8_products(frozen(np.zeros((1, 8), np.int8)), halves[0], one, one, np.zeros(1, np.float32))
    asked = frozen(kernels.side_by_side(np.zeros((8, 8))))
    kernels.rounded_products(frozen(best), one, asked, frozen(floats[0]), best)
    kernels.rounded_float16_products(
        frozen(halves.view(np.uint16)), frozen(numbers), one, asked, frozen(floats[0]), best
    )
