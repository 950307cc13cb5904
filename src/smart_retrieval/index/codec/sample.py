"""One pass over any number of documents: sums per vocabulary id and a uniform sample of tokens, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ...core.vectors import unit_rows
from ...embeddings import SmartEmbeddings
from ...errors import CodecError
from ...types import Array
from .quantize import grouped_sums

#: Tokens handled at a time, whatever the batches they come in: sums are then added in the same order.
_BLOCK = 16384


def checked_vectors(vectors: ArrayLike, width: int, what: str) -> Array:
    """Vectors as ``[T, width]`` contiguous float32, all finite."""
    try:
        rows = np.ascontiguousarray(vectors, np.float32)
    except (TypeError, ValueError) as error:
        raise CodecError(f"found {what} that are no numbers ({error})") from error
    if np.ndim(vectors) != 2 or rows.shape[1] != width:
        raise CodecError(f"found {what} of shape {np.shape(vectors)}, expected [tokens, {width}]")
    if not np.isfinite(rows).all():
        raise CodecError(f"found NaN or infinity in {what}, expected finite numbers")
    return rows


@dataclass(frozen=True)
class TokenSample:
    """What fitting needs to know of the documents.

    Attributes:
        ids: ``[n_ids]`` int64, vocabulary ids met, ascending.
        counts: ``[n_ids]`` int64, how often.
        vector_sums: ``[n_ids, D]`` float64, sum of the token vectors of each id.
        anchor_sums: ``[n_ids, Da]`` float64, sum of the unit anchors of their documents.
        vectors: ``[n, D]`` float32, a uniform sample of all tokens, in their order.
        token_ids: ``[n]`` int64 of the sample, -1 where there is none.
        anchors: ``[n, Da]`` float32, unit anchors of the sample's documents.
        documents: ``[n]`` int64, number of each sampled token's document.
    """

    ids: Array
    counts: Array
    vector_sums: Array
    anchor_sums: Array
    vectors: Array
    token_ids: Array
    anchors: Array
    documents: Array


def gather_sample(
    batches: Iterable[SmartEmbeddings] | SmartEmbeddings, *, limit: int | None = None, seed: int = 0
) -> TokenSample:
    """Read all batches once and keep ``limit`` tokens (50,000 by default, fewer where they would take over 256 MiB).

    Memory holds two times the sample, the sums and one batch. How the documents are cut into batches changes nothing.
    """
    sums = _IdSums()
    kept: list[Array] = []
    for position, (vectors, ids, anchors, documents) in _blocks(batches):
        if limit is None:
            limit = max(2048, min(50_000, 2**28 // (4 * (vectors.shape[1] + anchors.shape[1]))))
        sums.add(ids, np.concatenate([vectors, anchors], axis=1))
        ranks = _ranks(np.arange(position, position + len(ids), dtype=np.uint64), seed)
        fresh = [ranks, vectors, ids, anchors, documents]
        kept = fresh if not kept else [np.concatenate(pair) for pair in zip(kept, fresh, strict=True)]
        if len(kept[0]) > limit:
            chosen = np.sort(np.argsort(kept[0], kind="stable")[:limit])
            kept = [part[chosen] for part in kept]
    if not kept:
        raise CodecError("found no token vectors to fit a codec to, expected at least one document with a token")
    _, vectors, token_ids, anchors, documents = kept
    ids, counts, totals = sums.result()
    width = vectors.shape[1]
    return TokenSample(ids, counts, totals[:, :width], totals[:, width:], vectors, token_ids, anchors, documents)


class _IdSums:
    """Running sums of rows by vocabulary id."""

    def __init__(self) -> None:
        self.slots: dict[int, int] = {}
        self.counts = np.zeros(0, np.int64)
        self.totals = np.zeros((0, 0))

    def add(self, ids: Array, rows: Array) -> None:
        known = ids >= 0
        if not len(self.slots):
            self.totals = np.zeros((0, rows.shape[1]))
        found, owners = np.unique(ids[known], return_inverse=True)
        sums, sizes = grouped_sums(rows[known], owners, len(found))
        places = np.array([self.slots.setdefault(one, len(self.slots)) for one in found.tolist()], np.int64)
        if len(self.slots) > len(self.counts):
            size = max(1024, 2 * len(self.counts), len(self.slots))
            counts, totals = np.zeros(size, np.int64), np.zeros((size, rows.shape[1]))
            counts[: len(self.counts)] = self.counts
            totals[: len(self.totals)] = self.totals
            self.counts, self.totals = counts, totals
        self.counts[places] += sizes
        self.totals[places] += sums

    def result(self) -> tuple[Array, Array, Array]:
        ids = np.fromiter(self.slots, np.int64, len(self.slots))
        order = np.argsort(ids)
        return ids[order], self.counts[: len(ids)][order], self.totals[: len(ids)][order]


def _blocks(batches: Iterable[SmartEmbeddings] | SmartEmbeddings) -> Iterator[tuple[int, list[Array]]]:
    """Blocks of :data:`_BLOCK` tokens: position of the first, and vectors, ids, unit anchors and document numbers."""
    waiting: list[list[Array]] = []
    held = position = document = 0
    widths: tuple[int, int] | None = None
    each = [batches] if isinstance(batches, SmartEmbeddings) else batches
    for batch in (one[start : start + 64] for one in each for start in range(0, len(one), 64)):
        widths = widths or (batch.token_dim, batch.anchor_dim)
        if (batch.token_dim, batch.anchor_dim) != widths:
            raise CodecError(
                f"found widths {(batch.token_dim, batch.anchor_dim)}, expected {widths} as in the first batch"
            )
        vectors = checked_vectors(batch.token_vectors, widths[0], "token vectors")
        anchors = unit_rows(checked_vectors(batch.anchors, widths[1], "anchors"))
        owners = np.repeat(np.arange(len(batch)), batch.lengths)
        waiting.append([vectors, batch.token_ids.astype(np.int64), anchors[owners], owners + document])
        held += len(vectors)
        document += len(batch)
        if held >= _BLOCK:
            joined = [np.concatenate(parts) for parts in zip(*waiting, strict=True)]
            whole = held - held % _BLOCK
            for start in range(0, whole, _BLOCK):
                yield position + start, [part[start : start + _BLOCK] for part in joined]
            waiting = [[part[whole:] for part in joined]]
            position, held = position + whole, held - whole
    if held:
        yield position, [np.concatenate(parts) for parts in zip(*waiting, strict=True)]


def _ranks(positions: Array, seed: int) -> Array:
    """A random number a position, the same however positions are grouped (splitmix64: Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        mixed = positions * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed % 2**63) * np.uint64(0xD1B54A32D192ED03)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        ranks: Array = mixed ^ (mixed >> np.uint64(31))
        return ranks
