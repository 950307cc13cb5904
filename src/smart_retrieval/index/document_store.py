"""What encoder, statistics and writer of an index need of the store below them, whatever keeps the documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol

from ..types import Array
from .store.manifest import Manifest
from .store.records import Added, Record, Vectors
from .store.schema import State


class DocumentStore(Protocol):
    """Documents with anchors and token codes, their codec, IDF table and manifest.

    Rowids are numbers of the store's own choice that are never used twice. Every method is one transaction;
    :meth:`reading` joins several into one view of one commit.
    """

    manifest: Manifest
    generation: int  # of the codec, when the manifest was read

    @property
    def path(self) -> str | Path:
        """What messages call it; never a password."""
        ...

    def reading(self) -> AbstractContextManager[Any]:
        """Everything this thread reads inside sees one and the same commit."""
        ...

    def state(self) -> State:
        """Number and sums of the newest commit."""
        ...

    def reload(self) -> None:
        """Read manifest and generation again."""
        ...

    def newest_manifest(self) -> Manifest:
        """The manifest of the commit that is read."""
        ...

    def codec(self) -> bytes:
        """The codec's bytes."""
        ...

    def idf(self) -> tuple[int, Array, Array]:
        """N, vocabulary ids ascending and the documents that hold each, ``[n]`` int64."""
        ...

    def select(self, where: str | None = None) -> Array:
        """Rowids of the documents that a filter chooses, ``[n]`` int64 ascending."""
        ...

    def read_vectors(self, rowids: Sequence[int] | Array) -> Vectors:
        """Vectors of rows, in the order given."""
        ...

    def add(self, batch: Iterable[Record], on_duplicate: Literal["error", "replace", "skip"] = "error") -> Added:
        """Add documents in one atomic commit."""
        ...

    def keep_calibration(self, calibration: Mapping[str, Any], *, again: bool) -> None:
        """Keep a calibration in the manifest, unless there is one and it is not ``again``."""
        ...
