"""Scores straight from codebook codes on a GPU. Imported only where Triton is installed, as it is with torch for CUDA.

Two kernels: the anchors' terms, which read every anchor once, and the tokens', which read every code once. The
similarity of a token is the sum of :mod:`.kernels`, in its order and with its roundings; the maximum over a document's
tokens stays in registers, and weights, floor and anchor are added before anything is written. What each query token
adds is summed up in integers, which no order changes: scores depend neither on block sizes nor on where a document
stands, and equal documents tie.

The tables decide the speed, not the codes: of a token's code 6 bytes are read from memory, but for 32 query tokens 512
bytes of table rows. Those of the residual (98 kB with three stages) stay in the first cache of every multiprocessor,
the products with the centroids (4 MB with 30,000) in the second. So query tokens are taken 32 at a time.
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

#: Query tokens that share a pass over the codes.
PASS = 32

#: Rows of a document that a warp takes together.
ROWS = 8

# What a query token adds to a late score is counted in steps of 2^-36.
_STEPS = 2.0**36
# Documents and dimensions of an anchor block.
_DOCUMENTS, _DIMS = 64, 32
# Programs a multiprocessor holds, of one warp each.
_PROGRAMS = 32
# Documents whose anchors' terms are held together: 128 MB.
_AT_ONCE = 1 << 20
# Rows copied together, and centroids multiplied together in float64.
_COPIED, _CENTROIDS = 1 << 20, 8192


@triton.jit(do_not_specialize=["count"])
def anchor_kernel(
    anchors, columns, asked, chosen, shift, cosines, count, dims,
    P: tl.constexpr, LISTED: tl.constexpr, COSINES: tl.constexpr, PRECISION: tl.constexpr,
    DOCUMENTS: tl.constexpr, DIMS: tl.constexpr,
):  # fmt: skip
    """Products ``[n, P]`` of anchors with ``columns`` ``[dims, P]``, and their cosines ``[n]`` with ``asked``."""
    place = tl.program_id(0).to(tl.int64) * DOCUMENTS + tl.arange(0, DOCUMENTS)
    inside = place < count
    row = tl.load(chosen + place, mask=inside, other=0) if LISTED else place
    q = tl.arange(0, P)
    products = tl.zeros([DOCUMENTS, P], tl.float32)
    parts = tl.zeros([DOCUMENTS, DIMS], tl.float32)
    for start in range(0, dims, DIMS):
        k = start + tl.arange(0, DIMS)
        real = k < dims
        block = tl.load(anchors + row[:, None] * dims + k[None, :], mask=inside[:, None] & real[None, :], other=0.0)
        if P > 1:
            column = tl.load(columns + k[:, None] * P + q[None, :], mask=real[:, None], other=0.0)
            products = tl.dot(block, column, products, input_precision=PRECISION)
        if COSINES:
            parts += block * tl.load(asked + k, mask=real, other=0.0)[None, :]
    if P > 1:
        tl.store(shift + place[:, None] * P + q[None, :], products, mask=inside[:, None])
    if COSINES:
        tl.store(cosines + place, tl.sum(parts, 1), mask=inside)


@triton.jit(do_not_specialize=["count"])
def code_kernel(
    codes, offsets, chosen, centroids, tables, scales, shift, shares, cosines, sums, late, scores,
    count, floor, inverse, lambda_anchor, lambda_late,
    WORDS: tl.constexpr, GROUPS: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr,
    LISTED: tl.constexpr, SHIFT: tl.constexpr, SCALE: tl.constexpr, FLOOR: tl.constexpr,
    FIRST: tl.constexpr, LAST: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """One pass of P query tokens over the codes, two bytes a word; the last pass writes late and hybrid scores."""
    q = tl.arange(0, P)
    share = tl.load(shares + q)
    for place in range(tl.program_id(0).to(tl.int64), count, tl.num_programs(0)):
        document = tl.load(chosen + place) if LISTED else place
        start, stop = tl.load(offsets + document), tl.load(offsets + document + 1)
        best = tl.full([ROWS, P], float("-inf"), tl.float32)
        if SHIFT:
            extra = tl.load(shift + place * P + q)[None, :]
        for row in range(start, stop, ROWS):
            token = row + tl.arange(0, ROWS)
            inside = token < stop
            word = codes + token * WORDS
            number = tl.load(word, mask=inside, other=0, eviction_policy="evict_first").to(tl.int32) & 0xFFFF
            values = tl.load(centroids + number[:, None] * P + q[None, :])
            pair = number
            for group in tl.static_range(GROUPS):
                if group % 2 == 0:
                    pair = tl.load(word + 1 + group // 2, mask=inside, other=0, eviction_policy="evict_first")
                    pair = pair.to(tl.int32)
                byte = group * 256 + ((pair >> (8 * (group % 2))) & 0xFF)
                values += tl.load(tables + byte[:, None] * P + q[None, :], eviction_policy="evict_last")
            if SHIFT:
                values += extra
            if SCALE:
                if GROUPS % 2 == 0:
                    pair = tl.load(word + 1 + GROUPS // 2, mask=inside, other=0, eviction_policy="evict_first")
                    pair = pair.to(tl.int32)
                byte = (pair >> (8 * (GROUPS % 2))) & 0xFF
                values *= tl.load(scales + byte, eviction_policy="evict_last")[:, None]
            best = tl.maximum(best, tl.where(inside[:, None], values, float("-inf")))
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


class DeviceDocuments(NamedTuple):
    """Documents in a GPU's memory."""

    words: torch.Tensor  # [R, ceil(B / 2)] int16, codes two bytes a word
    offsets: torch.Tensor  # [N + 1] int64
    anchors: torch.Tensor  # [N, Da] float32 of unit length


class DeviceScores(NamedTuple):
    """Scores of n documents, all ``[n]`` float32."""

    scores: torch.Tensor
    anchor: torch.Tensor
    late: torch.Tensor


class Pass(NamedTuple):
    """The tables of up to :data:`PASS` query tokens, P with padding."""

    centroids: torch.Tensor  # [K, P] float32
    tables: torch.Tensor  # [G, 256, P] float32
    context: torch.Tensor | None  # [Da, P] float32
    shares: torch.Tensor  # [P] float32


@dataclass(frozen=True)
class DeviceQuery:
    """A query in a GPU's memory."""

    passes: list[Pass]
    anchor: torch.Tensor  # [Da] float32 of unit length


class DeviceCodec:
    """A codebook codec in a GPU's memory.

    ``device`` is one of torch's names; the CPU's only under Triton's interpreter.
    """

    def __init__(self, codec: CodebookCodec, device: str = "cuda", *, rows: int = ROWS) -> None:
        self.codec, self.device, self.rows = codec, torch.device(device), rows
        self._centroids = torch.tensor(codec.centroids, device=device)
        self._scales = torch.tensor(SCALES, device=device)
        self._groups = 0 if codec.residual is None else codec.residual.groups
        self.programs, self._precision = 64, "ieee"
        if self.device.type == "cuda":
            about = torch.cuda.get_device_properties(self.device)
            self.programs = _PROGRAMS * about.multi_processor_count
            if about.major >= 8 and torch.version.hip is None:
                # Three products of the tensor cores that err as little as one in float32.
                self._precision = "tf32x3"

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
        kept = torch.empty(anchors.shape, dtype=torch.float32, device=self.device)
        for start in range(0, len(anchors), _COPIED // 16):
            part = np.array(anchors[start : start + _COPIED // 16], np.float32)
            kept[start : start + _COPIED // 16] = torch.from_numpy(part).to(self.device)
        return DeviceDocuments(words, torch.tensor(np.array(offsets, np.int64), device=self.device), kept)

    def prepare(self, query_tokens: Array, shares: Array, anchor: Array) -> DeviceQuery:
        """Query tokens ``[Tq, D]``, their shares ``[Tq]`` of the late score, and the query's unit anchor ``[Da]``."""
        passes, done = [], 0
        for tile in self.codec.prepare(query_tokens).tiles:
            width = min(tile.queries.shape[1], len(shares) - done)
            for start in range(0, width, PASS):
                size = min(PASS, width - start)
                cut, room = slice(start, start + size), 16 if size <= 16 else PASS
                passes.append(
                    Pass(
                        self._products(self._padded(tile.queries[:, cut], room)),
                        self._padded(tile.tables[:, :, cut], room),
                        None if tile.context is None else self._padded(tile.context[:, cut], room),
                        self._padded(shares[done + start : done + start + size], room),
                    )
                )
            done += width
        return DeviceQuery(passes, self._padded(anchor, len(anchor)))

    def _padded(self, values: Array, width: int) -> torch.Tensor:
        padded = np.zeros((*values.shape[:-1], width), np.float32)
        padded[..., : values.shape[-1]] = values
        return torch.from_numpy(padded).to(self.device)

    def _products(self, queries: torch.Tensor) -> torch.Tensor:
        """Products ``[K, P]`` float32 of all centroids, in float64 whatever torch may do with float32 matrices."""
        wide = queries.double()
        return torch.cat([(part.double() @ wide).float() for part in torch.split(self._centroids, _CENTROIDS)])

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
                anchor_kernel[(-(-count // _DOCUMENTS),)](
                    documents.anchors, documents.anchors if tables.context is None else tables.context, query.anchor,
                    listed, shift, found.anchor, count, documents.anchors.shape[1],
                    P=1 if tables.context is None else room, LISTED=chosen is not None, COSINES=first,
                    PRECISION=self._precision, DOCUMENTS=_DOCUMENTS, DIMS=_DIMS,
                )  # fmt: skip
            code_kernel[(min(count, self.programs),)](
                documents.words, documents.offsets, listed, tables.centroids, tables.tables, self._scales, shift,
                tables.shares, found.anchor, sums, found.late, found.scores, count,
                0.0 if floor is None else floor, 1.0 if floor is None else 1 / (1 - floor), lambda_anchor, lambda_late,
                WORDS=documents.words.shape[1], GROUPS=self._groups, P=room, ROWS=self.rows,
                LISTED=chosen is not None, SHIFT=tables.context is not None, SCALE=self.codec.spec.norm,
                FLOOR=floor is not None, FIRST=first, LAST=number == len(query.passes) - 1,
                STEPS=_STEPS, num_warps=1, enable_fp_fusion=False,
            )  # fmt: skip
