"""SmartReranker: the hybrid score for people who have a first stage of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..core.calibration import Calibration
from ..core.collection import CollectionStatistics
from ..core.roles import kept_rows
from ..core.scoring import Scoring
from ..core.weights import IdfWeights
from ..embeddings import SmartEmbeddings
from ..errors import EmptyInputError, ScoringError
from ..inputs import item_of
from ..types import Array
from .codec.base import Codec
from .codec.factory import fit_codec
from .encoder import OneQuery, decode_vectors, load_model
from .search.payloads import PartScores, check_shapes, score_codes
from .store.records import Vectors
from .text.folding import clean_item, fold_item

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel
    from .smart_index import SmartIndex


@dataclass(frozen=True)
class Ranked:
    """A document in its place.

    Args:
        position: Where it stood among those given, from 0.
        score: ``lambda_anchor * anchor + lambda_late * late``.
        anchor: Cosine of the anchors.
        late: Late interaction score.
        id: Its id, where it was given by id.
    """

    position: int
    score: float
    anchor: float
    late: float
    id: str | None = None


class _ContentWeights:
    """Equal weights for what is content of a query, where there is no IDF table."""

    def weights(self, queries: SmartEmbeddings) -> Array:
        return kept_rows(queries.roles, "content").astype(np.float32)


class SmartReranker:
    """Ranks documents that another search has found: given as texts, as ids of an index, or as anchors and codes.

    With the same documents, codec and scoring, the scores are those of :meth:`SmartIndex.search`.

    Args:
        model: The model, or its name.
        codec: Reads the blobs, and codes documents that are given as texts; None for uncompressed token vectors.
        scoring: Lambdas, weights and floor; the model's when None.
        idf: IDF weights of the collection, for ``weights="idf"``; without them all content of a query weighs the same.
        calibration: Late weight and floor of the collection, where the scoring asks for them; measured on the documents
            of each call where neither this nor the model has them.

    Example:
        >>> reranker = SmartReranker("minilm")  # doctest: +SKIP
        >>> texts = ["Oak logs burn slowly.", "Log files rotate nightly."]  # doctest: +SKIP
        >>> [ranked.position for ranked in reranker.rerank("rotate the logs", texts)]  # doctest: +SKIP
        [1, 0]
    """

    def __init__(
        self,
        model: SmartModel | str,
        codec: Codec | None = None,
        *,
        scoring: Scoring | None = None,
        idf: IdfWeights | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self._model = load_model(model) if isinstance(model, str) else model
        self._index: SmartIndex | None = None
        empty = SmartEmbeddings(np.zeros((1, 1)), np.zeros((1, self._model.token_dim)), [0, 1])
        #: What reads and writes codes.
        self.codec: Codec = codec if codec is not None else fit_codec("float32", empty)
        if self.codec.token_dim != self._model.token_dim:
            raise ScoringError(
                f"found a codec of {self.codec.token_dim} dimensions and a model of {self._model.token_dim}, expected "
                "the codec that was fitted to this model's token vectors"
            )
        self._scoring = scoring or self._model.preset.scoring
        self._idf, self._calibration = idf, calibration or self._model.calibration

    @classmethod
    def from_index(cls, index: SmartIndex, *, scoring: Scoring | None = None) -> Self:
        """One with an index's model, codec, IDF weights and calibration as they are now; takes ``ids``, too."""
        scoring = scoring or index.preset.scoring
        found = cls(index.model, index.codec(), scoring=scoring, idf=index.idf(), calibration=index.calibration())
        found._index = index
        return found

    def score(self, query: OneQuery | SmartEmbeddings, anchors: ArrayLike, blobs: Sequence[bytes]) -> PartScores:
        """Score documents straight from the codes that lie beside their anchors in some store.

        Args:
            query: A text, an image, an item, or one encoded query.
            anchors: ``[n, Da]`` float, the documents' anchors. Of any length: only their direction counts.
            blobs: Their blobs, from :meth:`Codec.encode_blobs` with this codec.

        Returns:
            ``hybrid``, ``anchor`` and ``late``, ``[n]`` float32 each.

        Raises:
            CodecError: A blob is damaged or of another codec.
            ScoringError: Anchors or query do not fit.
        """
        found = self.codec.read_blobs(blobs)
        vectors = Vectors(np.arange(len(blobs)), np.asarray(anchors, np.float32), *found)
        return self._scored(query, vectors, lambda: decode_vectors(self.codec, vectors))

    def rerank(
        self,
        query: OneQuery | SmartEmbeddings,
        documents: Sequence[Any] | SmartEmbeddings | None = None,
        *,
        ids: Sequence[str] | None = None,
        anchors: ArrayLike | None = None,
        k: int | None = None,
    ) -> list[Ranked]:
        """Rank documents by their hybrid scores.

        Args:
            query: A text, an image, an item, or one encoded query.
            documents: Texts, images or items; encoded documents; or blobs, with their ``anchors``.
            ids: Instead, documents of the index that this was made from.
            anchors: ``[n, Da]``, of blobs.
            k: The first so many; all when None.

        Returns:
            Best first; ties as they were given.

        Raises:
            EmptyInputError: The query is empty, or there is not one of ``documents`` and ``ids``.
            UnknownIdError: An id is not in the index.
            CodecError: A blob is damaged or of another codec.
        """
        if (documents is None) == (ids is None) or isinstance(documents, str):
            raise EmptyInputError("rerank: expected several documents, or ids=[...], and not both")
        if ids is not None:
            scores = self._score_ids(query, ids)
        elif isinstance(documents, SmartEmbeddings):
            scores = self._score_encoded(query, documents)
        elif documents and all(isinstance(one, bytes | bytearray | memoryview) for one in documents):
            if anchors is None:
                raise EmptyInputError("rerank: found blobs without anchors, expected anchors=[n, Da]")
            scores = self.score(query, anchors, documents)
        else:
            items = [fold_item(clean_item(item_of(one, place))) for place, one in enumerate(documents or ())]
            if not items:
                return []
            scores = self._score_encoded(query, self._model.encode_document(items, show_progress=False))
        order = np.argsort(-scores.hybrid, kind="stable")[:k].tolist()
        return [
            Ranked(
                place,
                float(scores.hybrid[place]),
                float(scores.anchor[place]),
                float(scores.late[place]),
                None if ids is None else str(ids[place]),
            )
            for place in order
        ]

    def predict(self, pairs: Sequence[tuple[Any, Any]]) -> Array:
        """Scores of pairs of query and document, as a ``CrossEncoder`` gives them: ``[n]`` float32."""
        scores = np.zeros(len(pairs), np.float32)
        for _, group in groupby(range(len(pairs)), lambda place: id(pairs[place][0])):
            places = list(group)
            for one in self.rerank(pairs[places[0]][0], [pairs[place][1] for place in places]):
                scores[places[one.position]] = one.score
        return scores

    def _score_encoded(self, query: OneQuery | SmartEmbeddings, documents: SmartEmbeddings) -> PartScores:
        anchors, codes = np.asarray(documents.anchors, np.float32), self.codec.encode_documents(documents)
        ids = np.asarray(documents.token_ids), documents.offsets
        vectors = Vectors(np.arange(len(documents)), anchors, codes, documents.offsets, *ids)
        return self._scored(query, vectors, lambda: documents)

    def _score_ids(self, query: OneQuery | SmartEmbeddings, ids: Sequence[str]) -> PartScores:
        if self._index is None:
            raise EmptyInputError("rerank: found ids, expected documents; for ids, use SmartReranker.from_index(index)")
        store = self._index.store
        with store.reading():
            vectors = store.read_vectors(store.rowids(list(ids)))
        return self._scored(query, vectors, lambda: decode_vectors(self.codec, vectors))

    def _scored(self, query: Any, vectors: Vectors, documents: Callable[[], SmartEmbeddings]) -> PartScores:
        encoded = query if isinstance(query, SmartEmbeddings) else self._encoded(query)
        check_shapes(self.codec, encoded, vectors.anchors, len(vectors.rowids))
        scoring = self._settled(documents)
        return score_codes(self.codec, encoded, vectors.anchors, vectors.codes, vectors.offsets, scoring)

    def _encoded(self, query: OneQuery) -> SmartEmbeddings:
        if self._index is not None:
            return self._index.encoder.encode_queries([query])[1]
        item = clean_item(item_of(query))
        if not item.text.strip() and item.modalities == {"text"}:
            raise EmptyInputError("found an empty query, expected some words or a picture")
        return self._model.encode_query(fold_item(item), show_progress=False)

    def _settled(self, documents: Callable[[], SmartEmbeddings]) -> Scoring:
        """The scoring in numbers."""
        scoring = self._scoring
        if self._idf is None and isinstance(scoring.weights, str) and scoring.weights == "idf":
            scoring = scoring.override(weights=_ContentWeights())

        def calibration() -> Calibration:
            return self._calibration or self._model.calibrator.statistics(documents()).calibration

        return scoring.fitted(CollectionStatistics(lambda: self._idf or IdfWeights(), calibration))
