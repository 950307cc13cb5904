"""When and how the compiled kernels of ``kernels_numba.py`` take over from NumPy.

Loading them takes half a second (compiling them once, a few), so a process that scores little never does. They are used
in a precision that the processor has instructions for, where a short trial finds them equal to NumPy and faster.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ...errors import SmartWarning
from ...locks import ForkLock
from ...threads import thread_count
from ...types import Array
from ..vectors import frozen
from .precision import Precision, RoundedRows, float32_rows

#: Products of two numbers that a process leaves to NumPy before it loads the kernels: about a quarter of a second.
PATIENCE = 4_000_000_000
# Bytes of document rows that are held in another form than they came in: they stay in a second-level cache.
_CACHED = 2**19
# Products below which a second thread is not worth its start.
_THREAD_WORK = 20_000_000

# Query tokens side by side in one or two vectors, and what is to be taken off their products.
_Group = tuple[tuple[Array, ...], Array]

_lock = ForkLock()
_done = 0
_kernels: Any = None
_settled: dict[str, bool] = {}  # whether the kernels are used, by precision


def usable(precision: Precision, products: int) -> Precision | None:
    """The precision in which kernels make so many more products of this one: itself, else float32; None for NumPy."""
    global _done
    wanted = dict.fromkeys((precision, "float32"))
    with _lock.held:
        _done += products
        use = load if _done >= PATIENCE else lambda name: _settled.get(name, False)
        return next((name for name in wanted if use(name)), None)


def load(precision: Precision) -> bool:
    """Load the kernels and try them, once; whether they are used in this precision."""
    global _kernels
    with _lock.held:
        if precision not in _settled:
            _settled[precision] = False
            if importlib.util.find_spec("numba") is not None:
                try:
                    _kernels = importlib.import_module(".kernels_numba", __package__)
                    _settled[precision] = _kernels.has_unit(precision) and _wins(precision)
                except Exception as error:  # a broken installation must not cost the scores
                    text = f"Numba cannot be used for {precision}, scoring goes on in NumPy: {error}"
                    warnings.warn(text, SmartWarning, stacklevel=2)
        return _settled[precision]


def _wins(precision: Precision) -> bool:
    rng = np.random.default_rng(0)
    rows, tokens = (rng.standard_normal((n, 128), np.float32) for n in (2048, 32))
    offsets = np.arange(0, 2049, 128)
    wide, asked = float32_rows(rows, precision), float32_rows(tokens, precision)

    def own() -> Array:
        return best_products(tokens, rows, offsets, precision)

    def reference() -> Array:
        products: Array = np.maximum.reduceat(asked @ wide.T, offsets[:-1], axis=1)
        return products

    expected = reference()
    if not np.allclose(own(), expected, rtol=0, atol=1e-5 * np.abs(expected).max()):
        raise ValueError("its products differ from NumPy's")
    best_products(tokens[:1], rows.astype(np.float16), offsets, precision)  # compiles the rest
    return precision != "float32" or _fastest(own) < _fastest(reference)


def _fastest(call: Callable[[], object]) -> float:
    times = []
    for _ in range(7):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def best_products(tokens: Array, rows: Array | RoundedRows, offsets: Array, precision: Precision) -> Array:
    """For each query token and document the largest product, ``[Tq, Nd]`` float32, ``-inf`` for empty documents.

    The same to the bit for any split of the documents among calls and threads. Where there is work for several threads
    there are as many as BLAS would start: OMP_NUM_THREADS, else the processors that this process may use.
    """
    best = np.full((len(offsets) - 1, len(tokens)), -np.inf, np.float32)
    if best.size and len(rows):
        groups, steps = _side_by_side(tokens, precision)
        threads = max(1, min(thread_count(), len(rows) * tokens.size // _THREAD_WORK))
        cuts = np.unique(offsets[np.searchsorted(offsets, np.arange(threads + 1) * len(rows) // threads)]).tolist()

        def run(start: int, stop: int) -> None:
            for first, words, scales in _document_words(rows, start, stop, precision):
                _score(first, words, scales, offsets, groups, best)

        if len(cuts) == 2:
            run(*cuts)
        else:
            with ThreadPoolExecutor(len(cuts) - 1) as pool:
                list(pool.map(run, cuts[:-1], cuts[1:]))
        if precision == "int8":
            np.multiply(best, steps, out=best, where=np.isfinite(best))  # -inf times 0 is no number
    return best.T


def round_rows(vectors: Array, into: RoundedRows) -> None:
    """What :meth:`RoundedRows.take` does, faster."""
    values = _float32(vectors)
    bits = frozen(values.view(np.uint32))
    if into.precision == "bfloat16":
        _kernels.to_bfloat16(bits, into.numbers)
    else:
        line = np.empty(into.dim, np.float32)
        _kernels.to_int8(frozen(values), bits, into.numbers, into.steps, line, line.view(np.uint32))


def _side_by_side(tokens: Array, precision: Precision) -> tuple[list[_Group], Array]:
    lanes = _kernels.LANES
    padded = np.zeros((-(-len(tokens) // lanes) * lanes, tokens.shape[1]), np.float32)
    padded[: len(tokens)] = tokens
    words, less, steps = padded, np.zeros(len(padded), np.int32), np.zeros(0, np.float32)
    if precision != "float32":
        rounded = RoundedRows.of(padded, precision)
        numbers, steps = rounded.numbers, rounded.steps[: len(tokens)]
        if precision == "int8":
            # Documents' numbers are 128 too large, as instructions want one side without a sign.
            numbers[:, : rounded.dim] ^= 128
            less = numbers.view(np.int8).sum(axis=1, dtype=np.int32) * 128
        words = numbers.view(np.int32)
    vectors = [np.ascontiguousarray(words[i : i + lanes].T) for i in range(0, len(words), lanes)]
    groups = []
    for i in range(0, len(vectors), 2):
        group = tuple(vectors[i : i + 2])
        groups.append((group, less[i * lanes : (i + len(group)) * lanes]))
    return groups, steps


def _score(first: int, words: Array, scales: Array, offsets: Array, groups: list[_Group], best: Array) -> None:
    kind = np.int32 if len(scales) else np.float32
    for number, (group, less) in enumerate(groups):
        sums = np.empty((_kernels.ROWS, _kernels.LANES * len(group)), kind)
        column = number * 2 * _kernels.LANES
        _kernels.raise_best(frozen(words), first, offsets, group, scales, less, sums, best, column)


def _document_words(
    rows: Array | RoundedRows, start: int, stop: int, precision: Precision
) -> Iterator[tuple[int, Array, Array]]:
    """Document rows as the kernel takes them: the first one's number, their words, their steps."""
    none = np.zeros(0, np.float32)
    if isinstance(rows, RoundedRows):
        yield start, rows.numbers[start:stop].view(np.int32), rows.steps[start:stop]
    elif precision == "float32" and rows.dtype == np.float32:
        yield start, rows[start:stop], none
    else:
        count = max(1, _CACHED // (4 * max(1, rows.shape[1]) * _kernels.ROWS)) * _kernels.ROWS
        if precision != "float32":
            room = RoundedRows.empty(min(count, stop - start), rows.shape[1], precision)
        for first in range(start, stop, count):
            block = rows[first : min(stop, first + count)]
            if precision == "float32":
                yield first, _float32(block), none
            else:
                round_rows(block, own := room[: len(block)])
                yield first, own.numbers.view(np.int32), own.steps


def _float32(block: Array) -> Array:
    if block.dtype != np.float16:
        return np.ascontiguousarray(block, np.float32)
    values = np.empty(block.shape, np.float32)
    _kernels.from_float16(frozen(block.view(np.uint16)), values)
    return values
