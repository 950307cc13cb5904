"""What an engine must be able to do to keep an index: keep bytes beside an anchor, filter, and find near anchors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..index.document_store import DocumentStore
from ..index.store.records import Document, Vectors
from ..types import Array


class Near(NamedTuple):
    """Documents that an engine found, ``[n]`` of them in any order.

    Args:
        rowids: ``[n]`` int64.
        anchors: ``[n, Da]`` float32, as they are stored.
        blobs: Their codes, see :meth:`~smart_retrieval.Codec.encode_blobs`.
        passing: Documents that passed the filter, as far as the engine counted them.
        partial: Whether a part of the documents could not be asked.
    """

    rowids: Array
    anchors: Array
    blobs: list[bytes]
    passing: int
    partial: bool = False


def joined(parts: Sequence[Vectors], order: Array | None = None) -> Vectors:
    """Vectors of several in one, in another order if one is given; without their token ids, which no score needs."""
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    none = np.zeros(0, np.int32), np.zeros(len(lengths) + 1, np.int64)
    rowids, anchors, codes = (np.concatenate([part[column] for part in parts]) for column in range(3))
    if order is None:
        return Vectors(rowids, anchors, codes, offsets, *none)
    starts, lengths = offsets[:-1][order], lengths[order]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    rows = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return Vectors(rowids[order], anchors[order], codes[rows], offsets, *none)


def cosines(anchors: Array, asked: Array) -> Array:
    """Of anchors of any length ``[n, Da]`` with one of unit length, ``[n]``: in single precision, to choose by."""
    lengths = np.sqrt(np.einsum("nd,nd->n", anchors, anchors))
    found: Array = np.einsum("nd,d->n", anchors, asked) / np.where(lengths > 0, lengths, 1.0)
    return found


class SearchStore(DocumentStore, Protocol):
    """A ``DocumentStore`` that finds documents by their anchors.

    Everything else is the same for all engines: encoding, scores from codes, statistics, explanations.
    """

    def near(
        self,
        anchor: Array,
        wanted: int | None,
        where: str | None,
        *,
        exact: bool = False,
        timeout: float | None = None,
    ) -> Near:
        """The ``wanted`` documents that pass a filter with the nearest anchors, and a few more; all when None.

        Args:
            anchor: ``[Da]`` float32 of unit length.
            wanted: How many. The engine's own precision may decide which; scores are computed from exact anchors.
            where: The filter.
            exact: Look at every anchor, instead of using an approximate index.
            timeout: Seconds.

        Raises:
            TimeoutError: It took longer.
        """
        ...

    def counted(self, where: str | None) -> int | None:
        """Documents that pass a filter; None where counting them takes as long as a search of all."""
        ...

    def rowids(self, ids: Sequence[str]) -> Array:
        """Rowids of documents by id, in the order given; raises UnknownIdError."""
        ...

    def ids_of(self, rowids: Sequence[int] | Array) -> list[str | None]:
        """Ids by rowid, in the order given; None where the row is gone."""
        ...

    def passes(self, rowid: int, where: str | None) -> bool:
        """Whether a document passes a filter."""
        ...

    def documents(self, rowids: Sequence[int] | Array) -> list[Document]:
        """Documents of rows, in the order given; rows that are gone are left out."""
        ...

    def delete(self, ids: Sequence[str] | None, where: str | None) -> int:
        """Delete documents by id or by filter in one commit; returns how many."""
        ...

    def info(self) -> dict[str, Any]:
        """Counts and sizes."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...
