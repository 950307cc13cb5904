"""What is read of an index for a caller, in one of the service's threads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ...core.collection import CollectionStatistics
from ...core.hybrid import hybrid_scores
from ...embeddings import SmartEmbeddings
from ...errors import FilterError, UnknownIdError
from ...index.encoder import EncodedItem
from ...index.explain.explanation import Explanation
from ...index.explain.page import render_page
from ...index.explain.png import draw_png
from ...index.explain.shown_pictures import ShownPictures, find_pictures
from ...index.search.hits import Hits
from ...index.store.pictures import Media
from ...index.store.records import Document
from ...index.store.where import And, Compare, OfKinds, parse
from ..access import Caller
from ..requests import Form, IndexInfo
from ..stored import ID, AnyIndex, Stored, having
from .messages import Messages, shown_model, shown_source

#: Kinds of documents.
KINDS = ("text", "image", "page", "video", "audio")


def info(index: AnyIndex, name: str, caller: Caller, *, writable: bool) -> IndexInfo:
    """What an index holds, as a caller sees it."""
    found, stored = index.info(), Stored(index)
    with stored.reading():
        documents = found["documents"] if caller.fixed is None else stored.count(caller.fixed)
        fields = stored.fields(caller.fixed)
        kinds: dict[str, int] = found["pictures"]
        if caller.fixed is not None:
            counts = {kind: stored.count(of_kinds(caller.fixed, [kind])) for kind in kinds}
            kinds = {kind: count for kind, count in counts.items() if count}
    model = index.encoder.loaded  # not loaded to know this
    pictures = "image" in model.modalities if model is not None else found["files_as"] == "pages"
    return IndexInfo(
        name,
        documents,
        fields,
        kinds,
        pictures,
        shown_model(str(found["model"].get("name", ""))),
        found["anchor_dim"],
        found["codec"],
        found["language"] if found["lexical"] else None,
        found["files_as"],
        found["updated"],
        writable,
        len(stored.shards),
    )


def of_kinds(within: str | None, kinds: Sequence[str]) -> str | OfKinds | None:
    """A caller's filter, for documents of certain kinds; of all when there are none.

    Raises:
        FilterError: There is no such kind.
    """
    if not kinds:
        return within
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise FilterError(f"kinds: found {unknown[0]!r}, expected one of {', '.join(KINDS)}")
    return OfKinds(tuple(kinds), within)


def explained(index: AnyIndex, query: EncodedItem, hits: Hits, until: float, **scoring: Any) -> list[Explanation]:
    """Explanations of hits, of the first ones if time is short, without what the search adds to anchor and tokens."""
    found: list[Explanation] = []
    for hit in hits:
        if time.perf_counter() > until:
            break
        with suppress(UnknownIdError):  # deleted meanwhile, in a shard that is searched in a thread of its own
            found.append(index.explain(query, hit.id, **scoring))
    return found


def shown_hits(hits: Hits, caller: Caller, *, thumbnails: bool) -> Hits:
    """Hits with ids and sources as a caller knows them."""
    shown = (
        replace(hit, id=caller.shown(hit.id), source=shown_source(hit.source), media=_apart(hit.media, thumbnails))
        for hit in hits
    )
    return replace(hits, hits=tuple(shown), best=None if hits.best is None else caller.shown(hits.best))


def shown_explanation(found: Explanation, caller: Caller) -> Explanation:
    """An explanation with ids and source as a caller knows them."""
    added = tuple(replace(part, like=tuple(caller.shown(id) for id in part.like)) for part in found.added)
    return replace(found, id=caller.shown(found.id), source=shown_source(found.source), added=added)


def with_pictures(found: Explanation, caller: Caller, messages: Messages) -> tuple[Explanation, ShownPictures]:
    """An explanation as a caller knows it, and the pictures or pages that it is shown on."""
    # Only files that the index itself has read are opened: what a document calls its source, anybody may have written.
    known = found if found.file.entry is not None else replace(found, source=None)
    pictures = find_pictures(known, found.file)
    paths = [path for path in (found.source or "", found.file.root) if path and shown_source(path) != path]
    pictures = replace(pictures, note=messages.text(messages.without_known(pictures.note, *paths)))
    return shown_explanation(found, caller), pictures


def drawn(found: Explanation, caller: Caller, form: Form, messages: Messages) -> bytes:
    """An explanation as a page or picture."""
    shown, pictures = with_pictures(found, caller, messages)
    return draw_png(shown, pictures) if form == "png" else render_page(shown, pictures).encode()


def documents(index: AnyIndex, caller: Caller, ids: Sequence[str], *, thumbnails: bool) -> list[Document]:
    """Documents by id."""
    stored = Stored(index)
    with stored.reading():
        return [_shown(document, caller, thumbnails) for document in stored.get(caller.require(stored, ids))]


def selected(
    index: AnyIndex, caller: Caller, within: str | None, after: str, k: int
) -> tuple[list[Document], str | None]:
    """Documents that pass a filter, by id, behind one; and where to go on, if there are more."""
    stored, behind = Stored(index), Compare(ID, ">", after) if after else None
    parts = [part for part in (behind, parse(within) if within else None) if part is not None]
    with stored.reading():
        ids = stored.ids(And(tuple(parts)), limit=k + 1)
        found = [_shown(document, caller, False) for document in stored.get(ids[:k])]
    return found, ids[k - 1] if len(ids) > k else None


def scores_of(index: AnyIndex, caller: Caller, query: EncodedItem, ids: Sequence[str]) -> list[float]:
    """Hybrid scores of stored documents, straight from their codes."""
    stored = Stored(index)
    with stored.reading():
        wanted = caller.require(stored, ids)
        unique = list(dict.fromkeys(wanted))
        chosen: Any = And((having(unique),))
        hits = index.search(query, len(unique), where=chosen, exact=True)
    scores = {hit.id: hit.score for hit in hits}
    if gone := [id for id in unique if id not in scores]:  # shards are searched in threads of their own
        raise UnknownIdError(f"found no document {caller.shown(gone[0])!r}")
    return [scores[id] for id in wanted]


def scores_with(index: AnyIndex, query: EncodedItem, documents: SmartEmbeddings) -> list[float]:
    """Hybrid scores of encoded texts, with the scoring of an index."""
    assert query.encoded is not None
    scoring = Stored(index).shards[0].preset.scoring.fitted(CollectionStatistics(index.idf, index.calibration))
    scores = hybrid_scores(
        query.encoded,
        documents,
        lambda_anchor=scoring.lambda_anchor,
        lambda_late=scoring.late_weight,
        weights=scoring.query_weights,
        floor=scoring.late_floor,
    )
    found: list[float] = scores[0].tolist()
    return found


def _shown(document: Document, caller: Caller, thumbnails: bool) -> Document:
    media = _apart(document.media, thumbnails)
    return replace(document, id=caller.shown(document.id), source=shown_source(document.source), media=media)


def _apart(media: Media | None, thumbnails: bool) -> Media | None:
    """What a picture is, without the index, which may be closed before anybody looks."""
    return media and replace(media, preview=media.thumbnail() if thumbnails else b"", load=None)
