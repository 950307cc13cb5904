"""Encodes documents and stores them: what SmartIndex and a run over a folder write with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from ...embeddings import SmartEmbeddings
from ...errors import EmbeddingsError, IndexMismatchError
from ...types import Array
from ..codec.pooling import pool_tokens
from ..codec_fitting import FitPolicy
from ..document_store import DocumentStore
from ..encoder import IndexEncoder
from ..store.anchors import rounded_anchors
from ..store.manifest import Manifest
from ..store.pictures import Media, place_grids
from ..store.records import Record
from ..store.store import Store
from .new_documents import BATCH_WEIGHT, NewDocument, batches


class DocumentWriter:
    """Writes documents into a store, with codes of its codec."""

    def __init__(self, store: DocumentStore, encoder: IndexEncoder) -> None:
        self._store = store
        self.encoder = encoder

    def add(
        self,
        documents: Iterable[NewDocument],
        embeddings: SmartEmbeddings | None,
        on_duplicate: Literal["error", "replace", "skip"],
    ) -> list[str]:
        """Add documents in batches of one commit each, encoded here unless they are already; their ids."""
        done: list[str] = []
        for batch in batches(documents, BATCH_WEIGHT):
            if embeddings is None:
                items = [self.encoder.folded(document.item) for document in batch]
                encoded = self.encoder.document_model().encode_document(items, show_progress=False)
            else:
                encoded = embeddings[len(done) : len(done) + len(batch)]
            self.add_encoded(batch, encoded, on_duplicate)
            done.extend(document.id for document in batch)
        return done

    def add_encoded(
        self,
        documents: Sequence[NewDocument],
        encoded: SmartEmbeddings,
        on_duplicate: Literal["error", "replace", "skip"],
        *,
        fit: bool = True,
    ) -> None:
        """Add encoded documents in one commit, and fit the codec afterwards if it is time."""
        if len(documents) != len(encoded):
            raise EmbeddingsError(f"found {len(encoded)} encodings for {len(documents)} documents, expected one each")
        self.encoder.check_widths(encoded)
        kept = _kept(encoded, self._store.manifest)
        while True:
            codes = self.encoder.codec().encode_documents(kept)
            records = list(_records(documents, encoded, kept, codes))
            generation = self._store.generation
            try:
                self._store.add(records, on_duplicate)
                break
            except IndexMismatchError:
                # Another process fitted the codec since; the codes are made again with the new one.
                self._store.reload()
                if self._store.generation == generation:
                    raise
        if fit:
            self.fit_if_due()

    def fit_if_due(self) -> None:
        """Fit the codec if it is time; here it is fitted already."""


class IndexWriter(DocumentWriter):
    """Writes documents into an index, whose codec is fitted once there are enough tokens."""

    def __init__(self, store: Store, encoder: IndexEncoder) -> None:
        super().__init__(store, encoder)
        self.store = store
        self._fit = FitPolicy(store)

    def fit_if_due(self) -> None:
        """Fit the wanted codec if the index has grown large enough for it; not to be called within a transaction."""
        self._fit.fit_if_due(self.encoder.loaded)

    def fit(self, *, from_texts: bool) -> None:
        """Fit the wanted codec if that is still to be done, or anew from all passages' texts."""
        if from_texts or self._fit.pending():
            self._fit.fit(self.encoder.document_model() if from_texts else self.encoder.loaded, from_texts=from_texts)


def _kept(encoded: SmartEmbeddings, manifest: Manifest) -> SmartEmbeddings:
    """What codes are made of: fewer tokens where they are pooled, and the anchors that they will stand beside."""
    pooled = pool_tokens(encoded, manifest.pooling) if manifest.pooling and manifest.pooling > 1 else encoded
    anchors = rounded_anchors(encoded.anchors) if manifest.anchors == "int16" else encoded.anchors
    return SmartEmbeddings(anchors, pooled.token_vectors, pooled.offsets, pooled.token_ids)


def _records(
    documents: Sequence[NewDocument], encoded: SmartEmbeddings, kept: SmartEmbeddings, codes: Array
) -> Iterator[Record]:
    """What is stored; all token ids, pooled or not, since the IDF table counts them."""
    pooled = not np.array_equal(kept.offsets, encoded.offsets)
    for i, (document, grids) in enumerate(zip(documents, encoded.grids, strict=True)):
        ids = slice(encoded.offsets[i], encoded.offsets[i + 1])
        media = document.picture.media() if document.picture is not None else None
        if media is None and grids:
            media = Media(grids[0].kind)
        if media is not None and not pooled:  # a merged token has no place
            media = replace(media, grids=place_grids(grids, encoded.roles[ids]))
        yield Record(
            document.id,
            kept.anchors[i],
            codes[kept.offsets[i] : kept.offsets[i + 1]],
            encoded.token_ids[ids],
            document.item.text,
            document.source,
            document.page,
            document.heading,
            document.metadata,
            media,
        )
