"""Search over any store: it finds near anchors, and the hybrid scores come from the codes that lie beside them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from ..core.vectors import unit_rows
from ..embeddings import SmartEmbeddings
from ..errors import SmartError
from ..index.codec.base import Codec
from ..index.mirror.files import unit_anchors
from ..index.search.boosts import AddedPart, Boosts, boost
from ..index.search.hits import Hit, Hits
from ..index.search.payloads import score_codes
from ..index.search.searcher import EXHAUSTIVE_PRODUCTS, Settings
from ..index.store.records import Vectors
from ..types import Array
from .base import Near, SearchStore, cosines, joined
from .rows import unpacked


class _Found(NamedTuple):
    """Scored documents, ``[n]`` each."""

    rowids: Array
    scores: Array
    anchor: Array
    late: Array
    anchors: Array  # [n, Da], as they are stored


@dataclass(frozen=True)
class Scored:
    """What a search of one query found."""

    rowids: Array
    scores: Array
    anchor: Array
    late: Array
    searched: int
    partial: bool
    boosts: Boosts = field(default_factory=Boosts)


def search_store(
    store: SearchStore,
    codec: Codec,
    query: SmartEmbeddings,
    settings: Settings,
    where: str | None,
    attempts: int = 10,
) -> Hits:
    """Search for one query, as :class:`~smart_retrieval.SmartIndex` does; anew if hits disappear while it goes on."""
    scored = score_store(store, codec, query, settings, where)
    # Ties at the end of the list are settled by id, so all that tie with the last are named.
    order = np.argsort(-scored.scores, kind="stable")
    if settings.k and len(order) > settings.k:
        order = np.flatnonzero(scored.scores >= scored.scores[order[settings.k - 1]])
    if len(order) > 2 * settings.k:
        names = [name or "" for name in store.ids_of(scored.rowids[order])]
        ranked = sorted(zip((-scored.scores[order]).tolist(), names, order.tolist(), strict=True))[: settings.k]
        order = np.array([place for _, _, place in ranked], np.int64)
    places = {int(scored.rowids[place]): int(place) for place in order}
    boosts = scored.boosts
    found = store.documents(list(places)) if places else []
    if len(found) < len(places) and attempts > 1:
        return search_store(store, codec, query, settings, where, attempts - 1)
    ranked_documents = sorted(found, key=lambda one: (-scored.scores[places[one.rowid]], one.id))[: settings.k]
    hits = tuple(
        Hit.of(document, scored.scores[place], scored.anchor[place], scored.late[place], **boosts.at(place))
        for document in ranked_documents
        for place in (places[document.rowid],)
    )
    best = store.ids_of(scored.rowids[[boosts.best]])[0] if boosts.feedback is not None else None
    return Hits(hits, len(scored.rowids), scored.searched, scored.partial, query, best)


def score_store(
    store: SearchStore,
    codec: Codec,
    query: SmartEmbeddings,
    settings: Settings,
    where: str | None,
    also: int | None = None,
) -> Scored:
    """Score one query's candidates, and the document ``also`` in any case."""
    wanted, state, added = max(settings.candidates, settings.k), store.state(), settings.refinements
    count = store.counted(where)
    # The rule of an index: what is small is scored whole.
    tokens = state.tokens * (count if count is not None else state.documents) / max(1, state.documents)
    whole = settings.exact or (
        count is not None and (count <= wanted or tokens * len(query.token_vectors) <= EXHAUSTIVE_PRODUCTS)
    )
    asked, boosted = unit_rows(query.anchors)[0], bool(added.feedback or added.neighbours)
    timeout = None if settings.deadline is None else settings.deadline - time.perf_counter()
    try:
        if timeout is not None and timeout <= 0.001:  # whatever an engine could find in that time
            raise TimeoutError
        near = store.near(asked, None if whole else wanted, where, exact=whole, timeout=timeout)
    except TimeoutError:
        nothing = np.zeros(0, np.float32)
        return Scored(np.zeros(0, np.int64), nothing, nothing, nothing, count or state.documents, True)
    searched = count if count is not None else near.passing
    vectors = _vectors(store, codec, near, _best(near, asked)[: None if whole else wanted])
    if also is not None and also not in vectors.rowids:
        vectors = joined([vectors, store.read_vectors([also])])
    found, partial = _scored(codec, query, vectors, settings)
    partial = partial or near.partial
    if not boosted or not len(found.scores):
        return Scored(*found[:4], searched, partial)
    found = _in_order(found)
    if added.feedback and not whole and not partial:
        # What lies near the best hit is found by its anchor, not by the query's.
        best = unit_anchors(found.anchors[[int(np.argmax(found.scores))]])[0]
        more = store.near(best, wanted, where)
        places = _best(more, best)[:wanted]
        fresh = places[~np.isin(more.rowids[places], found.rowids)]
        if len(fresh):
            vectors = _vectors(store, codec, more, fresh)
            extra, _ = _scored(codec, query, vectors, replace(settings, deadline=None))
            found = _in_order(_Found(*(np.concatenate(pair) for pair in zip(found, extra, strict=True))))
    units = unit_anchors(found.anchors)
    scores, boosts = boost(
        found.scores,
        added.feedback,
        added.neighbours,
        lambda place: np.einsum("nd,d->n", units, units[place]),
        lambda places: units[places],
    )
    return Scored(found.rowids, scores, found.anchor, found.late, searched, partial, boosts)


def added_parts(
    store: SearchStore, codec: Codec, query: SmartEmbeddings, settings: Settings, where: str | None, rowid: int
) -> tuple[AddedPart, ...]:
    """What a search adds to one document's anchor and late score, which becomes a candidate if it is none."""
    if not store.passes(rowid, where):
        (name,) = store.ids_of([rowid])
        raise SmartError(f"document {name!r}: found one that does not pass the filter, expected one that does")
    added = settings.refinements
    if not (added.feedback or added.neighbours):
        return ()
    scored = score_store(store, codec, query, settings, where, rowid)
    place, boosts, parts = int(np.flatnonzero(scored.rowids == rowid)[0]), scored.boosts, []

    def ids(places: list[int]) -> tuple[str, ...]:
        return tuple(str(name) for name in store.ids_of(scored.rowids[places]))

    if boosts.feedback is not None:
        parts.append(AddedPart("feedback", added.feedback, float(boosts.feedback[place]), ids([boosts.best])))
    if boosts.neighbours is not None and boosts.near is not None:
        near = [int(one) for one in boosts.near[place] if one >= 0]
        parts.append(AddedPart("neighbours", added.neighbours, float(boosts.neighbours[place]), ids(near)))
    return tuple(parts)


def _best(near: Near, asked: Array) -> Array:
    """The places of all, nearest first by their exact anchors."""
    places: Array = np.lexsort((near.rowids, -cosines(near.anchors, asked)))
    return places


def _vectors(store: SearchStore, codec: Codec, near: Near, places: Array) -> Vectors:
    """Some of those that were found, without their token ids."""
    rowids, blobs = near.rowids[places], [near.blobs[place] for place in places.tolist()]
    width = codec.bytes_per_token
    coded = unpacked(blobs, codec.hash, width, store.path, lambda: store.ids_of(rowids), with_ids=False)
    return Vectors(rowids, near.anchors[places], *coded)


def _scored(codec: Codec, query: SmartEmbeddings, vectors: Vectors, settings: Settings) -> tuple[_Found, bool]:
    parts = score_codes(
        codec, query, vectors.anchors, vectors.codes, vectors.offsets, settings.scoring, settings.deadline
    )
    done = len(parts.hybrid)
    return _Found(vectors.rowids[:done], *parts, vectors.anchors[:done]), done < len(vectors.rowids)


def _in_order(found: _Found) -> _Found:
    """By rowid, so that ties do not depend on how each was found."""
    order = np.argsort(found.rowids)
    return _Found(*(part[order] for part in found))
