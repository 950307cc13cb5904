"""Try adapters over cached states: one training loop with everything that was tried as a setting.

Used by trials.py. A token vector is unit(W v), v the default readout's and W starting at the identity; scores are
the default's (IDF weights, floor), in training as in judging.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent / "default_preset"))
from collection import DISCOUNT  # type: ignore[import-not-found]
from encode import read_jsonl  # type: ignore[import-not-found]

from smart_retrieval.training.objectives import max_similarities, padded


class Side:
    """Queries or documents of a source, memory-mapped."""

    def __init__(self, cache: Path, side: str) -> None:
        self.anchors = torch.from_numpy(np.load(cache / f"{side}_anchor.npy"))
        self.lengths = np.load(cache / f"{side}_lens.npy").astype(np.int64)
        self.ids = np.load(cache / f"{side}_ids.npy")
        self.vectors = np.load(cache / f"{side}_vectors.npy", mmap_mode="r")
        self.start = np.r_[0, np.cumsum(self.lengths)]

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(self, items: np.ndarray) -> np.ndarray:
        return np.concatenate([np.arange(self.start[i], self.start[i + 1]) for i in items])

    def states(self, items: Iterable[int]) -> Tensor:
        """[tokens, H], the default readout's token vectors."""
        block = np.concatenate([self.vectors[self.start[i] : self.start[i + 1]] for i in items])
        return torch.from_numpy(block.astype(np.float32))


class Source:
    """Queries, documents and the collection's IDF."""

    def __init__(self, cache: Path) -> None:
        self.name = cache.name
        self.asked = {side: Side(cache, side) for side in "qvs" if (cache / f"{side}_vectors.npy").exists()}
        self.queries, self.documents = self.asked["q"], Side(cache, "d")
        ids, n = self.documents.ids, len(self.documents)
        size = int(max(ids.max(), *(side.ids.max() for side in self.asked.values()))) + 1
        pairs = np.unique(np.repeat(np.arange(n), self.documents.lengths).astype(np.int64) * size + ids)
        df = np.bincount(pairs % size, minlength=size)
        self.idf = np.maximum(0, np.log((n + 1) / (df + 0.5))).astype(np.float32)

    def weights(self, queries: Side, items: np.ndarray, idf: bool) -> Tensor:
        rows = queries.rows(items)
        return torch.from_numpy(self.idf[queries.ids[rows]] if idf else np.ones(len(rows), np.float32))

    @cached_property
    def near(self) -> Tensor:
        """The hundred documents nearest to each query by anchor, its own (of the same number) left out."""
        scores = self.queries.anchors @ self.documents.anchors.T
        if len(self.queries) == len(self.documents):
            scores.fill_diagonal_(-1)
        return scores.topk(100, dim=1).indices


@dataclass
class Trial:
    """One setting."""

    name: str
    sources: tuple[str, ...]
    objective: str = "hybrid"
    width: int | None = None
    idf: bool = True
    floor: float | None = 0.55
    soft: float = 0.0
    lam: float = 1.0
    temperature: float = 0.03
    lr: float = 1e-3
    pull: float = 0.0
    steps: int = 300
    batch: int = 64
    negatives: int = 0
    skip: int = 0
    distill: float = 0.0
    teacher_temperature: float = 0.05
    smooth: float = 0.0
    weigh: bool = False
    asked: str = "q4v4s2"
    seed: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


class Model(torch.nn.Module):
    def __init__(self, trial: Trial, axes: Tensor | None = None) -> None:
        super().__init__()
        self.start = torch.eye(384) if axes is None else axes
        self.change = torch.nn.Parameter(torch.zeros_like(self.start))
        self.gate = torch.nn.Parameter(torch.zeros(385)) if trial.weigh else None
        self.trial = trial

    def vectors(self, states: Tensor) -> Tensor:
        return torch.nn.functional.normalize(states @ (self.start + self.change).T, dim=-1)

    def weigh(self, states: Tensor, weights: Tensor) -> Tensor:
        if self.gate is None:
            return weights
        weighed: Tensor = weights * torch.exp(states @ self.gate[:-1])
        return weighed


def principal_axes(sources: list[Source], width: int) -> Tensor:
    """Principal axes of the token vectors, not centred: dot products must survive."""
    tokens = torch.cat([s.documents.states(range(0, len(s.documents), 5)) for s in sources]).double()
    _, vectors = torch.linalg.eigh(tokens.T @ tokens)
    axes: Tensor = vectors.flip(1)[:, :width].T.float()
    return axes


def above(best: Tensor, floor: float | None, soft: float = 0.0) -> Tensor:
    if floor is None:
        return best
    if soft:
        return torch.nn.functional.softplus((best - floor) / (1 - floor), beta=1 / soft)
    return ((best - floor) / (1 - floor)).clamp_min(0)


def pooled(best: Tensor, weights: Tensor, lengths: Tensor) -> Tensor:
    rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    total = torch.zeros(len(lengths)).index_add(0, rows, weights)
    shares = weights / total.clamp_min(1e-9)[rows]
    return torch.zeros(len(lengths), best.shape[1]).index_add(0, rows, best * shares[:, None])


def late(
    model: Model, source: Source, side: Side, queries: np.ndarray, documents: np.ndarray, floor: Any, soft: float
) -> Tensor:
    q = side.states(queries)
    lengths = torch.from_numpy(source.documents.lengths[documents])
    block, mask = padded(model.vectors(source.documents.states(documents)), lengths)
    best = above(max_similarities(model.vectors(q), block, mask), floor, soft)
    weights = model.weigh(q, source.weights(side, queries, model.trial.idf))
    return pooled(best, weights, torch.from_numpy(side.lengths[queries]))


def train(trial: Trial, sources: list[Source], axes: Tensor | None = None) -> tuple[Model, list[float]]:
    torch.manual_seed(trial.seed)
    rng = np.random.default_rng(trial.seed)
    model = Model(trial, axes)
    frozen = Model(trial, axes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=trial.lr, weight_decay=0.0)
    share = np.array([len(s.queries) for s in sources], float) ** 0.5
    losses = []
    for step in range(trial.steps):
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / (0.05 * trial.steps + 1))
            group["lr"] = trial.lr * warm * 0.5 * (1 + np.cos(np.pi * step / trial.steps))
        source = sources[rng.choice(len(sources), p=share / share.sum())]
        queries = rng.choice(len(source.queries), trial.batch, replace=False)
        wanted = queries.tolist()
        if trial.negatives:
            near = source.near[queries]
            pick = rng.integers(trial.skip, trial.skip + 4 * trial.negatives, (len(queries), trial.negatives))
            wanted += [int(near[i, j]) for i in range(len(queries)) for j in pick[i]]
        documents = np.array(list(dict.fromkeys(wanted)))
        target = torch.arange(len(queries))
        side = source.asked[rng.choice(list(trial.asked[0::2]), p=[int(n) / 10 for n in trial.asked[1::2]])]
        scores = trial.lam * late(model, source, side, queries, documents, trial.floor, trial.soft)
        cosines = side.anchors[queries] @ source.documents.anchors[documents].T
        if trial.objective == "hybrid":
            scores = scores + cosines
        loss = torch.nn.functional.cross_entropy(scores / trial.temperature, target)
        if trial.distill:
            with torch.no_grad():
                # Whatever was asked in, the teacher sees the plain title.
                plain = source.queries
                teacher = plain.anchors[queries] @ source.documents.anchors[documents].T
                teacher = teacher + late(frozen, source, plain, queries, documents, trial.floor, 0.0)
                if trial.smooth:
                    anchors = source.documents.anchors[documents]
                    gram = anchors @ anchors.T
                    gram.fill_diagonal_(-1)
                    weight, near3 = gram.topk(3, dim=1)
                    weight = weight.clamp_min(0) / weight.clamp_min(0).sum(1, keepdim=True).clamp_min(1e-9)
                    moved = (teacher[:, near3] * weight).sum(-1)
                    teacher = (1 - trial.smooth) * teacher + trial.smooth * moved
                taught = (teacher / trial.teacher_temperature).softmax(dim=1)
            student = (scores / trial.teacher_temperature).log_softmax(dim=1)
            loss = (1 - trial.distill) * loss - trial.distill * (taught * student).sum(1).mean()
        loss = loss + trial.pull * model.change.square().sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return model, losses


class Check:
    """A collection to judge on: the 100 best documents of the frozen default are ranked anew."""

    def __init__(self, data: Path, source: Source, side: str, most: int = 150, depth: int = 100) -> None:
        self.source = source
        documents = {d["_id"]: i for i, d in enumerate(read_jsonl(data / "corpus.jsonl"))}
        names = [q["_id"] for q in read_jsonl(data / "queries.jsonl")]
        relevance = np.zeros((len(names), len(documents)), np.float32)
        place = {n: i for i, n in enumerate(names)}
        for line in (data / "qrels" / "test.tsv").read_text().splitlines()[1:]:
            query, document, grade = line.split("\t")
            if query in place and document in documents:
                relevance[place[query], documents[document]] = float(grade)
        ideal = (np.sort(relevance, axis=1)[:, ::-1][:, :10] * DISCOUNT).sum(1)
        self.asked = np.flatnonzero(ideal > 0)
        if most and len(self.asked) > most:
            self.asked = np.sort(np.random.default_rng(0).choice(self.asked, most, replace=False))
        self.relevance, self.ideal = relevance[self.asked], ideal[self.asked]
        masked = data / "masked.json"
        mask = json.loads(masked.read_text()) if masked.exists() else {}
        self.queries = self.source.asked[side]
        self.name = f"{source.name}/{side}"
        self.anchor = (self.queries.anchors[self.asked] @ self.source.documents.anchors.T).numpy()
        for row, number in enumerate(self.asked.tolist()):
            if names[number] in mask:
                self.anchor[row, mask[names[number]]] = -9
        filled = self.source.documents.lengths > 0
        self.anchor[:, ~filled] = -9
        self.filled = np.flatnonzero(filled)
        self.candidates = np.argsort(-self.anchor, axis=1, kind="stable")[:, :200]
        kept = data / f"candidates_{side}.npy"
        if not kept.exists():
            first = self.late(Model(Trial("frozen", ())))
            total = np.take_along_axis(self.anchor, self.candidates, 1) + first
            order = np.argsort(-total, axis=1, kind="stable")[:, :depth]
            np.save(kept, np.take_along_axis(self.candidates, order, 1))
        self.candidates = np.load(kept)

    @torch.no_grad()
    def best(self, model: Model) -> tuple[list[Tensor], list[Tensor]]:
        """For each query the maximum similarities [tokens, candidates], and its tokens' weights."""
        d = self.source.documents
        blocks = np.array_split(self.filled, max(1, len(self.filled) // 200))
        vectors = torch.cat([model.vectors(d.states(block)) for block in blocks])
        found, weights = [], []
        for row, query in enumerate(self.asked):
            states = self.queries.states(np.array([query]))
            q = model.vectors(states)
            chosen = self.candidates[row]
            rows = torch.from_numpy(d.rows(chosen))
            similarities = q @ vectors[rows].T
            lengths = torch.from_numpy(d.lengths[chosen])
            found.append(torch.segment_reduce(similarities.T.contiguous(), "max", lengths=lengths, axis=0).T)
            weights.append(model.weigh(states, self.source.weights(self.queries, np.array([query]), model.trial.idf)))
        return found, weights

    def late(self, model: Model, floor: float | None = 0.55) -> np.ndarray:
        return self.pool(*self.best(model), floor)

    def pool(self, best: list[Tensor], weights: list[Tensor], floor: float | None) -> np.ndarray:
        rows = [
            ((above(b, floor) * w[:, None]).sum(0) / w.sum().clamp_min(1e-9)).numpy()
            for b, w in zip(best, weights, strict=True)
        ]
        return np.stack(rows)

    def ndcg(self, late: np.ndarray, lam: float = 1.0, anchor: float = 1.0) -> np.ndarray:
        total = anchor * np.take_along_axis(self.anchor, self.candidates, 1) + lam * late
        order = np.argsort(-total, axis=1, kind="stable")[:, :10]
        top = np.take_along_axis(self.candidates, order, 1)
        gained: np.ndarray = (np.take_along_axis(self.relevance, top, 1) * DISCOUNT).sum(1) / self.ideal
        return gained


def report(trial: Trial, checks: list[Check], model: Model, out: Path, losses: list[float], began: float) -> None:
    line: dict[str, Any] = {"trial": asdict(trial), "loss": [float(np.mean(losses[:20])), float(np.mean(losses[-20:]))]}
    line["moved"] = float(model.change.detach().norm() / model.start.norm())
    for check in checks:
        best, weights = check.best(model)
        cells = {}
        for floor in (0.55, 0.45, 0.35):
            late = check.pool(best, weights, floor)
            for lam in (1.0, 2.0):
                cells[f"{floor}/{lam:g}"] = round(float(check.ndcg(late, lam).mean()), 4)
            if floor == 0.55:
                cells["late"] = round(float(check.ndcg(late, 1.0, 0.0).mean()), 4)
        line[check.name] = cells
    line["seconds"] = round(time.perf_counter() - began)
    with out.open("a") as handle:
        handle.write(json.dumps(line) + "\n")
    shown = " ".join(f"{c.name} {line[c.name]['0.55/1']:.4f}" for c in checks)
    print(f"{trial.name}: moved {line['moved']:.3f} {shown}", flush=True)
