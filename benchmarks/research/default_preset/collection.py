"""One cached collection: exact max-similarity matrices, late scores, neighbour smoothing, nDCG@10."""

from __future__ import annotations

import csv
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from encode import read_jsonl

DISCOUNT = 1 / np.log2(np.arange(2, 12))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


class Collection:
    """`data` is a BEIR folder, `cache` the folder encode.py wrote for it."""

    def __init__(self, data: Path, cache: Path, label: str | None = None) -> None:
        self.name, self.cache = label or data.name, cache
        documents = {d["_id"]: i for i, d in enumerate(read_jsonl(data / "corpus.jsonl"))}
        queries = {q["_id"]: i for i, q in enumerate(read_jsonl(data / "queries.jsonl"))}
        self.n, self.nq = len(documents), len(queries)
        relevance = np.zeros((self.nq, self.n), np.float32)
        with open(data / "qrels" / "test.tsv", encoding="utf-8") as handle:
            for query, document, grade in list(csv.reader(handle, delimiter="\t"))[1:]:
                if query in queries and document in documents:
                    relevance[queries[query], documents[document]] = float(grade)
        ideal = (np.sort(relevance, axis=1)[:, ::-1][:, :10] * DISCOUNT).sum(1)
        self.judged = ideal > 0
        self.relevance, self.ideal = relevance, ideal
        names = ("q_anchor", "d_anchor", "q_lens", "d_lens", "q_ids", "d_ids")
        self.qa, self.da, self.ql, self.dl, self.qids, self.dids = (np.load(cache / f"{n}.npy") for n in names)
        self.qstart, self.dstart = np.r_[0, np.cumsum(self.ql)], np.r_[0, np.cumsum(self.dl)]
        self.qrow = np.repeat(np.arange(self.nq), self.ql)
        self.anchor = self.qa @ self.da.T
        vocabulary = int(max(self.dids.max(), self.qids.max())) + 1
        pairs = np.unique(np.repeat(np.arange(self.n), self.dl).astype(np.int64) * vocabulary + self.dids)
        df = np.bincount(pairs % vocabulary, minlength=vocabulary)
        self.weights = np.maximum(0, np.log((self.n + 1) / (df + 0.5)))[self.qids]

    def tokens(self, side: str, spec: str) -> np.ndarray:
        """'5': a layer; 'a0+5': average of two normalised layers; 'c0+5': their concatenation."""
        parts = [
            unit(np.load(self.cache / f"{side}_l{n}.npy").astype(np.float32)) for n in spec.lstrip("ac").split("+")
        ]
        return unit(np.concatenate(parts, axis=1) if spec[0] == "c" else sum(parts))

    def max_similarity(self, spec: str) -> np.ndarray:
        """(query tokens, documents) maximum cosine, computed in blocks of documents and cached."""
        path = self.cache / f"M_{spec}.npy"
        if path.exists():
            return np.load(path)
        query, document = self.tokens("q", spec), self.tokens("d", spec)
        out = np.zeros((len(query), self.n), np.float32)
        filled = np.flatnonzero(self.dl)
        for start in range(0, len(filled), 100):
            block = filled[start : start + 100]
            low, high = self.dstart[block[0]], self.dstart[block[-1] + 1]
            similarity = document[low:high] @ query.T
            out[:, block] = np.maximum.reduceat(similarity, self.dstart[block] - low, axis=0).T
        np.save(path, out)
        return out

    @lru_cache(maxsize=8)  # noqa: B019 - a handful of collections in one short process
    def late(self, spec: str, weighted: bool = True, power: float = 1.0, floor: float | None = None) -> np.ndarray:
        """Weighted mean over query tokens of f(maximum similarity).

        f is the identity, or sign(s)|s|^power, or max(0, (s - floor) / (1 - floor)).
        """
        best = self.max_similarity(spec)
        if power != 1.0:
            best = np.sign(best) * np.abs(best) ** power
        if floor is not None:
            best = np.maximum(0, (best - floor) / (1 - floor))
        weights = self.weights if weighted else np.ones(len(best))
        filled, total = self.ql > 0, np.zeros(self.nq)
        np.add.at(total, self.qrow, weights)
        out = np.zeros((self.nq, self.n), np.float32)
        out[filled] = np.add.reduceat(best * weights[:, None], self.qstart[:-1][filled], axis=0)
        out /= np.maximum(total, 1e-9)[:, None]
        out[:, self.dl == 0] = self.anchor[:, self.dl == 0]
        return out

    @cached_property
    def near(self) -> tuple[np.ndarray, np.ndarray]:
        """The ten nearest documents of each document by anchor, and max(0, cosine)."""
        gram = self.da @ self.da.T
        np.fill_diagonal(gram, -1)
        gram[:, self.dl == 0] = -1
        order = np.argsort(-gram, axis=1, kind="stable")[:, :10]
        return order, np.maximum(0, np.take_along_axis(gram, order, axis=1))

    def smooth(self, score: np.ndarray, k: int = 3, alpha: float = 0.2) -> np.ndarray:
        """(1 - alpha) * own score + alpha * cosine-weighted mean score of the k nearest documents."""
        order, weights = self.near
        weights = weights[:, :k] / np.maximum(weights[:, :k].sum(1, keepdims=True), 1e-9)
        return (1 - alpha) * score + alpha * sum(weights[:, j] * score[:, order[:, j]] for j in range(k))

    def smooth_candidates(self, score: np.ndarray, size: int, k: int = 3, alpha: float = 0.2) -> np.ndarray:
        """The same for the `size` best documents by anchor only; the rest is out of the result."""
        out = np.full_like(score, -9)
        keep = np.argpartition(-self.anchor, size, axis=1)[:, :size]
        np.put_along_axis(out, keep, np.take_along_axis(self.smooth(score, k, alpha), keep, 1), 1)
        return out

    def context_anchor(self, k: int = 3) -> np.ndarray:
        """Anchor scores against normalize(anchor + weighted mean of its k neighbours): one stored vector a document."""
        order, weights = self.near
        weights = weights[:, :k] / np.maximum(weights[:, :k].sum(1, keepdims=True), 1e-9)
        return self.qa @ unit(self.da + (self.da[order[:, :k]] * weights[..., None]).sum(1)).T

    def feedback(self, score: np.ndarray, k: int, beta: float) -> np.ndarray:
        """Anchor scores after adding beta times the mean anchor of the k best documents to the query (PRF)."""
        top = np.argsort(-score, axis=1)[:, :k]
        return unit(self.qa + beta * self.da[top].mean(1)) @ self.da.T

    def ndcg(self, score: np.ndarray) -> np.ndarray:
        """nDCG@10 with linear gain, one value for each query that has a judgment."""
        top = np.argpartition(-score, 30, axis=1)[:, :30]
        inner = np.argsort(-np.take_along_axis(score, top, 1), axis=1, kind="stable")[:, :10]
        best = np.take_along_axis(top, inner, 1)
        value = (np.take_along_axis(self.relevance, best, 1) * DISCOUNT).sum(1)
        return value[self.judged] / self.ideal[self.judged]
