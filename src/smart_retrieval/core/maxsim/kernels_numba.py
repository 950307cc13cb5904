"""The compiled kernels of ``kernels.py``. Imported only where Numba is installed (extra ``fast``).

A product of document rows with query tokens is made in tiles that stay in registers: a few rows by two vectors of query
tokens, word after word of the depth. Every sum runs in the same order whatever the tile, the block or the thread, so
results do not depend on them, to the bit; BLAS, of which several calls would be needed, rounds a row by its place in
the matrix and is slower at matrices this narrow. The tile is written for LLVM (``numba.extending.intrinsic``), because
a loop in Python leaves the sums in memory.
"""
# Numba is typed in part, and wrongly for intrinsics.
# mypy: disable-error-code="untyped-decorator, no-untyped-call, attr-defined, call-arg"

from __future__ import annotations

import platform
from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding, ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ...types import Array

#: What the processor says it has, or what the user tells Numba of another one.
FEATURES: dict[str, bool] = (
    {name[1:]: name[0] == "+" for name in (config.CPU_FEATURES or "").split(",") if name}
    if config.CPU_NAME or config.CPU_FEATURES
    else binding.get_host_cpu_features()
)
#: float32 numbers of one vector of query tokens.
LANES = 16 if FEATURES.get("avx512f") else 8
#: Rows of products that are kept until their maximum is taken.
ROWS = 384
# Most words of the depth that are summed up before they are added to the sum of those before: query tokens stay in a
# first-level cache, and sums over many dimensions stay exact.
_DEPTH = 256

_i16, _i32, _i64, _f32 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()


class _BFloat(ir.types.Type):  # type: ignore[misc]
    """LLVM's bfloat, for which llvmlite has no name."""

    def _to_string(self) -> str:
        return "bfloat"


class _Unit(NamedTuple):
    """What multiplies words of 32 bits and adds them up: LLVM's name of it, its operands and sums."""

    name: str  # empty where no instruction is named
    operand: Any
    sums: Any


def _vector(kind: Any, lanes: int = LANES) -> Any:
    return ir.VectorType(kind, lanes)


_UNITS = {
    "float32": _Unit(f"llvm.fma.v{LANES}f32", _vector(_f32), _vector(_f32)),
    "bfloat16": _Unit("llvm.x86.avx512bf16.dpbf16ps.512", _vector(_BFloat(), 2 * LANES), _vector(_f32)),
    "int8": _Unit("llvm.x86.avx512.vpdpbusd.512", _vector(_i32), _vector(_i32)),
    # Multiplies only, and compilers make one of it and the addition where a processor has that.
    "int16": _Unit(
        "llvm.x86.avx512.pmaddw.d.512"
        if FEATURES.get("avx512bw") and LANES == 16
        else "llvm.x86.avx2.pmadd.wd"
        if FEATURES.get("avx2") and LANES == 8
        else "",
        _vector(_i16, 2 * LANES),
        _vector(_i32),
    ),
}
# Instructions that a processor lacks must never reach the compiler, which would end the process.
_NEEDED = {"float32": "fma", "bfloat16": "avx512bf16", "int8": "avx512vnni"}


def has_unit(precision: str) -> bool:
    """Whether this processor multiplies such numbers and adds them in one instruction."""
    if precision == "float32" and platform.machine().lower() in ("arm64", "aarch64"):
        return True
    return bool(FEATURES.get(_NEEDED[precision])) and (precision == "float32" or LANES == 16)


def _added(builder: Any, unit: _Unit, own: Any, asked: Any, sums: Any) -> Any:
    """The products of two vectors of words, added to sums."""

    def call(*operands: Any) -> Any:
        shape = ir.FunctionType(unit.sums, [one.type for one in operands])
        return builder.call(cgutils.get_or_insert_function(builder.module, shape, unit.name), operands)

    if unit is _UNITS["float32"]:
        return call(own, asked, sums)
    if unit is not _UNITS["int16"]:
        return call(sums, own, asked)
    if unit.name:
        return builder.add(sums, call(own, asked))
    for half in range(2):
        places = ir.Constant(_vector(_i32), list(range(half, 2 * LANES, 2)))
        parts = [builder.sext(builder.shuffle_vector(one, one, places), unit.sums) for one in (own, asked)]
        sums = builder.add(sums, builder.mul(*parts))
    return sums


def _fetch(builder: Any, place: Any) -> None:
    """Prefetch the cache line of a pointer, to be read and kept."""
    pointer = ir.IntType(8).as_pointer()
    shape = ir.FunctionType(ir.VoidType(), [pointer, _i32, _i32, _i32])
    prefetch = cgutils.get_or_insert_function(builder.module, shape, "llvm.prefetch.p0")
    builder.call(prefetch, [builder.bitcast(place, pointer), _i32(0), _i32(3), _i32(1)])


@intrinsic
def tile(_: Any, words: Any, row: Any, start: Any, stop: Any, queries: Any, sums: Any, at: Any) -> Any:
    """Add products of ``12 / V`` rows with V vectors of query tokens, over words ``start:stop``, to rows of ``sums``.

    V is the length of the tuple ``queries``; words and sums are both floats, or words of bfloat16 (float sums) or int8
    (integer sums). Of int16 (integer sums) both are given as such, two to a word.

    Compiled into the kernels that call it, those of ``index/codec`` too, which Numba keeps until their file changes.
    """
    vectors = len(queries)
    rows = 12 // vectors
    halves = 2 if words.dtype == types.int16 else 1
    exact = "int16" if halves == 2 else "int8" if sums.dtype == types.int32 else "bfloat16"
    unit = _UNITS["float32" if words.dtype == types.float32 else exact]

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kinds = signature.args
        matrix = context.make_array(kinds[0])(context, builder, values[0])
        target = context.make_array(kinds[5])(context, builder, values[5])
        tokens = [
            context.make_array(kinds[4].dtype)(context, builder, one)
            for one in cgutils.unpack_tuple(builder, values[4], vectors)
        ]
        count, depth = cgutils.unpack_tuple(builder, matrix.shape, 2)
        last = builder.sub(count, _i64(1))

        def pointer(array: Any, offset: Any, kind: Any) -> Any:
            return builder.bitcast(builder.gep(array, [offset]), kind.as_pointer())

        numbers = [builder.add(values[1], _i64(r)) for r in range(rows)]
        # Beyond the last row it is taken again; nobody reads those sums.
        numbers = [builder.select(builder.icmp_signed("<", n, last), n, last) for n in numbers]
        starts = [builder.gep(matrix.data, [builder.mul(n, depth)]) for n in numbers]
        before = builder.block
        loop, fetch, multiply, after = (builder.append_basic_block() for _ in range(4))
        builder.branch(loop)

        builder.position_at_end(loop)
        k = builder.phi(_i64)
        parts = [builder.phi(unit.sums) for _ in range(rows * vectors)]
        builder.cbranch(builder.icmp_signed("==", builder.and_(k, _i64(15)), _i64(0)), fetch, multiply)

        # Each cache line of the rows that the next tile will want, while this one is at the line beside it.
        builder.position_at_end(fetch)
        ahead = builder.add(builder.mul(k, _i64(halves)), builder.mul(depth, _i64(rows)))
        for start in starts:
            _fetch(builder, builder.gep(start, [ahead]))
        builder.branch(multiply)

        builder.position_at_end(multiply)
        line = builder.mul(k, _i64(halves * LANES))
        asked = [builder.load(pointer(one.data, line, unit.operand), align=4) for one in tokens]
        added = []
        for r in range(rows):
            word = builder.load(pointer(starts[r], builder.mul(k, _i64(halves)), _i32), align=4)
            first = builder.insert_element(ir.Constant(_vector(_i32), ir.Undefined), word, _i32(0))
            spread = builder.shuffle_vector(first, first, ir.Constant(_vector(_i32), [0] * LANES))
            own = builder.bitcast(spread, unit.operand)
            added += [_added(builder, unit, own, asked[v], parts[r * vectors + v]) for v in range(vectors)]
        following = builder.add(k, _i64(1))
        k.add_incoming(values[2], before)
        k.add_incoming(following, multiply)
        for part, new in zip(parts, added, strict=True):
            part.add_incoming(ir.Constant(unit.sums, [0] * LANES), before)
            part.add_incoming(new, multiply)
        builder.cbranch(builder.icmp_signed("<", following, values[3]), loop, after)

        builder.position_at_end(after)
        line = builder.mul(values[6], _i64(vectors * LANES))
        add = builder.add if sums.dtype == types.int32 else builder.fadd
        for i, new in enumerate(added):
            place = pointer(target.data, builder.add(line, _i64(i * LANES)), unit.sums)
            builder.store(add(builder.load(place, align=4), new), place, align=4)
        return context.get_dummy_value()

    return types.void(words, types.int64, types.int64, types.int64, queries, sums, types.int64), build


@njit(cache=True, nogil=True)
def raise_best(
    words: Array,
    first: int,
    offsets: Array,
    queries: tuple[Array, ...],
    scales: Array,
    less: Array,
    sums: Array,
    best: Array,
    column: int,
) -> None:
    """Raise columns of ``best`` ``[documents, Q]`` from ``column`` on to the largest products of each one's rows.

    ``words`` ``[R, K]`` are rows ``first:first + R`` of the documents that ``offsets`` separate; ``queries``, one or
    two of ``[K, LANES]``, query tokens side by side; ``sums`` ``[ROWS, LANES * len(queries)]`` is work space.
    ``scales`` ``[R]`` multiply a row's products after ``less`` ``[LANES * len(queries)]`` was taken off; empty for
    floats.
    """
    rows, width = 12 // len(queries), sums.shape[1]
    line = np.empty(width, np.float32)
    depth, total, scaled = words.shape[1], len(words), len(scales) > 0
    document = np.searchsorted(offsets, first, side="right") - 1
    shown = min(width, best.shape[1] - column)
    for start in range(0, total, ROWS):
        stop = min(total, start + ROWS)
        sums[:] = 0
        for k in range(0, depth, _DEPTH):
            for row in range(start, stop, rows):
                tile(words, row, k, min(depth, k + _DEPTH), queries, sums, row - start)
        row = start
        while row < stop:
            while offsets[document + 1] <= first + row:
                document += 1
            end = min(stop, offsets[document + 1] - first)
            line[:] = -np.inf
            for own in range(row - start, end - start):
                values = sums[own]
                if scaled:
                    scale = scales[start + own]
                    for q in range(width):
                        value = np.float32(values[q] - less[q]) * scale
                        line[q] = value if value > line[q] or value != value else line[q]
                else:
                    for q in range(width):
                        value = np.float32(values[q])
                        line[q] = value if value > line[q] or value != value else line[q]
            top = best[document]
            for q in range(shown):
                value = line[q]
                top[column + q] = value if value > top[column + q] or value != value else top[column + q]
            row = end


@intrinsic
def fetch_ahead(_: Any, table: Any, row: Any, column: Any) -> Any:
    """Have the processor bring one place of a matrix into its cache, which is wanted soon."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        matrix = context.make_array(signature.args[0])(context, builder, values[0])
        width = cgutils.unpack_tuple(builder, matrix.shape, 2)[1]
        _fetch(builder, builder.gep(matrix.data, [builder.add(builder.mul(values[1], width), values[2])]))
        return context.get_dummy_value()

    return types.void(table, types.int64, types.int64), build


@intrinsic
def from_half(_: Any, bits: Any) -> Any:
    """A float16 number, given as uint16, as float32."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if FEATURES.get("f16c"):
            return builder.fpext(builder.bitcast(values[0], ir.HalfType()), _f32)
        wide = builder.zext(values[0], _i32)
        # Exponent and fraction move to their places; a factor, exact for subnormal numbers too, makes up for the
        # exponents' biases (127 and 15). Infinities and NaN have the largest exponent.
        moved = builder.shl(builder.and_(wide, _i32(0x7FFF)), _i32(13))
        value = builder.bitcast(builder.fmul(builder.bitcast(moved, _f32), _f32(2.0**112)), _i32)
        special = builder.icmp_unsigned(">=", moved, _i32(0x7C00 << 13))
        value = builder.select(special, builder.or_(value, _i32(0x7F800000)), value)
        sign = builder.shl(builder.and_(wide, _i32(0x8000)), _i32(16))
        return builder.bitcast(builder.or_(value, sign), _f32)

    return types.float32(types.uint16), build


@njit(cache=True, nogil=True)
def from_float16(halves: Array, values: Array) -> None:
    """Put float16 numbers (as uint16) into float32 ones."""
    for i in range(len(halves)):
        line, target = halves[i], values[i]
        for d in range(halves.shape[1]):
            target[d] = from_half(line[d])


@njit(cache=True, nogil=True)
def to_bfloat16(bits: Array, halves: Array) -> None:
    """Round float32 numbers (as uint32) to bfloat16 (as uint16), ties to even."""
    for i in range(len(bits)):
        line, target = bits[i], halves[i]
        for d in range(bits.shape[1]):
            one = line[d]
            odd = (one >> np.uint32(16)) & np.uint32(1)
            target[d] = np.uint16((one + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@njit(cache=True, nogil=True)
def to_int8(values: Array, bits: Array, small: Array, scales: Array, line: Array, line_bits: Array) -> None:
    """Round rows to 127ths of their largest magnitude, plus 128, as uint8; ``scales`` are these 127ths.

    ``bits`` and ``line_bits`` are the float32 ``values`` and ``line`` (work space of a row) as uint32. Magnitudes order
    as their bits do, and adding 1.5 * 2^23 rounds to whole numbers in the lowest bits, both in vector instructions.
    """
    depth = values.shape[1]
    for i in range(len(values)):
        row, shape, target = values[i], bits[i], small[i]
        largest = np.uint32(0)
        for d in range(depth):
            largest = max(largest, shape[d] & np.uint32(0x7FFFFFFF))
        line_bits[0] = largest
        most = line[0]
        factor = np.float32(127) / most if most > 0 else np.float32(0)
        scales[i] = most / np.float32(127)
        for d in range(depth):
            line[d] = row[d] * factor + np.float32(12582912)
        for d in range(depth):
            target[d] = np.uint8(line_bits[d] ^ np.uint32(128))
