"""Search in one commit of a store, where filter, vectors and documents belong together, in two stages.

Anchors (and words) choose candidates; their hybrid scores are computed straight from the codes.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

import numpy as np

from ...core.late import token_shares, weighted_parts
from ...core.scoring import Scoring
from ...core.vectors import unit_rows
from ...embeddings import SmartEmbeddings
from ...errors import IndexDamagedError, SmartError, SmartWarning
from ...locks import ForkLock
from ...threads import in_threads, one_blas_thread, thread_count
from ...types import Array, is_counted_elsewhere
from ..codec.base import Codec, QueryTables, together
from ..encoder import IndexEncoder
from ..mirror.mirror import Mirror
from ..mirror.snapshot import Filters, Selection, Snapshot
from ..store.lexical import WordCounts
from ..store.store import Store
from ..store.where import Exists, Expression, OfKinds, keys_of, parse
from .boosts import AddedPart, Boosts, boost
from .device import DeviceSearch
from .first_stage import all_cosines, best_places, by_cosine, candidates, exact_cosines, nearest
from .hits import Hit, Hits
from .options import Refinements, SearchOptions, check_options

# Anchors find 99 % of the exact hybrid's first ten within so many candidates (benchmarks/results/index_quality.json).
DEFAULT_CANDIDATES = 400
# Products of query and document tokens up to which everything is scored: some 20 ms on one core.
EXHAUSTIVE_PRODUCTS = 8_000_000
# Candidates, or products, scored between two checks of the deadline, whichever are more: usual searches are scored in
# one part, and so have the last bits of the same search without a deadline.
_AT_ONCE, _PRODUCTS_AT_ONCE = 256, EXHAUSTIVE_PRODUCTS
# Candidates scored together without a deadline: their anchors are 100 MB at 384 dimensions.
_MOST_AT_ONCE = 65_536
# Cosines of queries with anchors that are kept together: 64 MB.
_COSINES_AT_ONCE = 16_000_000
# Both chosen on four collections (benchmarks/results/lexical_weight.json), where wide ranges of them do as well: the
# weight of the lexical part where none is given, and the BM25 from which on a query's best passage counts in full.
LEXICAL_WEIGHT = 3.0
FULL_BM25 = 30.0


class CollectionWords(NamedTuple):
    """What one query's BM25 in all shards of an index goes by: what was counted, and the best score."""

    counts: WordCounts
    best: float


@dataclass(frozen=True)
class Settings:
    """How to score; see :meth:`~smart_retrieval.index.smart_index.SmartIndex.search`."""

    k: int
    candidates: int = DEFAULT_CANDIDATES
    exact: bool = False
    scoring: Scoring = field(default_factory=Scoring)
    lexical_weight: float = 0.0
    refinements: Refinements = field(default_factory=Refinements)
    deadline: float | None = None  # time.perf_counter() at which scoring stops
    anchor_spread: float = 0.0  # of the index's calibration, the unit of the lexical part
    device: str = "cpu"  # where everything is scored, if it is
    words: Mapping[str, CollectionWords] | None = None  # by the query's text, where this index is a part of a whole
    like: Array | None = None  # [n, Da], each query's best hit in the whole, for the feedback

    def __post_init__(self) -> None:
        if self.k < 0 or self.candidates < 1:
            raise SmartError(
                f"search: found k={self.k} and candidates={self.candidates}, expected k of 0 or more and 1 candidate "
                "or more"
            )


def settings_of(options: SearchOptions, scoring: Scoring, anchor_spread: float) -> Settings:
    """How one document is scored under a search's options."""
    check_options(options)
    candidates, exact = options.get("candidates", DEFAULT_CANDIDATES), options.get("exact", False)
    refinements = Refinements(options.get("feedback", 0.0), options.get("neighbours", 0.0))
    weight = options.get("lexical_weight", 0.0)
    return Settings(1, candidates, exact, scoring, weight, refinements, anchor_spread=anchor_spread)


@dataclass(frozen=True)
class Scored:
    """Scores of candidates, all ``[n]``; positions are the snapshot's."""

    positions: Array
    scores: Array
    anchor: Array
    late: Array
    lexical: Array
    searched: int
    partial: bool
    boosts: Boosts = field(default_factory=Boosts)
    left_out: int = 0  # documents that were scored on a GPU and are no hits


class Searcher:
    """Runs searches over a store's newest commit."""

    def __init__(self, store: Store, encoder: IndexEncoder) -> None:
        self.store = store
        self._encoder = encoder
        self._mirror: Mirror | None = None
        self._pid = os.getpid()
        self._filters = Filters()
        self._devices: dict[str, DeviceSearch] = {}
        self._lock = ForkLock()

    def close(self) -> None:
        """Unmap the files."""
        if self._mirror is not None:
            self._mirror.close()
            self._mirror = None
        self._devices.clear()

    def mirror(self) -> Mirror:
        """The mapped files, made when they are first needed."""
        with self._lock.held:  # other threads would write the same files
            if self._mirror is None or self._pid != os.getpid():  # a thread of the parent may have been changing it
                self._filters, self._pid = Filters(), os.getpid()
                self._mirror = Mirror(self.store)
            return self._mirror

    def load(self) -> None:
        """Read what a search needs beside the model: the codec, and the mapped files."""
        with self.store.reading():
            self._encoder.codec()
            self.mirror().snapshot()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Reads the codec in a thread, beside the model, if nothing was searched for yet; it has ended afterwards."""
        if self._mirror is not None:
            yield
            return

        def load() -> None:
            with suppress(Exception):  # the search meets it, too
                self._encoder.codec()

        beside = threading.Thread(target=load, name="smart-load", daemon=True)
        beside.start()
        try:
            yield
        finally:  # else the index could be closed while it is read
            beside.join()

    def search(
        self, queries: SmartEmbeddings, texts: Sequence[str] | None, settings: Settings, *, where: str | None = None
    ) -> list[Hits]:
        """Search for each query by itself; the texts are for the lexical part."""
        with self.store.reading():
            codec, selection = self._encoder.codec(), self._selection(where)
            with self._lock.held:
                device = self._devices.get(settings.device) or DeviceSearch(settings.device)
                self._devices[settings.device] = device
            snapshot, found = selection.snapshot, []
            # As many together as the cosines of all anchors and the lexical part take a bounded memory for.
            step = max(1, _COSINES_AT_ONCE // max(1, len(snapshot)))
            with one_blas_thread():
                for start in range(0, len(queries), step):
                    part = range(start, min(start + step, len(queries)))
                    found += self._hits_of(queries, texts, settings, part, selection, codec, device)
            nothing_passes = not selection.count and len(selection.snapshot)
            unknown = self._unknown_keys(selection.snapshot, where) if where and nothing_passes else []
        if unknown and not is_counted_elsewhere():
            keys = ", ".join(map(repr, unknown))
            warnings.warn(f"where: no document has the metadata {keys}, so none passes", SmartWarning, stacklevel=3)
        return found

    def _hits_of(
        self,
        queries: SmartEmbeddings,
        texts: Sequence[str] | None,
        settings: Settings,
        numbers: range,
        selection: Selection,
        codec: Codec,
        device: DeviceSearch,
    ) -> list[Hits]:
        """Hits of some of the queries, scored side by side."""
        snapshot, words = selection.snapshot, dict[int, Array]()
        asked = {number: queries[number] for number in numbers}
        if settings.lexical_weight and texts is not None:
            words = {number: self._lexical(snapshot, texts[number], settings) for number in numbers}
        wanted = max(settings.candidates, settings.k)
        lates, cosines = all_lates(selection, codec, queries, numbers, settings), None
        if not settings.exact and len(lates) < len(numbers):
            cosines = all_cosines(selection, queries, numbers, wanted)

        def score(number: int) -> Scored:
            like = None if settings.like is None else settings.like[number]
            own = replace(settings, scoring=own_weights(settings.scoring, queries, number), like=like)
            known = None if cosines is None else cosines[number - numbers.start], lates.get(number)
            lexical = words.get(number)
            return search_snapshot(snapshot, codec, asked[number], own, selection, lexical, device=device, known=known)

        # On a GPU they would wait for each other; the database is asked in this thread, which reads one commit of it.
        scored = in_threads(score, numbers, None if settings.device == "cpu" else 1)
        return self._hits(snapshot, scored, settings, [*asked.values()])

    def added_parts(
        self, query: SmartEmbeddings, text: str | None, settings: Settings, rowid: int, where: str | None
    ) -> tuple[AddedPart, ...]:
        """What a search adds to one document's anchor and late score, which becomes a candidate if it is none."""
        weights = (settings.lexical_weight, settings.refinements.feedback, settings.refinements.neighbours)
        if not any(weights):
            return ()
        with self.store.reading():
            selection = self._selection(where)
            snapshot = selection.snapshot
            found = snapshot.positions([rowid])
            own = selection.among(found[found >= 0])
            if not len(own):
                (name,) = self.store.ids_of(np.array([rowid]))
                raise SmartError(f"document {name!r}: found one that does not pass the filter, expected one that does")
            words = self._lexical(snapshot, text or "", settings) if settings.lexical_weight else None
            scored = search_snapshot(snapshot, self._encoder.codec(), query, settings, selection, words, own)
            place, boosts = int(np.flatnonzero(scored.positions == own[0])[0]), scored.boosts

            def ids(places: list[int]) -> tuple[str, ...]:
                return tuple(str(name) for name in self.store.ids_of(snapshot.rowids_at(scored.positions[places])))

            parts = []
            if weights[0]:
                parts.append(AddedPart("lexical", weights[0], float(scored.lexical[place])))
            if boosts.feedback is not None:
                parts.append(AddedPart("feedback", weights[1], float(boosts.feedback[place]), ids([boosts.best])))
            if boosts.neighbours is not None and boosts.near is not None:
                near = [int(one) for one in boosts.near[place] if one >= 0]
                parts.append(AddedPart("neighbours", weights[2], float(boosts.neighbours[place]), ids(near)))
            return tuple(parts)

    def _selection(self, where: str | None) -> Selection:
        """What the filter lets through of the commit that is read."""
        snapshot = self.mirror().snapshot()
        if snapshot.commit != self.store.state().number:
            # Another thread brought the mirror up to a commit that this transaction does not see yet.
            return Selection(snapshot, self.store.select(where))
        return snapshot.everything if where is None else self._filters.get(snapshot, where, self.mirror().select)

    def _unknown_keys(self, snapshot: Snapshot, where: str | Expression | OfKinds) -> list[str]:
        """Metadata keys of a filter that no document has, as they are written in it."""
        fields = dict.fromkeys(keys_of(parse(where) if isinstance(where, str) else where))
        return [".".join(one.path) for one in fields if not self.mirror().select(snapshot, Exists(one)).count]

    def _lexical(self, snapshot: Snapshot, text: str, settings: Settings) -> Array:
        """The lexical part of the score at all positions, ``[N]`` float32; 0 without any of the query's words."""
        counts, best = (settings.words or {}).get(text, (None, 0.0))
        rowids, bm25 = self.store.bm25_scores(text, counts)
        positions, lexical = snapshot.positions(rowids), np.zeros(len(snapshot), np.float32)
        lexical[positions[positions >= 0]] = lexical_scores(bm25, settings.anchor_spread, best)[positions >= 0]
        return lexical

    def _hits(
        self, snapshot: Snapshot, scored: Sequence[Scored], settings: Settings, queries: Sequence[SmartEmbeddings]
    ) -> list[Hits]:
        """Hits of several queries, whose documents are read together."""
        tops = [best_places(one.scores, settings.k) if settings.k else np.zeros(0, np.int64) for one in scored]
        if sum(map(len, tops)) > 2 * settings.k * len(tops):  # too many ties to read all of their documents
            names = iter(self.store.ids_of(_rowids(snapshot, scored, tops)))
            for number, (one, best) in enumerate(zip(scored, tops, strict=True)):
                own = [name or "" for name in islice(names, len(best))]
                ranked = sorted(zip((-one.scores[best]).tolist(), own, best.tolist(), strict=True))
                tops[number] = np.array([place for _, _, place in ranked[: settings.k]], np.int64)
        documents = iter(self.store.get(rowids=_rowids(snapshot, scored, tops)))
        found = list[Hits]()
        for one, best, query in zip(scored, tops, queries, strict=True):
            boosts, like = one.boosts, None
            pairs = zip(best.tolist(), islice(documents, len(best)), strict=True)
            chosen = sorted(pairs, key=lambda pair: (-one.scores[pair[0]], pair[1].id))[: settings.k]
            hits = tuple(
                Hit.of(
                    document,
                    one.scores[place],
                    one.anchor[place],
                    one.late[place],
                    lexical=float(one.lexical[place]) if settings.lexical_weight else None,
                    **boosts.at(place),
                )
                for place, document in chosen
            )
            if boosts.feedback is not None:
                (like,) = self.store.ids_of(snapshot.rowids_at(one.positions[[boosts.best]]))
            found.append(Hits(hits, len(one.positions) + one.left_out, one.searched, one.partial, query, like))
        return found


def _rowids(snapshot: Snapshot, scored: Sequence[Scored], places: Sequence[Sequence[int] | Array]) -> Array:
    """Rowids of places in what was scored for each query, one after another."""
    positions = [one.positions[np.asarray(own, np.int64)] for one, own in zip(scored, places, strict=True)]
    return snapshot.rowids_at(np.concatenate([np.zeros(0, np.int64), *positions]))


def own_weights(scoring: Scoring, queries: SmartEmbeddings, number: int) -> Scoring:
    """The scoring with one query's part of weights that are given as numbers for all."""
    weights = scoring.query_weights
    if weights is None or hasattr(weights, "weights"):
        return scoring
    values = np.asarray(weights)
    if values.shape != (len(queries.token_vectors),):
        return scoring  # refused, with its reason, where it is used
    own: Array = values[queries.offsets[number] : queries.offsets[number + 1]]
    return replace(scoring, weights=own)


def search_snapshot(
    snapshot: Snapshot,
    codec: Codec,
    query: SmartEmbeddings,
    settings: Settings,
    selection: Selection,
    words: Array | None = None,
    also: Array | None = None,
    device: DeviceSearch | None = None,
    known: tuple[Array | None, Array | None] = (None, None),
) -> Scored:
    """Score one query, by itself, so that a batch gives what its queries give alone.

    ``words`` is the lexical part at all positions; the positions ``also`` are scored in any case. On a ``device``, if
    everything is scored, documents that cannot be hits may be left out. ``known`` are the query's part of
    :func:`all_cosines` and of :func:`all_lates`.
    """
    wanted = max(settings.candidates, settings.k)
    products = _products(selection, len(query.token_vectors))
    whole = settings.exact or selection.count <= wanted or products <= EXHAUSTIVE_PRODUCTS
    asked, added = unit_rows(query.anchors)[0], settings.refinements
    cosines, late = known
    boosted, scored = bool(added.feedback or added.neighbours), None
    if whole and device is not None and not (device.asked == "auto" and settings.deadline is not None):
        best = settings.k if words is None and not boosted else None
        scored = _score_on(device, snapshot, codec, query, settings, selection.positions, words, best)
    if scored is None:
        if whole:
            chosen, anchor = selection.positions, exact_cosines(snapshot, asked, selection.positions)
            at_once = _at_once(snapshot, len(query.token_vectors), settings)
            if settings.deadline is not None and at_once < len(chosen):  # the best first
                chosen, anchor = by_cosine(chosen, anchor)
        else:
            found = np.zeros(0, np.int64)
            if words is not None:
                found = selection.among(np.flatnonzero(words))
                found = found[np.lexsort((found, -words[found]))[:wanted]]
            found = found if also is None else np.union1d(found, also)
            chosen, anchor = candidates(snapshot, query, selection, wanted, found, cosines)
        if late is None:
            scored = _score(snapshot, codec, query, settings, chosen, anchor, words)
        else:
            scored = _combined(settings, chosen, anchor, late, words, False)
    if not boosted or not len(scored.scores):
        return replace(scored, searched=selection.count)
    scored = _joined(scored)
    if added.feedback and not whole and not scored.partial:
        # What lies near the best hit is found by its anchor, not by the query's.
        like = settings.like
        if like is None:
            like = snapshot.anchors_at(scored.positions[[int(np.argmax(scored.scores))]])[0]
        near = np.setdiff1d(nearest(snapshot, like, selection, wanted)[0], scored.positions)
        more = _score(snapshot, codec, query, settings, near, exact_cosines(snapshot, asked, near), words)
        scored = _joined(scored, more)
    positions = scored.positions
    scores, boosts = boost(
        scored.scores,
        added.feedback,
        added.neighbours,
        lambda place: exact_cosines(
            snapshot, snapshot.anchors_at(positions[[place]])[0] if settings.like is None else settings.like, positions
        ),
        lambda places: snapshot.anchors_at(positions[places]),
    )
    return replace(scored, scores=scores, boosts=boosts, searched=selection.count)


def _score(
    snapshot: Snapshot,
    codec: Codec,
    query: SmartEmbeddings,
    settings: Settings,
    chosen: Array,
    anchor: Array,
    words: Array | None,
) -> Scored:
    """The hybrid's scores of these positions, whose anchors' cosines are known."""
    late, done = late_stage(snapshot, codec, query, chosen, settings)
    return _combined(settings, chosen[:done], anchor[:done], late[:done], words, done < len(chosen))


def _score_on(
    device: DeviceSearch,
    snapshot: Snapshot,
    codec: Codec,
    query: SmartEmbeddings,
    settings: Settings,
    positions: Array,
    words: Array | None,
    best: int | None,
) -> Scored | None:
    """:func:`_score` on a device, of all positions or those of the best scores; None where it does not do that."""
    tokens, scoring = np.asarray(query.token_vectors, np.float32), settings.scoring
    asked = tokens, token_shares(query, scoring.query_weights), unit_rows(query.anchors)[0]
    found = device.score(snapshot, codec, asked, scoring, positions, best)
    if found is None:
        return None
    scored = _combined(settings, positions[found.places], found.anchor, found.late, words, False)
    return replace(scored, left_out=len(positions) - len(scored.positions))


def _combined(
    settings: Settings, chosen: Array, anchor: Array, late: Array, words: Array | None, partial: bool
) -> Scored:
    scores = settings.scoring.combine(anchor, late)
    lexical = np.zeros(len(chosen), np.float32)
    if words is not None:
        lexical = words[chosen]
        scores = scores + np.float32(settings.lexical_weight) * lexical
    return Scored(chosen, scores, anchor, late, lexical, 0, partial)


def _joined(*parts: Scored) -> Scored:
    """All together in the order of their positions, so that ties do not depend on how each was found."""
    positions = np.concatenate([part.positions for part in parts])
    order = np.argsort(positions)

    def joined(name: str) -> Array:
        values: Array = np.concatenate([getattr(part, name) for part in parts])[order]
        return values

    scores, anchor, late, lexical = (joined(name) for name in ("scores", "anchor", "late", "lexical"))
    return Scored(positions[order], scores, anchor, late, lexical, 0, any(part.partial for part in parts))


def all_lates(
    selection: Selection, codec: Codec, queries: SmartEmbeddings, numbers: Sequence[int], settings: Settings
) -> dict[int, Array]:
    """Late scores of several queries with all that may be found, ``[n]`` float32 each by the query's number.

    Of those for which everything is scored: what they need in common of the documents is computed once.
    """
    if len(numbers) < 2 or settings.device != "cpu" or not settings.scoring.lambda_late:
        return {}
    lengths = {number: int(queries.lengths[number]) for number in numbers}
    products = {number: _products(selection, tokens) for number, tokens in lengths.items()}
    chosen = [
        number
        for number, tokens in lengths.items()
        if 0 < products[number] <= EXHAUSTIVE_PRODUCTS
        and _at_once(selection.snapshot, tokens, settings) >= selection.count
    ]
    most = EXHAUSTIVE_PRODUCTS // thread_count()
    groups = [chosen[part] for part in together([int(products[number]) for number in chosen], most)]

    def score(group: list[int]) -> list[Array]:
        asked = [queries[number] for number in group]
        scorings = [own_weights(settings.scoring, queries, number) for number in group]
        return _lates(selection.snapshot, codec, asked, scorings, selection.positions)

    scored = in_threads(score, groups)
    return {
        number: late
        for group, lates in zip(groups, scored, strict=True)
        for number, late in zip(group, lates, strict=True)
    }


def _products(selection: Selection, query_tokens: int) -> float:
    """How many products of a query's tokens with those that may be found there are, from the mean of all documents."""
    snapshot = selection.snapshot
    tokens = sum(len(segment.codes) for segment in snapshot.segments)
    return tokens * selection.count / max(1, len(snapshot)) * query_tokens


def lexical_scores(bm25: Array, spread: float, best: float = 0.0) -> Array:
    """The lexical part of scores, float32: ``spread * s / max(best s, 30)`` of each BM25 s; the last axis is documents.

    The best is the query's in the whole index: long queries get no more than short ones, and neither a filter nor the
    number of candidates changes what a document gets. A best below 30 comes from few words, or from such that many
    passages hold, and counts for less. Of a part of an index, ``best`` is that of the whole.
    """
    most = np.max(bm25, axis=-1, keepdims=True, initial=max(best, FULL_BM25))
    part: Array = (bm25 / most * spread).astype(np.float32)
    return part


def late_stage(
    snapshot: Snapshot, codec: Codec, query: SmartEmbeddings, chosen: Array, settings: Settings
) -> tuple[Array, int]:
    """Late scores of positions ``[n]`` float32, and how many of them were done before the deadline."""
    late = np.zeros(len(chosen), np.float32)
    scoring = settings.scoring
    if not scoring.lambda_late or not len(query.token_vectors):
        return late, len(chosen)
    step = _at_once(snapshot, len(query.token_vectors), settings)
    for start in range(0, len(chosen), step):
        # The first part is always scored: some hits after the deadline are better than none.
        if start and settings.deadline is not None and time.perf_counter() > settings.deadline:
            return late, start
        part = slice(start, start + step)
        (late[part],) = _lates(snapshot, codec, [query], [scoring], chosen[part])
    return late, len(chosen)


def _at_once(snapshot: Snapshot, query_tokens: int, settings: Settings) -> int:
    """Documents scored together, and between two looks at the deadline."""
    if settings.deadline is None:
        return _MOST_AT_ONCE
    tokens = sum(len(segment.codes) for segment in snapshot.segments) * query_tokens
    return min(_MOST_AT_ONCE, max(_AT_ONCE, _PRODUCTS_AT_ONCE * len(snapshot) // max(1, tokens)))


def _lates(
    snapshot: Snapshot, codec: Codec, queries: Sequence[SmartEmbeddings], scorings: Sequence[Scoring], positions: Array
) -> list[Array]:
    """Late scores of each query, ``[n]`` float32 each."""
    tokens = np.concatenate([np.asarray(query.token_vectors, np.float32) for query in queries])
    offsets = np.cumsum([0, *(len(query.token_vectors) for query in queries)])
    best = _best_similarities(snapshot, codec, codec.prepare(tokens, offsets), positions)
    found = []
    for query, scoring, start, stop in zip(queries, scorings, offsets, offsets[1:], strict=False):
        shares = token_shares(query, scoring.query_weights)
        late: Array = weighted_parts(best[start:stop], shares, scoring.late_floor).sum(axis=0)
        if np.isnan(late).any():
            raise IndexDamagedError("found codes or anchors that are not numbers; run verify, then restore a copy")
        found.append(late)
    return found


def _best_similarities(snapshot: Snapshot, codec: Codec, tables: QueryTables, positions: Array) -> Array:
    """``[Tq, n]`` best similarities, read from the mapped codes of each segment."""
    best = np.empty((len(tables.queries), len(positions)), np.float32)
    parts = list(snapshot.by_segment(positions))
    if len(parts) > 1 and codec.shares_products:
        # In one call, so that the scores do not change when the tail becomes part of the base.
        codes, offsets = snapshot.codes_at(positions)
        anchors = snapshot.anchors_at(positions) if codec.anchor_dim is not None else None
        best[:] = codec.best_similarities(tables, codes, offsets, anchors=anchors)
        return best
    for segment, here, rows in parts:
        found = codec.best_similarities(
            tables,
            segment.codes,
            segment.offsets[rows],
            segment.offsets[rows + 1],
            anchors=segment.anchors_of(rows) if codec.anchor_dim is not None else None,
        )
        if len(parts) == 1:
            return np.ascontiguousarray(found)
        best[:, here] = found
    return best
