"""Scores from look-up tables: the NumPy reference, and the choice between it and the compiled kernel.

A code is a centroid number (2 bytes, optional), G table bytes and a length byte (optional). The similarity of query
token q with it is ``(centroid[number, q] + sum_g tables[g, byte_g, q] + shift[document, q]) * scale[byte]``, summed in
this order in float32; the result is the maximum over the document's rows. (Look-up tables for products with quantised
vectors: Jegou, Douze, Schmid, "Product quantization for nearest neighbor search", 2011; here with all query tokens side
by side, so that one row of a table serves them all in a few vector instructions.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ...types import Array
from .compiled import compiled_kernels, count, load_kernels

#: Rows of an intermediate block; 8192 x 64 query tokens of float32 take 2 MiB.
BLOCK_ROWS = 8192


@dataclass(frozen=True)
class Lookup:
    """The tables of one query tile of P query tokens.

    Attributes:
        tables: ``[G, 256, P]`` float32 partial products.
        shift: ``[N, P]`` float32 added to every row of a document, or None.
        centroids: ``[K, P]`` float32 products with centroids, or None when codes begin with the table bytes.
        slots: ``[65536]`` int32, row of ``centroids`` of a centroid number.
        scales: ``[256]`` float32 factors of the last byte, or None.
    """

    tables: Array
    shift: Array | None = None
    centroids: Array | None = None
    slots: Array | None = None
    scales: Array | None = None


def best_from_tables(
    lookup: Lookup, codes: Array, starts: Array, stops: Array, *, compiled: bool | None = None
) -> Array:
    """Best similarity of each document and query token, ``[N, P]`` float32, ``-inf`` for empty documents.

    Args:
        lookup: The tables.
        codes: ``[R, B]`` uint8.
        starts: ``[N]`` int64 first rows.
        stops: ``[N]`` int64 rows behind the last.
        compiled: Use the Numba kernel; None: once it is loaded. Both give the same bits.
    """
    fast = compiled_kernels() if compiled is None else load_kernels() if compiled else None
    if fast is None:
        count(int((stops - starts).sum()) * lookup.tables.shape[2])
        return reference_best(lookup, codes, starts, stops)
    width = lookup.tables.shape[2]
    best = np.full((len(starts), width), -np.inf, np.float32)
    none = np.zeros((0, width), np.float32)
    fast.best_from_tables(
        *(frozen(part) for part in (codes, starts, stops, lookup.tables)),
        frozen(none if lookup.centroids is None else lookup.centroids),
        frozen(np.zeros(0, np.int32) if lookup.slots is None else lookup.slots),
        frozen(np.zeros(0, np.float32) if lookup.scales is None else lookup.scales),
        frozen(none if lookup.shift is None else lookup.shift),
        best,
    )
    return best


def reference_best(lookup: Lookup, codes: Array, starts: Array, stops: Array) -> Array:
    """The same in plain NumPy; the definition that the compiled kernel is tested against."""
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


def best_from_vectors(decode: Any, queries: Array, codes: Array, starts: Array, stops: Array) -> Array:
    """Best similarities by decoding bounded blocks to float32 and multiplying: for codes of many bytes a token.

    Args:
        decode: Turns ``[n, B]`` codes into ``[n, D]`` float32.
        queries: ``[P, D]`` float32.
        codes: ``[R, B]`` uint8.
        starts: ``[N]`` int64 first rows.
        stops: ``[N]`` int64 rows behind the last.

    Returns:
        ``[N, P]`` float32, ``-inf`` for empty documents.
    """
    best = np.full((len(starts), len(queries)), -np.inf, np.float32)
    fast = compiled_kernels()
    transposed = np.ascontiguousarray(queries.T)
    for documents, rows, offsets in row_blocks(starts, stops, BLOCK_ROWS // 4):
        vectors = decode(codes[rows])
        values = np.empty((len(vectors), len(queries)), np.float32)
        # One product a document: BLAS rounds a row by its place in the matrix, so in a product of the whole block a
        # document's scores would depend on its neighbours, and change when the index is optimized.
        for start, stop in pairwise([*offsets.tolist(), len(vectors)]):
            np.matmul(vectors[start:stop], transposed, out=values[start:stop])
        if fast is not None:
            fast.segment_best(frozen(values), frozen(offsets), frozen(documents), best)
        else:
            count(values.size)
            best[documents] = np.maximum(best[documents], np.maximum.reduceat(values, offsets, axis=0))
    return best


def exact_products(rows: Array, columns: Array) -> Array:
    """Products ``[n, P]`` float32 that do not depend on where a row stands, as those of BLAS do in their last bits.

    Rounded to grids of 2^-22 and 2^-27 (of the longest column), the products lie on a grid of 2^-49, where float64 adds
    up to 2^53 steps without any error, in whatever order.

    Args:
        rows: ``[n, D]`` float32, of at most unit length.
        columns: ``[D, P]`` float32.
    """
    longest = np.linalg.norm(columns.astype(np.float64), axis=0).max(initial=0.0)
    grid = np.ldexp(1.0, int(np.frexp(longest)[1]) - 27)
    exact = np.rint(columns / grid) * grid
    products = np.empty((len(rows), columns.shape[1]), np.float32)
    for start in range(0, len(rows), 512):  # blocks that stay in the cache
        # Neighbouring float32 numbers from 2 to 4 are 2^-22 apart.
        rounded = (rows[start : start + 512] + np.float32(3)) - np.float32(3)
        products[start : start + 512] = rounded.astype(np.float64) @ exact
    return products


def gathered_halves(table: Array, rows: Array) -> Array:
    """Rows of a float16 table as float32, ``[n, D]``; NumPy's own conversion takes several times as long."""
    fast = compiled_kernels()
    if fast is None:
        return table[rows].astype(np.float32)
    bits = np.empty((len(rows), table.shape[1]), np.uint32)
    fast.gather_halves(frozen(table.view(np.uint16)), frozen(rows), bits)
    values: Array = bits.view(np.float32)
    values *= np.float32(2.0**112)
    return values


def widened(codes: Array) -> Array:
    """int8 numbers that lie in uint8 rows, as float32 of the same shape."""
    fast = compiled_kernels()
    numbers = np.ascontiguousarray(codes).view(np.int8)
    if fast is None:
        return numbers.astype(np.float32)
    wide = np.empty(numbers.shape, np.float32)
    fast.widen(frozen(numbers), wide)
    return wide


def centroid_numbers(codes: Array) -> Array:
    """The little-endian number in the first two bytes of each code, ``[T]`` int64."""
    numbers: Array = codes[:, 0].astype(np.int64) | (codes[:, 1].astype(np.int64) << 8)
    return numbers


def used_centroids(codes: Array, starts: Array, stops: Array) -> Array:
    """Which centroid numbers occur in the rows asked for, ``[65536]`` bool."""
    used = np.zeros(65536, np.bool_)
    fast = compiled_kernels()
    if fast is not None:
        fast.mark_used(frozen(codes), frozen(starts), frozen(stops), used)
    else:
        for _, rows, _ in row_blocks(starts, stops):
            used[centroid_numbers(codes[rows])] = True
    return used


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


def frozen(array: Array) -> Array:
    """A contiguous read-only view, so that a kernel is compiled once, for memory-mapped and plain arrays alike."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
