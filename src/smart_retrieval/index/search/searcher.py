"""Search in one commit of a store, where filter, vectors and documents belong together, in two stages.

Anchors (and words) choose candidates; their hybrid scores are computed straight from the codes.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from ...core.late import token_shares, weighted_parts
from ...core.scoring import Scoring
from ...core.vectors import unit_rows
from ...embeddings import SmartEmbeddings
from ...errors import IndexDamagedError, SmartError, SmartWarning
from ...locks import ForkLock
from ...threads import in_threads, one_blas_thread
from ...types import Array, is_counted_elsewhere
from ..codec.base import Codec, QueryTables
from ..encoder import IndexEncoder
from ..mirror.arrays import release_pages
from ..mirror.mirror import Mirror
from ..mirror.snapshot import Filters, Segment, Selection, Snapshot
from ..store.lexical import WordCounts
from ..store.store import Store
from ..store.where import Exists, Expression, OfKinds, keys_of, parse
from .boosts import AddedPart, Boosts, boost
from .device import DeviceSearch
from .hits import Hit, Hits
from .options import Refinements, SearchOptions, check_options

# Anchors find 99 % of the exact hybrid's first ten within so many candidates (benchmarks/results/index_quality.json).
DEFAULT_CANDIDATES = 400
# Products of query and document tokens up to which everything is scored: some 20 ms on one core.
EXHAUSTIVE_PRODUCTS = 8_000_000
# Documents a filter lets through up to which all their anchors are read, one by one.
FEW = 4000
# Anchors copied together for exact cosines: 12 MB at 384 dimensions.
_ROWS_AT_ONCE = 8192
# Anchors multiplied together where they lie: 100 MB at 384 dimensions.
_ROWS_IN_PLACE = 65_536
# Between two ways to sum up one cosine in float32. BLAS chooses the way by where an anchor stands in the index.
_ROUNDING = 4e-6
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
        if settings.lexical_weight and texts is not None:
            words = {number: self._lexical(snapshot, texts[number], settings) for number in numbers}
        cosines = all_cosines(selection, queries, numbers, settings)

        def score(number: int) -> Scored:
            like = None if settings.like is None else settings.like[number]
            own = replace(settings, scoring=own_weights(settings.scoring, queries, number), like=like)
            near = None if cosines is None else cosines[number - numbers.start]
            asked, lexical = queries[number], words.get(number)
            return search_snapshot(snapshot, codec, asked, own, selection, lexical, device=device, cosines=near)

        # On a GPU they would wait for each other; the database is asked in this thread, which reads one commit of it.
        scored = in_threads(score, numbers, None if settings.device == "cpu" else 1)
        return [
            self._hits(snapshot, one, settings, queries[number]) for number, one in zip(numbers, scored, strict=True)
        ]

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

    def _hits(self, snapshot: Snapshot, scored: Scored, settings: Settings, query: SmartEmbeddings) -> Hits:
        best = best_places(scored.scores, settings.k) if settings.k else np.zeros(0, np.int64)
        names = [name or "" for name in self.store.ids_of(snapshot.rowids_at(scored.positions[best]))]
        ranked = sorted(zip((-scored.scores[best]).tolist(), names, best.tolist(), strict=True))[: settings.k]
        places = [place for _, _, place in ranked]
        documents = self.store.get(rowids=snapshot.rowids_at(scored.positions[places]))
        boosts = scored.boosts
        hits = tuple(
            Hit.of(
                document,
                scored.scores[place],
                scored.anchor[place],
                scored.late[place],
                lexical=float(scored.lexical[place]) if settings.lexical_weight else None,
                **boosts.at(place),
            )
            for document, place in zip(documents, places, strict=True)
        )
        like = None
        if boosts.feedback is not None:
            (like,) = self.store.ids_of(snapshot.rowids_at(scored.positions[[boosts.best]]))
        return Hits(hits, len(scored.positions) + scored.left_out, scored.searched, scored.partial, query, like)


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
    cosines: Array | None = None,
) -> Scored:
    """Score one query, by itself, so that a batch gives what its queries give alone.

    ``words`` is the lexical part at all positions; the positions ``also`` are scored in any case. On a ``device``, if
    everything is scored, documents that cannot be hits may be left out. ``cosines`` are those of :func:`all_cosines`.
    """
    wanted = max(settings.candidates, settings.k)
    tokens = sum(len(segment.codes) for segment in snapshot.segments) * selection.count / max(1, len(snapshot))
    whole = settings.exact or selection.count <= wanted or tokens * len(query.token_vectors) <= EXHAUSTIVE_PRODUCTS
    asked, added = unit_rows(query.anchors)[0], settings.refinements
    boosted, scored = bool(added.feedback or added.neighbours), None
    if whole and device is not None and not (device.asked == "auto" and settings.deadline is not None):
        best = settings.k if words is None and not boosted else None
        scored = _score_on(device, snapshot, codec, query, settings, selection.positions, words, best)
    if scored is None:
        if whole:
            chosen, anchor = selection.positions, exact_cosines(snapshot, asked, selection.positions)
            if settings.deadline is not None:  # the best first
                chosen, anchor = _sorted(chosen, anchor)
        else:
            found = np.zeros(0, np.int64)
            if words is not None:
                found = selection.among(np.flatnonzero(words))
                found = found[np.lexsort((found, -words[found]))[:wanted]]
            found = found if also is None else np.union1d(found, also)
            chosen, anchor = candidates(snapshot, query, selection, wanted, found, cosines)
        scored = _score(snapshot, codec, query, settings, chosen, anchor, words)
    if not boosted or not len(scored.scores):
        return replace(scored, searched=selection.count)
    scored = _joined(scored)
    if added.feedback and not whole and not scored.partial:
        # What lies near the best hit is found by its anchor, not by the query's.
        like = settings.like
        if like is None:
            like = snapshot.anchors_at(scored.positions[[int(np.argmax(scored.scores))]])[0]
        near = np.setdiff1d(_nearest(snapshot, like, selection, wanted)[0], scored.positions)
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


def all_cosines(
    selection: Selection, queries: SmartEmbeddings, numbers: Sequence[int], settings: Settings
) -> Array | None:
    """Cosines of several queries' anchors with those of all positions, ``[n, N]`` float32: anchors are read once.

    None where that is of no use: the first stage reads few of them, or everything is scored.
    """
    snapshot, wanted = selection.snapshot, max(settings.candidates, settings.k)
    if len(numbers) < 2 or settings.exact or selection.count <= wanted or _reads_few(selection, wanted):
        return None
    asked = unit_rows(queries.anchors[numbers[0] : numbers[-1] + 1])
    cosines = np.empty((len(asked), len(snapshot)), np.float32)
    for segment, first in zip(snapshot.segments, snapshot.starts, strict=False):
        for row in range(0, len(segment.anchors), _ROWS_AT_ONCE):
            block = segment.anchors[row : row + _ROWS_AT_ONCE]
            cosines[:, first + row : first + row + len(block)] = asked @ block.T
            release_pages(segment.anchors)
    return cosines


def _reads_few(selection: Selection, wanted: int) -> bool:
    """Whether the first stage finds the nearest anchors without reading all."""
    ann = selection.snapshot.ann
    # Beyond a tenth of all, looking at everything is the shorter way.
    return (selection.filtered and selection.count <= FEW) or (ann is not None and wanted <= ann.rows // 10)


def candidates(
    snapshot: Snapshot,
    query: SmartEmbeddings,
    selection: Selection,
    wanted: int,
    more: Array,
    cosines: Array | None = None,
) -> tuple[Array, Array]:
    """The ``wanted`` nearest anchors' positions, best first, and their exact cosines, both ``[n]``.

    The positions ``more`` become candidates, too, where they may be found.
    """
    anchor = unit_rows(query.anchors)[0]
    positions, found = _nearest(snapshot, anchor, selection, wanted, cosines)
    if len(more):
        more = np.setdiff1d(selection.among(more), positions)
        found = np.concatenate([found, exact_cosines(snapshot, anchor, more)])
        positions, found = _sorted(np.concatenate([positions, more]), found)
    return positions, found


def _nearest(
    snapshot: Snapshot, anchor: Array, selection: Selection, wanted: int, known: Array | None = None
) -> tuple[Array, Array]:
    positions = _near(snapshot, anchor, selection, wanted, known)
    positions, cosines = _sorted(positions, exact_cosines(snapshot, anchor, positions))
    return positions[:wanted], cosines[:wanted]


def _near(snapshot: Snapshot, anchor: Array, selection: Selection, wanted: int, known: Array | None) -> Array:
    """At least ``wanted`` positions, ascending, with the nearest anchors among them."""
    if selection.filtered and selection.count <= FEW:
        return selection.positions
    ann = snapshot.ann
    if ann is not None and _reads_few(selection, wanted):
        bits, count = selection.ann_mask
        found = ann.nearest(anchor, wanted, bits, count) if count else np.zeros(0, np.int64)
        if found is not None:
            newer = selection.behind(ann.rows)
            scores, margin = anchor_stage(snapshot, anchor, ann.rows)
            return np.concatenate([found, newer[best_places(scores[newer - ann.rows], wanted, margin)]])
    scores, margin = anchor_stage(snapshot, anchor) if known is None else (known, _ROUNDING)
    if selection.count < len(snapshot):
        return selection.positions[best_places(scores[selection.positions], wanted, margin)]
    return best_places(scores, wanted, margin)


def best_places(scores: Array, wanted: int, margin: float = 0.0) -> Array:
    """Places of the best scores, ascending, and of all that tie with the last of them (within a margin)."""
    if len(scores) <= wanted:
        return np.arange(len(scores))
    last = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
    return np.flatnonzero(scores >= last - np.float32(margin))


def _sorted(positions: Array, cosines: Array) -> tuple[Array, Array]:
    order = np.lexsort((positions, -cosines))
    return positions[order], cosines[order]


def anchor_stage(snapshot: Snapshot, anchor: Array, start: int = 0) -> tuple[Array, float]:
    """Cosine of a unit anchor ``[Da]`` with those of all positions from ``start`` on, ``[N - start]`` float32.

    And how much less than another's the cosine of a row may seem that is not less.
    """
    scores, margin = np.empty(max(0, len(snapshot) - start), np.float32), _ROUNDING
    for segment, first in zip(snapshot.segments, snapshot.starts, strict=False):
        anchors = segment.anchors[max(0, start - first) :]
        out = scores[max(first, start) - start :][: len(anchors)]
        coarse = segment.file.coarse() if segment.file is not None and start <= first else None
        if coarse is not None and coarse.cosines(anchor, out):
            margin = max(margin, _ROUNDING + 2 * coarse.error)
            continue

        def multiply(row: int, segment: Segment = segment, anchors: Array = anchors, out: Array = out) -> None:
            block = anchors[row : row + _ROWS_AT_ONCE]
            np.dot(block, anchor, out=out[row : row + len(block)])
            if row % _ROWS_IN_PLACE == 0:
                release_pages(segment.anchors)

        in_threads(multiply, range(0, len(anchors), _ROWS_AT_ONCE))
    return scores, margin


def exact_cosines(snapshot: Snapshot, anchor: Array, positions: Array) -> Array:
    """Cosines ``[n]`` float32 with a unit anchor ``[Da]`` that depend on the two vectors alone.

    A matrix product rounds a row by where it stands in its block: equal documents would differ in their last bit, and
    an index would rank other ties first after it was optimized.
    """
    cosines = np.empty(len(positions), np.float32)
    for start in range(0, len(positions), _ROWS_AT_ONCE):
        part = positions[start : start + _ROWS_AT_ONCE]
        cosines[start : start + _ROWS_AT_ONCE] = np.einsum("nd,d->n", snapshot.anchors_at(part), anchor)
    return cosines


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
    tables = codec.prepare(np.asarray(query.token_vectors, np.float32))
    shares = token_shares(query, scoring.query_weights)
    step = _MOST_AT_ONCE
    if settings.deadline is not None:
        tokens = sum(len(segment.codes) for segment in snapshot.segments) * len(query.token_vectors)
        step = min(step, max(_AT_ONCE, _PRODUCTS_AT_ONCE * len(snapshot) // max(1, tokens)))
    for start in range(0, len(chosen), step):
        # The first part is always scored: some hits after the deadline are better than none.
        if start and settings.deadline is not None and time.perf_counter() > settings.deadline:
            return late, start
        part = chosen[start : start + step]
        parts = weighted_parts(_best_similarities(snapshot, codec, tables, part), shares, scoring.late_floor)
        late[start : start + step] = parts.sum(axis=0)
        if np.isnan(late[start : start + step]).any():
            raise IndexDamagedError("found codes or anchors that are not numbers; run verify, then restore a copy")
    return late, len(chosen)


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
