"""What compression costs: quality of the hybrid against bytes, for any codecs, on a judged collection."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np

from ..core.hybrid import anchor_scores
from ..core.late import QueryWeights, late_scores, query_sums, token_shares, weighted_parts
from ..embeddings import SmartEmbeddings
from ..errors import CodecError
from ..index.codec.base import Codec
from ..index.codec.factory import fit_codec
from ..index.codec.names import SUGGESTED, parse_codec
from ..index.codec.pooling import pool_tokens
from ..index.codec_fitting import vocabulary_of
from ..index.smart_index import DEFAULT_CODEC
from ..index.store.anchors import anchor_bytes, anchors_beside
from ..types import Array
from .charts import new_figure, save_figure
from .evaluate import GAIN_METRIC, Collection, EvalOptions, load_collection
from .metrics import DEPTH, mean_metrics, per_query_metrics
from .results import CodecRow, CodecsResult, VectorsRow

#: What ``all`` stands for: every suggested codec, and half as many token vectors in float32 and in the default codec.
ALL = (*SUGGESTED, "float32/pool2", f"{DEFAULT_CODEC}/pool2")

_BLOCK = 512  # documents encoded and decoded at a time

#: Bytes a token up to which scores come straight from the codes; longer codes are decoded block by block, which for
#: many queries at once takes less time and gives the same scores but for rounding.
_LONGEST_SCORED = 64

_POOLED = re.compile(r"(?P<codec>.+)/pool(?P<factor>\d+(\.\d+)?)")


@dataclass(frozen=True)
class Setting:
    """A codec and how far token vectors are pooled before it; ``codebook+32x1/pool2`` names both."""

    name: str
    codec: str
    pooling: float = 1.0

    @classmethod
    def parse(cls, name: str) -> Setting:
        """Take a name apart."""
        match = _POOLED.fullmatch(name)
        setting = cls(name, match["codec"], float(match["factor"])) if match else cls(name, name)
        parse_codec(setting.codec)
        if setting.pooling < 1:
            raise CodecError(f"codec {name!r}: found pooling {setting.pooling:g}, expected a factor of at least 1")
        return setting


def parse_settings(names: str) -> list[Setting]:
    """Read ``all`` or codec names joined by commas."""
    if names.strip() == "all":
        return [Setting.parse(name) for name in ALL]
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    if not chosen:
        raise CodecError(f"codec: found {names!r}, expected all, or names such as {DEFAULT_CODEC},int8,float32/pool2")
    return [Setting.parse(name) for name in dict.fromkeys(chosen)]


def evaluate_codecs(
    folder: str | Path,
    *,
    codecs: str = "all",
    seed: int = 0,
    per_query: bool = False,
    **options: Unpack[EvalOptions],
) -> CodecsResult:
    """Measure the hybrid with token vectors as each codec gives them back.

    Codecs are fitted on half of the documents, drawn at random, and measured on all of them: so half of what is
    measured was not known when the codec was fitted. Anchors, queries and query-token weights stay as they are.

    Args:
        folder: A BEIR-layout folder, see `load_beir`.
        codecs: ``"all"`` (`ALL`), or names joined by commas, each a codec's name, optionally with ``/poolN`` behind it.
        seed: Draws the half, and fits the codecs.
        per_query: Keep every query's metrics, for paired tests between results later.
        **options: As for `evaluate_beir`.

    Returns:
        JSON-able: ``codecs`` (in the order given: ``name``, ``bytes_per_token``, ``tokens_per_document``,
        ``token_bytes_per_document``, ``bytes_per_document`` with the anchor, the hybrid's metrics, ``share`` of
        the uncompressed hybrid's nDCG@10, ``fit_seconds``, ``encode_seconds``), ``uncompressed`` (the same, of the
        vectors as they are), ``fit`` (documents and seed), and what `evaluate_beir` says of data, model and settings.

    Raises:
        CodecError: There is no such codec.
        SmartError: As for `evaluate_beir`.

    Example:
        >>> result = evaluate_codecs("cranfield", codecs="int8,codebook+32x1")  # doctest: +SKIP
        >>> [(row["name"], round(row["share"], 3)) for row in result["codecs"]]  # doctest: +SKIP
        [('int8', 1.0), ('codebook+32x1', 0.986)]
    """
    settings = parse_settings(codecs)
    collection = load_collection(folder, **options)
    documents = collection.documents.embeddings
    half = np.sort(np.random.default_rng(seed).permutation(len(documents))[: max(1, len(documents) // 2)])
    needs_vocabulary = any(parse_codec(setting.codec).family in ("codebook", "anchored") for setting in settings)
    vocabulary = vocabulary_of(collection.smart) if needs_vocabulary else None
    pooled: dict[float, SmartEmbeddings] = {1.0: documents}
    judged = {"uncompressed": _judge(collection, list(_blocks(documents)))}
    uncompressed = _row("uncompressed", documents, 4 * documents.token_dim, "float32", judged["uncompressed"])
    rows: list[CodecRow] = []
    for setting in settings:
        if setting.pooling not in pooled:
            # One pooled copy at a time is enough: settings of one factor usually follow one another.
            pooled = {1.0: documents, setting.pooling: pool_tokens(documents, setting.pooling)}
        kept = pooled[setting.pooling]
        start = time.perf_counter()
        codec = fit_codec(setting.codec, _blocks(kept, half), vocabulary=vocabulary, seed=seed)
        fitted = time.perf_counter()
        blocks = [_Coded(codec, block, codec.encode_documents(block)) for block in _blocks(kept)]
        encoded = time.perf_counter()
        own = judged[setting.name] = _judge(collection, blocks)
        row = _row(setting.name, kept, codec.bytes_per_token, codec.spec.family, own)
        whole = uncompressed[GAIN_METRIC]
        share = row[GAIN_METRIC] / whole if whole else None
        rows.append({**row, "fit_seconds": fitted - start, "encode_seconds": encoded - fitted, "share": share})
    return {
        "codecs": rows,
        "uncompressed": uncompressed,
        "fit": {"documents": len(half), "seed": seed, "vocabulary": vocabulary is not None},
        **collection.about(judged if per_query else None),
    }


@dataclass(frozen=True)
class _Coded:
    """A block of documents, held as codes."""

    codec: Codec
    documents: SmartEmbeddings
    codes: Array

    def late_scores(self, queries: SmartEmbeddings, weights: QueryWeights, floor: float | None) -> Array:
        """``[Nq, N]``; straight from the codes where these are short, which is what the index does."""
        documents = self.documents
        if self.codec.bytes_per_token > _LONGEST_SCORED:
            anchors = None
            if self.codec.anchor_dim is not None:
                anchors = np.repeat(np.asarray(documents.anchors), documents.lengths, axis=0)
            vectors = self.codec.decode(self.codes, anchors)
            decoded = SmartEmbeddings(documents.anchors, vectors, documents.offsets, documents.token_ids)
            return late_scores(queries, decoded, weights=weights, floor=floor)
        tables = self.codec.prepare(np.asarray(queries.token_vectors, np.float32))
        best = self.codec.best_similarities(tables, self.codes, documents.offsets, anchors=documents.anchors)
        parts = weighted_parts(np.ascontiguousarray(best), token_shares(queries, weights), floor)
        return query_sums(parts, queries.offsets)


def _judge(collection: Collection, blocks: Sequence[SmartEmbeddings | _Coded]) -> dict[str, Array]:
    """The hybrid's metrics with these token vectors, query by query."""
    data, queries, scoring = collection.data, collection.queries.embeddings, collection.scoring
    weights, floor = scoring.query_weights, scoring.late_floor
    ranking: dict[str, list[str]] = {}
    for part in collection.query_parts():
        late = [
            block.late_scores(queries[part], weights, floor)
            if isinstance(block, _Coded)
            else late_scores(queries[part], block, weights=weights, floor=floor)
            for block in blocks
        ]
        by_anchor = anchor_scores(queries[part], collection.documents.embeddings)
        scores = scoring.combine(by_anchor, np.concatenate(late, axis=1))
        ranking.update(data.rank(scores, DEPTH, part))
    return per_query_metrics(data.qrels, ranking)


def _row(
    name: str, documents: SmartEmbeddings, bytes_per_token: int, family: str, judged: dict[str, Array]
) -> VectorsRow:
    tokens = len(documents.token_vectors) / len(documents)
    anchor = anchor_bytes(anchors_beside(family), documents.anchor_dim)
    return {
        "name": name,
        "bytes_per_token": bytes_per_token,
        "tokens_per_document": tokens,
        "token_bytes_per_document": tokens * bytes_per_token,
        "bytes_per_document": tokens * bytes_per_token + anchor,
        **mean_metrics(judged),
    }


def _blocks(documents: SmartEmbeddings, places: Array | None = None) -> Iterator[SmartEmbeddings]:
    """All documents, or those at some places, a block at a time."""
    for start in range(0, len(documents) if places is None else len(places), _BLOCK):
        part = slice(start, start + _BLOCK)
        yield documents[part if places is None else places[part]]


def plot_codecs(result: CodecsResult, file: Path) -> None:
    """Draw quality against bytes.

    Args:
        result: What `evaluate_codecs` returned.
        file: A picture; its ending says which kind.

    Raises:
        MissingExtraError: matplotlib is not installed.
        SmartError: The file cannot be written.

    Example:
        >>> plot_codecs(evaluate_codecs("cranfield"), Path("codecs.png"))  # doctest: +SKIP
    """
    figure = new_figure(8, 5)
    axes = figure.add_subplot()
    groups: dict[str, list[CodecRow]] = {}
    for row in result["codecs"]:
        family = "pooled" if "/pool" in row["name"] else parse_codec(row["name"]).family
        groups.setdefault(family if family in ("codebook", "anchored", "pooled") else "plain", []).append(row)
    for group, rows in groups.items():
        rows.sort(key=lambda row: row["token_bytes_per_document"])
        points = [(row["token_bytes_per_document"], row[GAIN_METRIC]) for row in rows]
        axes.plot(*zip(*points, strict=True), "o-", label=group, linewidth=1, markersize=5)
        # Codebook and anchored codes take the same bytes: the names of one go above the points, of the other below.
        above = -12 if group in ("codebook", "pooled") else 6
        for row, point in zip(rows, points, strict=True):
            axes.annotate(row["name"], point, textcoords="offset points", xytext=(0, above), ha="center", fontsize=7)
    reference = result["uncompressed"][GAIN_METRIC]
    axes.axhline(reference, color="grey", linewidth=0.8, linestyle="--", label="uncompressed")
    axes.set_xscale("log")
    axes.margins(x=0.1, y=0.1)
    axes.set_xlabel("bytes of token codes a document (log scale)")
    axes.set_ylabel("nDCG@10 of the hybrid")
    axes.set_title(f"{result['dataset']['name']}, {result['model']}: quality against bytes")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, file)
