"""What compression costs: quality of the hybrid against bytes, for any codecs, on a judged collection."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from ..core.hybrid import anchor_scores
from ..core.late import QueryWeights, late_scores, token_shares, weighted_parts
from ..embeddings import SmartEmbeddings
from ..errors import CodecError, SmartError
from ..extras import require
from ..index.codec.base import Codec
from ..index.codec.factory import fit_codec
from ..index.codec.names import SUGGESTED, parse_codec
from ..index.codec.pooling import pool_tokens
from ..index.smart_index import DEFAULT_CODEC
from ..types import Array
from .compare import Collection, EvalOptions, load_collection
from .evaluate import GAIN_METRIC, query_values
from .metrics import DEPTH, METRICS, per_query_metrics, rank

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel


#: What ``all`` stands for: every suggested codec, and half as many token vectors in float32 and in the default codec.
ALL = (*SUGGESTED, "float32/pool2", f"{DEFAULT_CODEC}/pool2")

#: Documents encoded and decoded at a time.
_BLOCK = 512

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
        """Take a name apart.

        Raises:
            CodecError: There is no such codec, or the factor is below 1.

        Example:
            >>> Setting.parse("int8/pool2")
            Setting(name='int8/pool2', codec='int8', pooling=2.0)
        """
        match = _POOLED.fullmatch(name)
        setting = cls(name, match["codec"], float(match["factor"])) if match else cls(name, name)
        parse_codec(setting.codec)
        if setting.pooling < 1:
            raise CodecError(f"codec {name!r}: found pooling {setting.pooling:g}, expected a factor of at least 1")
        return setting


def parse_settings(names: str) -> list[Setting]:
    """Read ``all`` or codec names joined by commas.

    Raises:
        CodecError: There is no such codec, or none is named.
    """
    if names.strip() == "all":
        return [Setting.parse(name) for name in ALL]
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    if not chosen:
        raise CodecError(f"codec: found {names!r}, expected all, or names such as {DEFAULT_CODEC},int8,float32/pool2")
    return [Setting.parse(name) for name in dict.fromkeys(chosen)]


def evaluate_codecs(
    folder: str | Path, *, codecs: str = "all", seed: int = 0, **options: Unpack[EvalOptions]
) -> dict[str, Any]:
    """Measure the hybrid with token vectors as each codec gives them back.

    Codecs are fitted on half of the documents, drawn at random, and measured on all of them: so half of what is
    measured was not known when the codec was fitted. Anchors, queries and query-token weights stay as they are.

    Args:
        folder: A BEIR-layout folder, see `beir.load_beir`.
        codecs: ``"all"`` (`ALL`), or names joined by commas, each a codec's name with ``/poolN`` behind it at will.
        seed: Draws the half, and fits the codecs.
        **options: As for `evaluate.evaluate_beir`.

    Returns:
        JSON-able: ``codecs`` (in the order asked for: ``name``, ``bytes_per_token``, ``tokens_per_document``,
        ``token_bytes_per_document``, ``bytes_per_document`` with the float32 anchor, the hybrid's metrics, ``share`` of
        the uncompressed hybrid's nDCG@10, ``fit_seconds``, ``encode_seconds``), ``uncompressed`` (the same, of the
        vectors as they are), ``fit`` (documents and seed), and the keys of `compare.Collection.about`.

    Raises:
        CodecError: There is no such codec.
        SmartError: As for `evaluate.evaluate_beir`.

    Example:
        >>> result = evaluate_codecs("cranfield", codecs="int8,codebook+32x1")  # doctest: +SKIP
        >>> [(row["name"], round(row["share"], 3)) for row in result["codecs"]]  # doctest: +SKIP
        [('int8', 1.0), ('codebook+32x1', 0.986)]
    """
    settings = parse_settings(codecs)
    collection = load_collection(folder, **options)
    documents = collection.documents.embeddings
    chosen = np.sort(np.random.default_rng(seed).permutation(len(documents))[: max(1, len(documents) // 2)])
    needs_vocabulary = any(parse_codec(setting.codec).family in ("codebook", "anchored") for setting in settings)
    vocabulary = _vocabulary(collection.smart) if needs_vocabulary else None
    pooled: dict[float, SmartEmbeddings] = {1.0: documents}
    uncompressed: dict[str, Any] = {"name": "uncompressed", **_sizes(documents, documents, 4 * documents.token_dim)}
    judged = {"uncompressed": _judge(collection, list(_blocks(documents)))}
    uncompressed |= _means(judged["uncompressed"])
    rows: list[dict[str, Any]] = []
    for setting in settings:
        if setting.pooling not in pooled:
            # One pooled copy at a time is enough: settings of one factor usually follow one another.
            pooled = {1.0: documents, setting.pooling: pool_tokens(documents, setting.pooling)}
        kept = pooled[setting.pooling]
        start = time.perf_counter()
        codec = fit_codec(setting.codec, _chosen(kept, chosen), vocabulary=vocabulary, seed=seed)
        fitted = time.perf_counter()
        blocks = [_Coded.of(codec, block) for block in _blocks(kept)]
        encoded = time.perf_counter()
        judged[setting.name] = _judge(collection, blocks)
        row: dict[str, Any] = {
            "name": setting.name,
            **_sizes(documents, kept, codec.bytes_per_token),
            **_means(judged[setting.name]),
            "fit_seconds": fitted - start,
            "encode_seconds": encoded - fitted,
        }
        row["share"] = row[GAIN_METRIC] / uncompressed[GAIN_METRIC] if uncompressed[GAIN_METRIC] else None
        rows.append(row)
    fit = {"documents": len(chosen), "seed": seed, "vocabulary": vocabulary is not None}
    result = {"codecs": rows, "uncompressed": uncompressed, "fit": fit, **collection.about()}
    if options.get("per_query"):
        result["per_query"] = query_values(collection.data.query_ids, judged)
    return result


@dataclass(frozen=True)
class _Coded:
    """A block of documents, held as codes."""

    codec: Codec
    documents: SmartEmbeddings
    codes: Array

    @classmethod
    def of(cls, codec: Codec, documents: SmartEmbeddings) -> _Coded:
        return cls(codec, documents, codec.encode_documents(documents))

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
        scores = np.zeros((len(queries), len(documents)), np.float32)
        filled = queries.lengths > 0
        if filled.any():
            scores[filled] = np.add.reduceat(parts, queries.offsets[:-1][filled], axis=0)
        return scores


def _judge(collection: Collection, blocks: Sequence[SmartEmbeddings | _Coded]) -> dict[str, Array]:
    """The hybrid's metrics with these token vectors, query by query."""
    data, queries, floor = collection.data, collection.queries.embeddings, collection.chosen.scoring.floor
    token_weights = collection.token_weights()
    ranking: dict[str, list[str]] = {}
    for part in collection.query_parts():
        asked = queries[part]
        late = [
            block.late_scores(asked, token_weights, floor)
            if isinstance(block, _Coded)
            else late_scores(asked, block, weights=token_weights, floor=floor)
            for block in blocks
        ]
        by_anchor = anchor_scores(asked, collection.documents.embeddings)
        scores = collection.chosen.scoring.combine(by_anchor, np.concatenate(late, axis=1))
        ranking.update(zip(data.query_ids[part], rank(scores, data.document_ids, DEPTH), strict=True))
    return per_query_metrics(data.qrels, ranking)


def _means(judged: Mapping[str, Array]) -> dict[str, float]:
    return {metric: float(judged[metric].mean()) for metric in METRICS}


def _sizes(documents: SmartEmbeddings, kept: SmartEmbeddings, bytes_per_token: int) -> dict[str, float]:
    tokens = len(kept.token_vectors) / len(documents)
    return {
        "bytes_per_token": bytes_per_token,
        "tokens_per_document": tokens,
        "token_bytes_per_document": tokens * bytes_per_token,
        "bytes_per_document": tokens * bytes_per_token + 4 * documents.anchor_dim,
    }


def _blocks(documents: SmartEmbeddings) -> Iterator[SmartEmbeddings]:
    for start in range(0, len(documents), _BLOCK):
        yield documents[start : start + _BLOCK]


def _chosen(documents: SmartEmbeddings, chosen: Array) -> Iterator[SmartEmbeddings]:
    for start in range(0, len(chosen), _BLOCK):
        yield documents[chosen[start : start + _BLOCK]]


def _vocabulary(smart: SmartModel) -> Array | None:
    """Features of the vocabulary's ids, as the index fits its codebooks with."""
    from ..index.codec_fitting import vocabulary_of as features

    return features(smart)


def plot_codecs(result: dict[str, Any], file: Path) -> None:
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
    require("matplotlib", "plot")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in result["codecs"]:
        groups.setdefault(_group(row["name"]), []).append(row)
    for group, rows in groups.items():
        rows = sorted(rows, key=lambda row: row["token_bytes_per_document"])
        sizes = [row["token_bytes_per_document"] for row in rows]
        values = [row[GAIN_METRIC] for row in rows]
        # Codebook and anchored codes take the same bytes: the names of one go above the points, of the other below.
        above = -12 if group in ("codebook", "pooled") else 6
        axes.plot(sizes, values, "o-", label=group, linewidth=1, markersize=5)
        for row, size, value in zip(rows, sizes, values, strict=True):
            axes.annotate(
                row["name"], (size, value), textcoords="offset points", xytext=(0, above), ha="center", fontsize=7
            )
    reference = result["uncompressed"][GAIN_METRIC]
    axes.axhline(reference, color="grey", linewidth=0.8, linestyle="--", label="uncompressed")
    axes.set_xscale("log")
    axes.margins(x=0.1, y=0.1)
    axes.set_xlabel("bytes of token codes a document (log scale)")
    axes.set_ylabel("nDCG@10 of the hybrid")
    axes.set_title(f"{result['dataset']['name']}, {result['model']}: quality against bytes")
    axes.grid(alpha=0.3)
    axes.legend()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=150)
    except (OSError, ValueError) as error:
        raise SmartError(f"cannot write {file} ({error}): name another file, such as codecs.png") from error


def _group(name: str) -> str:
    if "/pool" in name:
        return "pooled"
    family = parse_codec(name).family
    return family if family in ("codebook", "anchored") else "plain"
