"""Scores straight from codebook codes on a GPU. Imported only where Triton is installed, as it is with torch for CUDA.

Two kernels: the anchors' terms, which read every anchor once, and the tokens', which read every code once. The
similarity of a token is that of :mod:`.kernels`, to the bit: products with centroids and anchors are of whole numbers
of 16 bits, and the sum is taken in the same order. The maximum over a document's tokens stays in registers, and
weights, floor and anchor are added before anything is written. What each query token adds is summed up in integers,
which no order changes: scores depend neither on block sizes nor on where a document stands, and equal documents tie.

The anchors' kernel waits for the memory alone: whole numbers of 16 bits are multiplied as two digits of 8 bits each,
which is the fastest that tensor cores do.

The tables decide the speed of the tokens' kernel, not the codes: of a token's code 6 bytes are read from memory, but
for 32 query tokens 512 bytes of table rows. Those of the residual (98 kB with three stages) stay in the first cache of
every multiprocessor, the products with the centroids (4 MB with 30,000) in the second. So query tokens are taken 32 at
a time.
"""
# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl

from ...errors import CodecError
from ...types import Array
from .codebook import SCALES, CodebookCodec
from .kernels import STEPS, rounded_columns

#: Query tokens that share a pass over the codes.
PASS = 32

#: Rows of a document that a warp takes together.
ROWS = 8

# What a query token adds to a late score is counted in steps of 2^-36.
_LATE_STEPS = 2.0**36
# Documents and dimensions of an anchor block, and blocks on their way at a time.
_DOCUMENTS, _DIMS, _STAGES = 64, 64, 3
# Programs of one warp each, for every multiprocessor: it holds 32 at once, and more even out documents' lengths.
_PROGRAMS = 1024
# Documents whose anchors' terms are held together: 128 MB.
_AT_ONCE = 1 << 20
# Rows copied together, and centroids multiplied together in float64.
_COPIED, _CENTROIDS = 1 << 20, 8192


@triton.jit(do_not_specialize=["count"])
def anchor_kernel(
    anchors, digits, extras, factors, asked, chosen, shift, cosines, count, dims,
    P: tl.constexpr, LISTED: tl.constexpr, COSINES: tl.constexpr, STEPS: tl.constexpr,
    DIGIT: tl.constexpr, SUM: tl.constexpr, DOCUMENTS: tl.constexpr, DIMS: tl.constexpr,
):  # fmt: skip
    """Products ``[n, P]`` of anchors with the columns of :class:`Columns`, and their cosines ``[n]`` with ``asked``."""
    place = tl.program_id(0).to(tl.int64) * DOCUMENTS + tl.arange(0, DOCUMENTS)
    near = tl.minimum(place, count - 1)  # the last document again costs less than a mask
    row = tl.load(chosen + near) if LISTED else near
    q = tl.arange(0, P)
    first, last = tl.zeros([DOCUMENTS, P], SUM), tl.zeros([DOCUMENTS, P], SUM)
    between = tl.zeros([DOCUMENTS, P], SUM)
    parts = tl.zeros([DOCUMENTS, DIMS], tl.float32)
    for start in range(0, dims, DIMS):
        k = start + tl.arange(0, DIMS)
        block = tl.load(anchors + row[:, None] * dims + k[None, :])
        if P > 1:
            # 1.5 * 2^23 leaves no room behind the point: the last bits are those of the nearest whole number. (Of the
            # rounded product, as in NumPy; so nothing may be fused.)
            whole = (block * STEPS + 12582912.0).to(tl.int32, bitcast=True)
            high = (whole >> 8).to(tl.int8).to(DIGIT)
            low = (whole ^ 128).to(tl.int8).to(DIGIT)  # less 128, to fit into int8
            columns = digits + q[None, :] * dims + k[:, None]
            high_columns, low_columns = tl.load(columns).to(DIGIT), tl.load(columns + P * dims).to(DIGIT)
            first = tl.dot(high, high_columns, first, out_dtype=SUM)
            between = tl.dot(high, low_columns, between, out_dtype=SUM)
            between = tl.dot(low, high_columns, between, out_dtype=SUM)
            last = tl.dot(low, low_columns, last, out_dtype=SUM)
        if COSINES:
            parts = tl.fma(block, tl.load(asked + k)[None, :], parts)
    inside = place < count
    if P > 1:
        products = first.to(tl.int32) * 65536 + between.to(tl.int32) * 256 + last.to(tl.int32)
        products += tl.load(extras + q)[None, :]
        values = products.to(tl.float32) * tl.load(factors + q)[None, :]
        tl.store(shift + place[:, None] * P + q[None, :], values, mask=inside[:, None])
    if COSINES:
        tl.store(cosines + place, tl.sum(parts, 1), mask=inside)


@triton.jit
def _unsigned(words):
    return words.to(tl.uint16, bitcast=True).to(tl.uint32)


@triton.jit(do_not_specialize=["count"])
def code_kernel(
    codes, offsets, chosen, centroids, tables, scales, shift, shares, cosines, sums, late, scores,
    count, floor, inverse, lambda_anchor, lambda_late,
    WORDS: tl.constexpr, GROUPS: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr,
    LISTED: tl.constexpr, SHIFT: tl.constexpr, SCALE: tl.constexpr, FLOOR: tl.constexpr,
    FIRST: tl.constexpr, LAST: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """One pass of P query tokens over the codes, two bytes a word; the last pass writes late and hybrid scores."""
    q, step = tl.arange(0, P), tl.arange(0, ROWS)
    share = tl.load(shares + q)
    centroids += q[None, :]
    tables += q[None, :]
    for place in range(tl.program_id(0).to(tl.int64), count, tl.num_programs(0)):
        document = tl.load(chosen + place) if LISTED else place
        start = tl.load(offsets + document)
        size = (tl.load(offsets + document + 1) - start).to(tl.int32)
        best = tl.full([ROWS, P], float("-inf"), tl.float32)
        if SHIFT:
            # Once for each row, so that no other layout is asked for in between.
            extra = tl.load(shift + place * P + (q[None, :] + tl.zeros([ROWS, 1], tl.int32)))
        for row in range(0, size, ROWS):
            # A row too many is the last one again, which changes no maximum and needs no mask.
            word = codes + (start + tl.minimum(row + step, size - 1)) * WORDS
            pair = _unsigned(tl.load(word, eviction_policy="evict_first"))
            values = tl.load(centroids + (pair * P)[:, None])
            for group in tl.static_range(GROUPS):
                if group % 2 == 0:
                    pair = _unsigned(tl.load(word + 1 + group // 2, eviction_policy="evict_first"))
                byte = (pair >> (8 * (group % 2))) & 0xFF
                values += tl.load(tables + group * 256 * P + (byte * P)[:, None])
            if SHIFT:
                values += extra
            if SCALE:
                if GROUPS % 2 == 0:
                    pair = _unsigned(tl.load(word + 1 + GROUPS // 2, eviction_policy="evict_first"))
                byte = (pair >> (8 * (GROUPS % 2))) & 0xFF
                values *= tl.load(scales + byte)[:, None]
            best = tl.maximum(best, values)
        top = tl.max(best, 0)
        if FLOOR:
            top = tl.maximum((top - floor) * inverse, 0.0)
        else:
            top = tl.where(top == float("-inf"), 0.0, top)
        total = tl.sum((top * share * STEPS).to(tl.int64), 0)
        if not FIRST:
            total += tl.load(sums + place)
        if LAST:
            value = total.to(tl.float32) * (1 / STEPS)
            tl.store(late + place, value)
            tl.store(scores + place, lambda_anchor * tl.load(cosines + place) + lambda_late * value)
        else:
            tl.store(sums + place, total)


def _whole_blocks(dims: int) -> int:
    """Dimensions with those of zeros behind them, without which rows are read 4 bytes at a time: 10 times as slow."""
    return -(-dims // _DIMS) * _DIMS


class DeviceDocuments(NamedTuple):
    """Documents in a GPU's memory."""

    words: torch.Tensor  # [R, ceil(B / 2)] int16, codes two bytes a word
    offsets: torch.Tensor  # [N + 1] int64
    anchors: torch.Tensor  # [N, Da'] float32 of unit length, zeros behind the Da


class DeviceScores(NamedTuple):
    """Scores of n documents, all ``[n]`` float32."""

    scores: torch.Tensor
    anchor: torch.Tensor
    late: torch.Tensor


class Columns(NamedTuple):
    """Columns of whole numbers of 16 bits, each 256 times its first digit and its last."""

    digits: torch.Tensor  # [2, P, Da'] int8
    extras: torch.Tensor  # [P] int32, what 128 in the last digit of every row adds
    factors: torch.Tensor  # [P] float32, of the products


class Pass(NamedTuple):
    """The tables of up to :data:`PASS` query tokens, P with padding."""

    centroids: torch.Tensor  # [K, P] float32
    tables: torch.Tensor  # [G, 256, P] float32
    context: Columns | None
    shares: torch.Tensor  # [P] float32


@dataclass(frozen=True)
class DeviceQuery:
    """A query in a GPU's memory."""

    passes: list[Pass]
    anchor: torch.Tensor  # [Da'] float32 of unit length


class DeviceCodec:
    """A codebook codec in a GPU's memory.

    ``device`` is one of torch's names; the CPU's only under Triton's interpreter.
    """

    def __init__(self, codec: CodebookCodec, device: str = "cuda", *, rows: int = ROWS) -> None:
        self.codec, self.device, self.rows = codec, torch.device(device), rows
        steps = float(np.float32(STEPS / codec.longest))
        centroids = torch.split(torch.tensor(codec.centroids, device=device), _CENTROIDS)
        self._centroids = torch.cat([(part.float() * steps).round().short() for part in centroids])
        self._scales = torch.tensor(SCALES, device=device)
        self._groups = 0 if codec.residual is None else codec.residual.groups
        self.programs, self.digits = 64, tl.int8
        if self.device.type == "cuda":
            about = torch.cuda.get_device_properties(self.device)
            self.programs = _PROGRAMS * about.multi_processor_count
            if about.major < 8 and torch.version.hip is None:
                # Triton has no products of int8 for these. Sums in float32 are exact to 1024 dimensions at least.
                self.digits = tl.float16

    @staticmethod
    def room(codes: Array, offsets: Array, anchors: Array) -> int:
        """Bytes that :meth:`upload` takes on the device."""
        rows, width = map(int, codes.shape)
        documents, dims = map(int, anchors.shape)
        return 2 * rows * -(-width // 2) + 8 * len(offsets) + 4 * documents * _whole_blocks(dims)

    def upload(self, codes: Array, offsets: Array, anchors: Array) -> DeviceDocuments:
        """Copy documents: codes ``[R, B]`` uint8, offsets ``[N + 1]``, unit anchors ``[N, Da]`` float32."""
        rows, width = codes.shape
        if offsets[0] < 0 or offsets[-1] > rows or (np.diff(offsets) < 0).any():
            raise CodecError(f"found row ranges outside 0 to {rows}, or that end before they start")
        words = torch.empty((rows, -(-width // 2)), dtype=torch.int16, device=self.device)
        largest = 0
        for start in range(0, rows, _COPIED):
            part = codes[start : start + _COPIED]
            even = np.zeros((len(part), 2 * words.shape[1]), np.uint8)
            even[:, :width] = part
            largest = max(largest, int(even.view("<u2")[:, 0].max()))
            words[start : start + _COPIED] = torch.from_numpy(even.view("<i2")).to(self.device)
        if largest >= len(self._centroids):
            raise CodecError(
                f"codec {self.codec.name!r}: found centroid {largest} in a code, expected below "
                f"{len(self._centroids)}: the codes are damaged or another codec's"
            )
        kept = torch.zeros((len(anchors), _whole_blocks(anchors.shape[1])), dtype=torch.float32, device=self.device)
        for start in range(0, len(anchors), _COPIED // 16):
            part = np.array(anchors[start : start + _COPIED // 16], np.float32)
            kept[start : start + _COPIED // 16, : part.shape[1]] = torch.from_numpy(part).to(self.device)
        return DeviceDocuments(words, torch.tensor(np.array(offsets, np.int64), device=self.device), kept)

    def prepare(self, query_tokens: Array, shares: Array, anchor: Array) -> DeviceQuery:
        """Query tokens ``[Tq, D]``, their shares ``[Tq]`` of the late score, and the query's unit anchor ``[Da]``."""
        passes, done = [], 0
        for tile in self.codec.prepare(query_tokens).tiles:
            width = min(tile.queries.shape[1], len(shares) - done)
            queries = rounded_columns(tile.queries, self.codec.longest)
            context = None if tile.context is None else rounded_columns(tile.context, 1.0)
            for start in range(0, width, PASS):
                size = min(PASS, width - start)
                cut, room = slice(start, start + size), 16 if size <= 16 else PASS
                passes.append(
                    Pass(
                        self._products(*(self._padded(part[..., cut], room) for part in queries)),
                        self._padded(tile.tables[:, :, cut], room),
                        None if context is None else self._columns(room, *(part[..., cut] for part in context)),
                        self._padded(shares[done + start : done + start + size], room),
                    )
                )
            done += width
        return DeviceQuery(passes, self._padded(anchor, _whole_blocks(len(anchor))))

    def _padded(self, values: Array, width: int) -> torch.Tensor:
        padded = np.zeros((*values.shape[:-1], width), np.float32)
        padded[..., : values.shape[-1]] = values
        return torch.from_numpy(padded).to(self.device)

    def _products(self, queries: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        """Products ``[K, P]`` float32 of all centroids: of whole numbers, which float64 adds up without any error."""
        wide = queries.double()
        parts = torch.split(self._centroids, _CENTROIDS)
        return torch.cat([(part.double() @ wide).float() for part in parts]) * factors

    def _columns(self, room: int, columns: Array, factors: Array) -> Columns:
        """Of whole numbers ``[Da, n]`` and the factors ``[n]`` of their products."""
        whole = np.zeros((room, _whole_blocks(len(columns))), np.int32)
        whole[: columns.shape[1], : len(columns)] = columns.T
        # Two digits reach from -32896 to 32639. A column has room for one larger number, and is then turned round.
        signs = np.where(whole.max(axis=1) > 32639, -1, 1).astype(np.int32)
        whole *= signs[:, None]
        low = ((whole + 128) & 255) - 128
        digits = np.stack([(whole - low) >> 8, low]).astype(np.int8)
        extras = (128 * whole.sum(axis=1)).astype(np.int32)
        scaled = np.zeros(room, np.float32)
        scaled[: len(factors)] = factors
        return Columns(*(torch.from_numpy(part).to(self.device) for part in (digits, extras, scaled * signs)))

    def score(
        self,
        query: DeviceQuery,
        documents: DeviceDocuments,
        *,
        floor: float | None = None,
        lambda_anchor: float = 1.0,
        lambda_late: float = 1.0,
        chosen: torch.Tensor | None = None,
    ) -> DeviceScores:
        """Scores of all documents, or of those that are chosen, ``[n]`` int64 places."""
        total = len(documents.anchors) if chosen is None else len(chosen)
        found = DeviceScores(*(torch.zeros(total, dtype=torch.float32, device=self.device) for _ in range(3)))
        for start in range(0, total, _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            own, listed = documents, None if chosen is None else chosen[part]
            if chosen is None:
                own = DeviceDocuments(documents.words, documents.offsets[start:], documents.anchors[part])
            outputs = DeviceScores(*(values[part] for values in found))
            self._score(query, own, listed, outputs, floor, lambda_anchor, lambda_late)
        return found

    def _score(
        self,
        query: DeviceQuery,
        documents: DeviceDocuments,
        chosen: torch.Tensor | None,
        found: DeviceScores,
        floor: float | None,
        lambda_anchor: float,
        lambda_late: float,
    ) -> None:
        count = len(found.scores)
        shift = torch.empty((count if self.codec.context is not None else 0, PASS), device=self.device)
        sums = torch.empty(count if len(query.passes) > 1 else 0, dtype=torch.int64, device=self.device)
        listed = documents.offsets if chosen is None else chosen
        for number, tables in enumerate(query.passes):
            room, first = len(tables.shares), number == 0
            if first or tables.context is not None:
                # What is not read may be anything that is there.
                context = tables.context or Columns(documents.anchors, documents.offsets, self._scales)
                anchor_kernel[(-(-count // _DOCUMENTS),)](
                    documents.anchors, *context, query.anchor, listed, shift, found.anchor,
                    count, documents.anchors.shape[1],
                    P=1 if tables.context is None else room, LISTED=chosen is not None, COSINES=first,
                    STEPS=STEPS, DIGIT=self.digits, SUM=tl.int32 if self.digits == tl.int8 else tl.float32,
                    DOCUMENTS=_DOCUMENTS, DIMS=_DIMS, num_warps=4, num_stages=_STAGES, enable_fp_fusion=False,
                )  # fmt: skip
            code_kernel[(min(count, self.programs),)](
                documents.words, documents.offsets, listed, tables.centroids, tables.tables, self._scales, shift,
                tables.shares, found.anchor, sums, found.late, found.scores, count,
                0.0 if floor is None else floor, 1.0 if floor is None else 1 / (1 - floor), lambda_anchor, lambda_late,
                WORDS=documents.words.shape[1], GROUPS=self._groups, P=room, ROWS=self.rows,
                LISTED=chosen is not None, SHIFT=tables.context is not None, SCALE=self.codec.spec.norm,
                FLOOR=floor is not None, FIRST=first, LAST=number == len(query.passes) - 1,
                STEPS=_LATE_STEPS, num_warps=1, enable_fp_fusion=False,
            )  # fmt: skip
