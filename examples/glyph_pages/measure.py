"""nDCG@10 of anchor, late interaction and hybrid on held-out pages, under both token filters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fast_forward import PageModel, to_patches
from torch import Tensor

from smart_retrieval.demo.glyph_pages import STYLES, glyph_collection
from smart_retrieval.embeddings import SmartEmbeddings
from smart_retrieval.evaluation.metrics import per_query_metrics, rank
from smart_retrieval.scoring.hybrid import anchor_scores
from smart_retrieval.scoring.late import late_scores

BLOCK = 250


class Held:
    """Held-out pages and queries, drawn and tokenised once."""

    def __init__(self, split: str, pages: int, style: str, texts: Any) -> None:
        self.collection = glyph_collection(split, pages, style=style)
        place = {kind: number for number, kind in enumerate(STYLES[style].kinds)}
        self.patches = torch.cat([to_patches(torch.from_numpy(page.pixels())[None]) for page in self.collection.pages])
        chosen = [np.array([place[kind] for kind in query.objects]) for query in self.collection.queries]
        self.ids, self.last = texts.rows(chosen)


@torch.no_grad()
def encode(fast: PageModel, held: Held) -> dict[str, tuple[SmartEmbeddings, SmartEmbeddings]]:
    """Queries and pages by token filter: ``paper`` drops special tokens, ``content`` keeps text and image alone."""
    opening = F.normalize(fast.opening_states(), dim=-1)
    config = fast.model.config
    special = [config.vision_start_token_id, config.vision_end_token_id, fast.closing[0], fast.closing[2]]

    def ragged(states: Tensor, last: Tensor, ids: Tensor, token_filter: str) -> SmartEmbeddings:
        vectors = F.normalize(states, dim=-1)
        places = torch.arange(ids.shape[1])[None]
        stop = last if token_filter == "paper" else last - len(fast.closing)
        kept = (places <= stop[:, None]) & ~torch.isin(ids, torch.tensor(special))
        rows = [vectors[i][kept[i]] for i in range(len(ids))]
        if token_filter == "paper":
            plain = ~torch.isin(torch.tensor(fast.opening), torch.tensor(special))
            rows = [torch.cat([opening[plain], row]) for row in rows]
        anchors = vectors[torch.arange(len(ids)), last]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        return SmartEmbeddings(anchors.numpy(), torch.cat(rows).numpy(), offsets)

    pages = torch.cat([fast.pages(held.patches[i : i + BLOCK]) for i in range(0, len(held.patches), BLOCK)])
    queries = fast.queries(held.ids)
    page_ids = torch.tensor(fast.page_ids).expand(len(pages), -1)
    page_last = torch.full((len(pages),), pages.shape[1] - 1)
    return {
        name: (ragged(queries, held.last, held.ids, name), ragged(pages, page_last, page_ids, name))
        for name in ("paper", "content")
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
