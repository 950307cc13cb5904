"""What a search gives back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Unpack

from ...embeddings import SmartEmbeddings
from ...inputs import is_one_item
from ...templates import render
from ..store.pictures import Media
from ..store.records import Document

if TYPE_CHECKING:
    from .options import SearchOptions


@dataclass(frozen=True)
class Hit:
    """One document found.

    Args:
        id: Its id.
        score: The sum of its parts: ``lambda_anchor * anchor + lambda_late * late``, and ``lexical_weight * lexical``,
            ``feedback * feedback``, ``neighbours * neighbours`` where the search weighs these.
        anchor: Cosine of the anchors.
        late: Late interaction score; 0 where ``lambda_late`` is 0, as it is not computed then.
        lexical: BM25, divided by the query's best in the index (by 30, if that is less) and times the spread of the
            anchors' cosines, if the search weighs it.
        text: The passage.
        source: File it came from.
        page: Its page there, from 1.
        heading: Its heading path.
        metadata: What was stored with it.
        media: The picture it is: an image, a page, a video, sound; None for text. Its thumbnail is read on access.
        feedback: Cosine of its anchor with that of the best hit, if the search weighs it.
        neighbours: Mean score of the three nearest hits by anchor before anything was added, if the search weighs it;
            0 beyond the first 400 hits.
        rerank: The reranker's score, if the search has one and it saw the hit. Hits with one come first, in its order.
    """

    id: str
    score: float
    anchor: float
    late: float
    lexical: float | None = None
    text: str = ""
    source: str | None = None
    page: int | None = None
    heading: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    media: Media | None = None
    feedback: float | None = None
    neighbours: float | None = None
    rerank: float | None = None

    @classmethod
    def of(
        cls,
        document: Document,
        score: float,
        anchor: float,
        late: float,
        *,
        lexical: float | None = None,
        feedback: float | None = None,
        neighbours: float | None = None,
    ) -> Hit:
        """A stored document with its scores."""
        one = document
        found = (one.text, one.source, one.page, one.heading, one.metadata, one.media)
        return cls(one.id, float(score), float(anchor), float(late), lexical, *found, feedback, neighbours)

    @property
    def kind(self) -> str:
        """``"text"``, ``"image"``, ``"page"``, ``"video"`` or ``"audio"``."""
        return self.media.kind if self.media is not None else "text"

    def to_dict(self, *, thumbnails: bool = False) -> dict[str, Any]:
        """JSON-able.

        Args:
            thumbnails: Add a picture's thumbnail, in Base64.
        """
        found = {part.name: getattr(self, part.name) for part in fields(self)}
        media = self.media.to_dict(thumbnail=thumbnails) if self.media is not None else None
        return {**found, "metadata": dict(self.metadata), "media": media, "kind": self.kind}


@dataclass(frozen=True)
class Hits(Sequence[Hit]):
    """The hits of one query, best first: by score, ties by id; with a reranker, those it saw before the others.

    Args:
        hits: The hits.
        candidates: Documents whose token codes were scored.
        searched: Documents that passed the filter.
        partial: Whether the deadline ended the scoring before all candidates were done.
        query: The encoded query, for :meth:`~smart_retrieval.SmartIndex.explain`.
        best: Id of the best hit of the hybrid, which ``feedback`` compares all others with.
    """

    hits: tuple[Hit, ...]
    candidates: int
    searched: int
    partial: bool = False
    query: SmartEmbeddings | None = field(default=None, repr=False, compare=False)
    best: str | None = None

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, key: Any) -> Any:
        return self.hits[key]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        return render("smart_retrieval.index.search", "hits.html.j2", hits=self.hits)

    def group_by_source(self) -> dict[str, list[Hit]]:
        """Hits by file (by id where there is none), files in the order of their best passage.

        Example:
            >>> found = Hits((Hit("a#1", 2, 1, 1, source="a"), Hit("b#1", 1, 1, 0, source="b")), 2, 2)
            >>> list(found.group_by_source())
            ['a', 'b']
        """
        groups: dict[str, list[Hit]] = {}
        for hit in self.hits:
            groups.setdefault(hit.source or hit.id, []).append(hit)
        return groups

    def to_dict(self, *, thumbnails: bool = False) -> dict[str, Any]:
        """JSON-able.

        Args:
            thumbnails: Add pictures' thumbnails, in Base64.
        """
        return {
            "hits": [hit.to_dict(thumbnails=thumbnails) for hit in self.hits],
            "candidates": self.candidates,
            "searched": self.searched,
            "partial": self.partial,
            **({} if self.best is None else {"best": self.best}),
        }


class SearchesMany:
    """An index of whatever kind: what all of them do by their ``search``."""

    search: Any

    def search_many(
        self, queries: Sequence[Any] | SmartEmbeddings, k: int = 10, **options: Unpack[SearchOptions]
    ) -> list[Hits]:
        """:meth:`search` for several queries, with the same options: always a list."""
        if not isinstance(queries, SmartEmbeddings) and is_one_item(queries):
            queries = [queries]
        found: list[Hits] = self.search(queries, k, **options)
        return found
