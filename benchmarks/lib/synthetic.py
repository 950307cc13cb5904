"""Synthetic documents and queries for the benchmarks of the index, and an index for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from smart_retrieval.core.scoring import Scoring
from smart_retrieval.core.vectors import unit_rows
from smart_retrieval.embeddings import SmartEmbeddings
from smart_retrieval.index.codec.factory import fit_codec
from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.index.store.manifest import Manifest
from smart_retrieval.index.store.store import Store

TOKENS, TOKEN_DIM, ANCHOR_DIM, QUERY_TOKENS = 60, 128, 384, 32
VOCABULARY, TOPICS = 20_000, 300


class Synthetic:
    """Documents whose anchors cluster by topic and whose token vectors cluster by vocabulary id.

    A token is its id's vector plus noise of two thirds its energy (with MiniLM an id's mean holds 54-62 %); ids follow
    Zipf's law, half of them from the topic's own words. Any range of documents is made from its number alone.
    """

    def __init__(self, tokens: int = TOKENS, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.tokens, self.seed = tokens, seed
        self.words = unit_rows(rng.normal(size=(VOCABULARY, TOKEN_DIM)))
        self.topics = unit_rows(rng.normal(size=(TOPICS, ANCHOR_DIM)))
        self.frequency = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
        self.frequency /= self.frequency[-1]
        self.topic_words = rng.integers(0, VOCABULARY, (TOPICS, 400))

    def documents(self, block: int, count: int) -> SmartEmbeddings:
        """Block number ``block`` of ``count`` documents."""
        rng = np.random.default_rng([self.seed, 1, block])
        topics = rng.integers(0, TOPICS, count)
        anchors = unit_rows(self.topics[topics] + rng.normal(scale=0.9 / ANCHOR_DIM**0.5, size=(count, ANCHOR_DIM)))
        ids = np.searchsorted(self.frequency, rng.random((count, self.tokens)))
        own = self.topic_words[topics[:, None], rng.integers(0, 400, (count, self.tokens))]
        ids = np.where(rng.random(ids.shape) < 0.5, own, ids).ravel()
        noise = rng.standard_normal((len(ids), TOKEN_DIM), np.float32) * np.float32(0.82 / TOKEN_DIM**0.5)
        offsets = np.arange(count + 1) * self.tokens
        return SmartEmbeddings(anchors, unit_rows(self.words[ids] + noise), offsets, ids)

    def queries(self, count: int, block: int) -> list[SmartEmbeddings]:
        """Queries that each ask for one of the first documents: some of its tokens, changed; its anchor, changed."""
        rng = np.random.default_rng([self.seed, 2])
        source = self.documents(0, block)[:count]
        found = []
        for one in source:
            rows = rng.integers(0, self.tokens, QUERY_TOKENS)
            noise = rng.normal(scale=0.6 / TOKEN_DIM**0.5, size=(QUERY_TOKENS, TOKEN_DIM))
            anchor = one.anchors + rng.normal(scale=0.6 / ANCHOR_DIM**0.5, size=(1, ANCHOR_DIM))
            tokens = unit_rows(one.token_vectors[rows] + noise)
            found.append(SmartEmbeddings(unit_rows(anchor), tokens, [0, QUERY_TOKENS], one.token_ids[rows]))
        return found

    def blocks(self, total: int, block: int) -> Iterator[SmartEmbeddings]:
        """All documents, in blocks."""
        for number, start in enumerate(range(0, total, block)):
            yield self.documents(number, min(block, total - start))


def make_index(path: Path, codec_name: str, sample: Any) -> SmartIndex:
    """An empty index of synthetic vectors, with its codec fitted: no model is behind it."""
    codec = fit_codec(codec_name, sample)
    manifest = Manifest(
        model={"name": "synthetic"},
        codec=codec.name,
        anchor_dim=ANCHOR_DIM,
        code_width=codec.bytes_per_token,
        lexical=False,
        scoring=Scoring().to_dict(),
    )
    return SmartIndex(Store.create(path, manifest, codec.to_bytes()))


def search(index: SmartIndex, query: SmartEmbeddings, candidates: int, where: str | None = None) -> list[str]:
    """The first ten, anchor + mean MaxSim."""
    hits = index.search_many(query, 10, where=where, candidates=candidates, scoring=Scoring())[0]
    return [hit.id for hit in hits]
