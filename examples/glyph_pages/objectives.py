"""The losses of a batch of pages and queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from fast_forward import PageModel
from measure import TokenFilter
from torch import Tensor
from transformers import Qwen2Tokenizer

from smart_retrieval.demo.glyph_pages import STYLES
from smart_retrieval.training.objectives import late_matrix, max_similarities
from smart_retrieval.training.recipes import objective_weights

#: The last two are controls: the same pages without a contrastive loss.
OBJECTIVES = ("anchor", "late", "hybrid", "language", "language_queries")


class Texts:
    """Queries as token ids, put together from those of their objects."""

    def __init__(self, tokenizer: Qwen2Tokenizer, style: str, closing: list[int], pad: int) -> None:
        kinds = STYLES[style].kinds
        self.first = [tokenizer(kind).input_ids for kind in kinds]
        self.later = [tokenizer(", " + kind).input_ids for kind in kinds]
        self.closing, self.pad = closing, pad

    def rows(self, chosen: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Padded ids, and the place of each last token."""
        rows = []
        for kinds in chosen:
            row = list(self.first[kinds[0]])
            for kind in kinds[1:]:
                row += self.later[kind]
            rows.append(row + self.closing)
        width = max(map(len, rows))
        ids = torch.tensor([row + [self.pad] * (width - len(row)) for row in rows])
        return ids, torch.tensor([len(row) - 1 for row in rows])


@dataclass(frozen=True)
class Batch:
    """Pages, and some queries for each of them.

    Attributes:
        patches: ``[B, patches, 768]`` uint8.
        chosen: The kinds that each query names, ``draws * B`` queries: one for each page, then the next for each.
        spurious: For each draw ``[B, B]`` bool: pages of the batch that answer another page's query, too.
        objects: The kinds on each page, in reading order.
    """

    patches: Tensor
    chosen: list[np.ndarray]
    spurious: list[Tensor]
    objects: list[np.ndarray]


def batch_loss(objective: str, fast: PageModel, texts: Texts, batch: Batch, temperature: float) -> Tensor:
    """The loss of one batch under one of `OBJECTIVES`."""
    if objective == "language":
        return language_loss(fast, texts, batch)
    if objective == "language_queries":
        return language_loss(fast, texts, batch) + query_language_loss(fast, texts, batch)
    if objective == "anchor":
        # The pooled states alone are computed, which is all that this loss needs.
        pages = F.normalize(fast.pages(batch.patches, pooled=True), dim=-1)
        queries = F.normalize(pool_queries(fast, texts, batch.chosen), dim=-1)
        scores = [part @ pages.T for part in queries.split(len(pages))]
    else:
        scores = list(hybrid_matrix(fast, texts, batch, *objective_weights(objective)).split(len(batch.patches)))
    losses = [symmetric_loss(part, mask, temperature) for part, mask in zip(scores, batch.spurious, strict=True)]
    return torch.stack(losses).mean()


def pool_queries(fast: PageModel, texts: Texts, chosen: list[np.ndarray]) -> Tensor:
    """Last states of queries, those of one length together, so that nothing is padded."""
    lengths = np.array([len(kinds) for kinds in chosen])
    groups = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
    vectors = torch.cat([fast.queries(texts.rows([chosen[i] for i in group])[0], pooled=True) for group in groups])
    return vectors[torch.from_numpy(np.argsort(np.concatenate(groups)))]


def symmetric_loss(scores: Tensor, spurious: Tensor, temperature: float) -> Tensor:
    """InfoNCE in both directions; pages that also answer a query are no negatives of it."""
    logits = (scores / temperature).masked_fill(spurious, -torch.inf)
    own = torch.arange(len(scores))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def hybrid_matrix(
    fast: PageModel, texts: Texts, batch: Batch, lambda_anchor: float, lambda_late: float, token_filter: str = "paper"
) -> Tensor:
    """``[queries, pages]`` anchor cosine and mean MaxSim, weighted, under the token filter of the evaluation."""
    ids, last = texts.rows(batch.chosen)
    keep = TokenFilter(fast, token_filter)
    opening = F.normalize(fast.opening_states(), dim=-1)[keep.opening]
    queries = F.normalize(fast.queries(ids), dim=-1)
    pages = F.normalize(fast.pages(batch.patches), dim=-1)
    kept = keep(ids, last)
    on_page = keep(torch.tensor([fast.page_ids]), torch.tensor([pages.shape[1] - 1]))[0]
    documents = torch.cat([opening.expand(len(pages), -1, -1), pages[:, on_page]], 1)
    # The opening's tokens are the same in every query, so that their MaxSims are computed once.
    best = max_similarities(
        torch.cat([opening, queries[kept]]), documents, torch.ones(documents.shape[:2], dtype=torch.bool)
    )
    shared, own = best[: len(opening)].sum(0), kept.sum(1)
    late = (late_matrix(best[len(opening) :], own) * own[:, None] + shared) / (own[:, None] + len(opening))
    anchors = queries[torch.arange(len(ids)), last] @ pages[:, -1].T
    return lambda_anchor * anchors + lambda_late * late


def language_loss(fast: PageModel, texts: Texts, batch: Batch) -> Tensor:
    """Next-token prediction of a page's objects in reading order, as the assistant's turn; the head is tied."""
    # All pages hold the same number of objects and each is as many tokens, so that nothing is padded. The turn's end
    # is predicted, too; what the template puts after it is not.
    ids = texts.rows(batch.objects)[0][:, : 1 - len(texts.closing)]
    states = fast.descriptions(batch.patches, ids)
    logits = states @ fast.model.language_model.embed_tokens.weight.T
    return F.cross_entropy(logits.flatten(0, 1), ids.flatten())


def query_language_loss(fast: PageModel, texts: Texts, batch: Batch) -> Tensor:
    """Next-token prediction of the queries as they stand in the user's turn, to its end, without the first token."""
    ids, last = texts.rows(batch.chosen)
    states = fast.queries(ids[:, :-1])
    logits = states @ fast.model.language_model.embed_tokens.weight.T
    targets = torch.arange(1, ids.shape[1]) <= (last - len(texts.closing) + 1)[:, None]
    return F.cross_entropy(logits[targets], ids[:, 1:][targets])
