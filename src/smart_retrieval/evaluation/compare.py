"""Beside what else could be used: anchor, BM25, their fusions, SMART, and SMART with BM25 as a third term."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import numpy as np

from ..core.hybrid import anchor_scores
from ..core.late import late_scores
from ..index.search.searcher import FULL_BM25, LEXICAL_WEIGHT, lexical_scores
from ..index.store.lexical import Bm25
from ..types import Array
from .evaluate import GAIN_METRIC, EvalOptions, load_collection
from .metrics import DEPTH, mean_metrics, per_query_metrics, rank
from .results import CompareResult, GainFacts
from .significance import paired_comparison

RRF_K = 60  #: constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)

#: The systems compared, in the order of the report.
COMPARED = ("anchor", "BM25", "anchor + BM25 (RRF)", "anchor + BM25 (min-max)", "SMART", "SMART + BM25")


def compare_beir(
    folder: str | Path,
    *,
    lexical_weight: float = LEXICAL_WEIGHT,
    per_query: bool = False,
    **options: Unpack[EvalOptions],
) -> CompareResult:
    """Judge SMART beside the anchor, BM25 and the usual ways to join those two.

    Every system ranks all documents, exactly. BM25 is SQLite's FTS5, through the very code that the index uses, over
    title and text in full (the model may cut them off). The fusions see the first 1000 documents of both lists:
    reciprocal rank fusion with k = 60; or the sum of both scores, each brought to 0..1 between the list's first and
    last score, 0 where a list lacks the document. SMART + BM25 adds ``lexical_weight * spread * s / max(the
    query's best s, 30)`` to SMART's score, as the index does; the spread is the standard deviation of the anchors'
    cosines.

    Args:
        folder: A BEIR-layout folder, see `load_beir`.
        lexical_weight: Weight of the third term.
        per_query: Keep every query's metrics, for paired tests between results later.
        **options: As for `evaluate_beir`.

    Returns:
        JSON-able: ``systems`` (one for each of `COMPARED`: metrics between 0 and 1, and ``gain``: its `Comparison` with
        the anchor in nDCG@10, None for the anchor itself), ``fusion`` (the constants), and what `evaluate_beir` says
        of data, model and settings.

    Raises:
        SmartError: As for `evaluate_beir`; this Python's SQLite lacks FTS5.

    Example:
        >>> result = compare_beir("cranfield")  # doctest: +SKIP
        >>> [round(row["ndcg@10"], 3) for row in result["systems"]]  # doctest: +SKIP
        [0.427, 0.419, 0.473, 0.474, 0.475, 0.475]
    """
    collection = load_collection(folder, **options)
    data, documents, queries = collection.data, collection.documents.embeddings, collection.queries.embeddings
    scoring = collection.scoring
    rankings: dict[str, dict[str, list[str]]] = {system: {} for system in COMPARED}
    bm25, spread = Bm25(data.texts), collection.statistics.calibration.anchor_spread
    for part in collection.query_parts():
        by_anchor = anchor_scores(queries[part], documents)
        late = late_scores(queries[part], documents, weights=scoring.query_weights, floor=scoring.late_floor)
        smart = scoring.combine(by_anchor, late)
        # Left out before the lists are joined, whose first and last scores count.
        by_anchor = data.without_identical(by_anchor, part)
        words = np.where(np.isneginf(by_anchor), np.float32(0), bm25.scores(data.queries[part]))
        with_words = smart + np.float32(lexical_weight) * lexical_scores(words, spread)
        for system, scores in fused(by_anchor, words, smart, with_words, data.document_ids).items():
            rankings[system].update(data.rank(scores, DEPTH, part))
    judged = {system: per_query_metrics(data.qrels, rankings[system]) for system in COMPARED}

    def gain(system: str) -> GainFacts | None:
        if system == "anchor":
            return None
        compared = paired_comparison(judged["anchor"][GAIN_METRIC], judged[system][GAIN_METRIC])
        return {"metric": GAIN_METRIC, **compared.to_dict()}

    return {
        "systems": [{"name": system, **mean_metrics(judged[system]), "gain": gain(system)} for system in COMPARED],
        "fusion": {
            "lexical_weight": lexical_weight,
            "anchor_spread": spread,
            "full_bm25": FULL_BM25,
            "rrf_k": RRF_K,
            "depth": DEPTH,
            "bm25": f"SQLite {sqlite3.sqlite_version} FTS5, {bm25.full_text.tokenizer}",
        },
        **collection.about(judged if per_query else None),
    }


def fused(
    by_anchor: Array, words: Array, smart: Array, with_words: Array, document_ids: Sequence[str]
) -> dict[str, Array]:
    """Scores of every system of `COMPARED`: the anchor's cosines, BM25 (0: no shared word), SMART's without and with.

    All are ``[Nq, Nd]``; ``-inf`` where a list of BM25 or a fusion lacks the document. Ids break ties.
    """
    matched = np.where(words > 0, words.astype(np.float64), -np.inf)
    lists = [_first(by_anchor, document_ids), _first(matched, document_ids)]
    reciprocal = sum(np.where(places < DEPTH, 1.0 / (RRF_K + 1 + places), 0.0) for places in lists)
    spread = sum(
        _min_max(scores, places) for scores, places in zip((by_anchor.astype(np.float64), matched), lists, strict=True)
    )
    missing = np.minimum(*lists) >= DEPTH
    values = (
        by_anchor,
        matched,
        np.where(missing, -np.inf, reciprocal),
        np.where(missing, -np.inf, spread),
        smart,
        with_words,
    )
    return dict(zip(COMPARED, values, strict=True))


def _first(scores: Array, document_ids: Sequence[str]) -> Array:
    """Place of each document among the first `DEPTH` of each row, from 0; `DEPTH` where it is not among them."""
    column = {name: number for number, name in enumerate(document_ids)}
    places = np.full(scores.shape, DEPTH, np.int64)
    for row, listed in zip(places, rank(scores, document_ids, DEPTH), strict=True):
        row[[column[name] for name in listed]] = np.arange(len(listed))
    return places


def _min_max(scores: Array, places: Array) -> Array:
    """Scores brought to 0..1 over the documents listed; 0 for the others, 1 for all where they are equal."""
    listed = places < DEPTH
    least = np.where(listed, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    most = np.where(listed, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    scaled = np.zeros(scores.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        np.divide(scores - least, most - least, out=scaled, where=listed & (most > least))
    scaled[listed & (most == least)] = 1.0
    return scaled
