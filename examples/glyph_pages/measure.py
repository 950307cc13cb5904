"""nDCG@10 of anchor, late interaction and hybrid on held-out pages, under both token filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fast_forward import PageModel, to_patches
from torch import Tensor

from smart_retrieval.core.hybrid import anchor_scores
from smart_retrieval.core.late import late_scores
from smart_retrieval.demo.glyph_pages import STYLES, glyph_collection
from smart_retrieval.embeddings import SmartEmbeddings
from smart_retrieval.evaluation.metrics import per_query_metrics, rank

BLOCK = 250


class Held:
    """Held-out pages and queries, drawn and tokenised once."""

    def __init__(self, split: str, pages: int, style: str, texts: Any) -> None:
        self.collection = glyph_collection(split, pages, style=style)
        place = {kind: number for number, kind in enumerate(STYLES[style].kinds)}
        self.patches = torch.cat([to_patches(torch.from_numpy(page.pixels())[None]) for page in self.collection.pages])
        chosen = [np.array([place[kind] for kind in query.objects]) for query in self.collection.queries]
        self.ids, self.last = texts.rows(chosen)


class TokenFilter:
    """Which tokens late interaction uses: ``paper`` drops special tokens, ``content`` keeps text and image alone."""

    def __init__(self, fast: PageModel, name: str) -> None:
        config = fast.model.config
        self.special = torch.tensor(
            [config.vision_start_token_id, config.vision_end_token_id, fast.closing[0], fast.closing[2]]
        )
        self.behind = 0 if name == "paper" else len(fast.closing)
        self.opening = ~torch.isin(torch.tensor(fast.opening), self.special)
        if name != "paper":
            self.opening[:] = False

    def __call__(self, ids: Tensor, last: Tensor) -> Tensor:
        """``[B, T]`` bool for inputs ``[B, T]`` without the opening, whose last tokens stand at ``[B]``."""
        places = torch.arange(ids.shape[1])[None]
        return (places <= (last - self.behind)[:, None]) & ~torch.isin(ids, self.special)


@torch.no_grad()
def encode(
    fast: PageModel, held: Held, filters: Sequence[str] = ("paper", "content")
) -> dict[str, tuple[SmartEmbeddings, SmartEmbeddings]]:
    """Queries and pages by token filter, see `TokenFilter`."""
    opening = F.normalize(fast.opening_states(), dim=-1)

    def ragged(states: Tensor, last: Tensor, ids: Tensor, token_filter: str) -> SmartEmbeddings:
        vectors = F.normalize(states, dim=-1)
        keep = TokenFilter(fast, token_filter)
        kept = keep(ids, last)
        rows = [torch.cat([opening[keep.opening], vectors[i][kept[i]]]) for i in range(len(ids))]
        anchors = vectors[torch.arange(len(ids)), last]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        return SmartEmbeddings(anchors.numpy(), torch.cat(rows).numpy(), offsets)

    pages = torch.cat([fast.pages(held.patches[i : i + BLOCK]) for i in range(0, len(held.patches), BLOCK)])
    queries = fast.queries(held.ids)
    page_ids = torch.tensor(fast.page_ids).expand(len(pages), -1)
    page_last = torch.full((len(pages),), pages.shape[1] - 1)
    return {
        name: (ragged(queries, held.last, held.ids, name), ragged(pages, page_last, page_ids, name)) for name in filters
    }


def per_query(
    held: Held, encoded: dict[str, tuple[SmartEmbeddings, SmartEmbeddings]], *, anchor_only: bool = False
) -> dict[str, np.ndarray]:
    """nDCG@10 of every query under every score."""
    names = [page.id for page in held.collection.pages]
    queries = [query.id for query in held.collection.queries]
    anchor = anchor_scores(*encoded["paper"])
    scores = {"anchor": anchor}
    for token_filter, (q, d) in () if anchor_only else encoded.items():
        late = late_scores(q, d)
        scores |= {f"late_{token_filter}": late, f"hybrid_{token_filter}": anchor + late}
    return {
        name: per_query_metrics(held.collection.qrels, dict(zip(queries, rank(values, names, 10), strict=True)))[
            "ndcg@10"
        ]
        for name, values in scores.items()
    }


def judge(fast: PageModel, held: Held, *, anchor_only: bool = False) -> dict[str, float]:
    """Mean nDCG@10 under every score."""
    values = per_query(held, encode(fast, held), anchor_only=anchor_only)
    return {name: round(float(value.mean()), 4) for name, value in values.items()}
