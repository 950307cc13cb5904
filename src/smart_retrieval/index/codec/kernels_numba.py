"""The compiled kernels of ``kernels.py``. Imported only where Numba is installed (extra ``fast``).

Sums run over query tokens side by side, so that they compile to vector instructions without reordering any sum: results
equal the reference bit for bit. Compiled code is cached beside this file (or in NUMBA_CACHE_DIR); no lock is held.
"""
# mypy: disable-error-code="untyped-decorator, call-arg"

from __future__ import annotations

import numpy as np
from numba import njit

from ...core.maxsim.kernels_numba import LANES, fetch_ahead, from_half, tile
from ...types import Array

# Rows that are rounded and multiplied together: they stay in the first-level cache. A multiple of the tile's 12.
_ROWS = 48
# float16 numbers of a cache line.
_LINE = 32


@njit(cache=True, nogil=True)
def _best_of_default(
    codes: Array,
    starts: Array,
    stops: Array,
    tables: Array,
    centroids: Array,
    slots: Array,
    scales: Array,
    shift: Array,
    best: Array,
) -> None:
    """The same for ``anchored+3vq+norm``, two rows at a time: sums stay in registers, in half the time."""
    width, last = best.shape[1], codes.shape[1] - 1
    for document in range(len(starts)):
        top, extra, stop = best[document], shift[document], stops[document]
        for row in range(starts[document], stop, 2):
            one, two = codes[row], codes[min(row + 1, stop - 1)]
            for later in (codes[min(row + 8, stop - 1)], codes[min(row + 9, stop - 1)]):
                place = slots[np.int64(later[0]) | (np.int64(later[1]) << 8)]
                for q in range(0, width, 16):
                    fetch_ahead(centroids, place, q)
            s = centroids[slots[np.int64(one[0]) | (np.int64(one[1]) << 8)]]
            a, b, c = tables[0, one[2]], tables[1, one[3]], tables[2, one[4]]
            t = centroids[slots[np.int64(two[0]) | (np.int64(two[1]) << 8)]]
            d, e, f = tables[0, two[2]], tables[1, two[3]], tables[2, two[4]]
            scale, other = scales[one[last]], scales[two[last]]
            for q in range(width):
                first = ((((s[q] + a[q]) + b[q]) + c[q]) + extra[q]) * scale
                second = ((((t[q] + d[q]) + e[q]) + f[q]) + extra[q]) * other
                top[q] = max(max(top[q], first), second)


@njit(cache=True, nogil=True)
def best_from_tables(
    codes: Array,
    starts: Array,
    stops: Array,
    tables: Array,
    centroids: Array,
    slots: Array,
    scales: Array,
    shift: Array,
    best: Array,
) -> None:
    """Fill ``best`` ``[N, P]`` (given as -inf); see :func:`.kernels.best_from_tables`."""
    width, groups = best.shape[1], tables.shape[0]
    has_centroid, has_scale, has_shift = len(slots) > 0, len(scales) > 0, len(shift) > 0
    first = 2 if has_centroid else 0
    last = codes.shape[1] - 1
    if groups == 3 and has_centroid and has_scale and has_shift:
        _best_of_default(codes, starts, stops, tables, centroids, slots, scales, shift, best)
        return
    sums = np.zeros(width, np.float32)
    for document in range(len(starts)):
        top = best[document]
        for row in range(starts[document], stops[document]):
            if has_centroid:
                start = centroids[slots[np.int64(codes[row, 0]) | (np.int64(codes[row, 1]) << 8)]]
                for q in range(width):
                    sums[q] = start[q]
            else:
                for q in range(width):
                    sums[q] = 0.0
            group = 0
            while group + 4 <= groups:
                a = tables[group, codes[row, first + group]]
                b = tables[group + 1, codes[row, first + group + 1]]
                c = tables[group + 2, codes[row, first + group + 2]]
                d = tables[group + 3, codes[row, first + group + 3]]
                for q in range(width):
                    sums[q] = (((sums[q] + a[q]) + b[q]) + c[q]) + d[q]
                group += 4
            while group < groups:
                a = tables[group, codes[row, first + group]]
                for q in range(width):
                    sums[q] += a[q]
                group += 1
            if has_scale:
                scale = scales[codes[row, last]]
                if has_shift:
                    extra = shift[document]
                    for q in range(width):
                        top[q] = max(top[q], (sums[q] + extra[q]) * scale)
                else:
                    for q in range(width):
                        top[q] = max(top[q], sums[q] * scale)
            else:
                for q in range(width):
                    top[q] = max(top[q], sums[q])
        if has_shift and not has_scale:
            # Rounding is monotonic, so adding after the maximum gives the same bits as before it.
            extra = shift[document]
            for q in range(width):
                top[q] += extra[q]


@njit(cache=True, nogil=True)
def segment_best(values: Array, offsets: Array, documents: Array, best: Array) -> None:
    """Raise ``best[documents[i]]`` to the maximum over rows ``offsets[i]:offsets[i + 1]`` of ``values``."""
    for i in range(len(offsets)):
        top = best[documents[i]]
        stop = offsets[i + 1] if i + 1 < len(offsets) else len(values)
        for row in range(offsets[i], stop):
            line = values[row]
            for q in range(values.shape[1]):
                top[q] = max(top[q], line[q])


@njit(cache=True, nogil=True)
def mark_used(codes: Array, starts: Array, stops: Array, used: Array) -> None:
    """Mark the centroid numbers of the rows asked for."""
    for document in range(len(starts)):
        for row in range(starts[document], stops[document]):
            used[np.int64(codes[row, 0]) | (np.int64(codes[row, 1]) << 8)] = True


@njit(cache=True, nogil=True)
def int8_to_float32(values: Array, wide: Array) -> None:
    """Copy int8 ``values`` into float32 ``wide``."""
    for i in range(values.shape[0]):
        line, target = values[i], wide[i]
        for d in range(values.shape[1]):
            target[d] = np.float32(line[d])


@njit(cache=True, nogil=True)
def int8_products(rows: Array, asked: Array, factor: Array, offset: Array, out: Array) -> None:
    """Products of int8 rows with an int16 vector, each exact if it and its parts fit into 31 bits, scaled and moved."""
    for i in range(len(rows)):
        row, total = rows[i], np.int32(0)
        for d in range(len(asked)):
            # Numba would go on in 64 bits, at several times the time; products of 16 bits have an instruction.
            total = np.int32(total + np.int32(np.int16(row[d])) * np.int32(asked[d]))
        out[i] = np.float32(total) * factor + offset


def side_by_side(columns: Array) -> Array:
    """Whole numbers ``[D, P]`` as the kernels take them: int16 ``[G, K, 2 * LANES]``, two of a column to a word."""
    depth, width = columns.shape
    words = np.zeros((-(-width // LANES) * LANES, depth + depth % 2), np.int16)
    words[:width, :depth] = columns.T
    pairs = words.reshape(-1, LANES, words.shape[1] // 2, 2).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(pairs).reshape(len(pairs), pairs.shape[1], 2 * LANES)


@njit(cache=True, nogil=True)
def _products(halves: Array, asked: Array, scales: Array, out: Array) -> None:
    """Products of int16 rows with int16 columns, each exact if it and its parts fit into 31 bits, by their scales."""
    rows, depth = len(out), asked.shape[1]
    sums = np.empty((_ROWS, LANES), np.int32)
    for group in range(len(asked)):
        sums[:] = 0
        for row in range(0, rows, 12):
            tile(halves, row, 0, depth, (asked[group],), sums, row)
        first = group * LANES
        for i in range(rows):
            target, values = out[i], sums[i]
            for q in range(min(LANES, len(scales) - first)):
                target[first + q] = np.float32(values[q]) * scales[first + q]


@njit(cache=True, nogil=True)
def rounded_products(rows: Array, steps: Array, asked: Array, scales: Array, out: Array) -> None:
    """See :func:`.kernels.exact_products`: ``asked`` are the columns :func:`side_by_side`."""
    halves = np.zeros((_ROWS, 2 * asked.shape[1]), np.int16)
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        for i in range(len(block)):
            line, target = block[i], halves[i]
            for d in range(len(line)):
                target[d] = np.int16(np.rint(line[d] * steps))
        _products(halves, asked, scales, out[start : start + _ROWS])


@njit(cache=True, nogil=True)
def rounded_float16_products(table: Array, rows: Array, steps: Array, asked: Array, scales: Array, out: Array) -> None:
    """The same of some rows of a float16 table, given as uint16, which lie here and there in it."""
    halves, last = np.zeros((_ROWS, 2 * asked.shape[1]), np.int16), len(rows) - 1
    for start in range(0, len(rows), _ROWS):
        chosen = rows[start : start + _ROWS]
        for i in range(len(chosen)):
            for d in range(0, table.shape[1], _LINE):
                fetch_ahead(table, rows[min(last, start + i + _ROWS)], d)
            line, target = table[chosen[i]], halves[i]
            for d in range(len(line)):
                target[d] = np.int16(np.rint(from_half(line[d]) * steps))
        _products(halves, asked, scales, out[start : start + _ROWS])
