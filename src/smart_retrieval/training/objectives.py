"""Training objectives: InfoNCE and distillation over anchor, late or hybrid scores, on ragged batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Similarities held at once; a block of query tokens against all documents of a batch.
_BLOCK = 2**25


class _MaxSim(torch.autograd.Function):
    """The best dot product of each query token in each document; keeps which one it was, not the similarities."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, documents: Tensor, mask: Tensor) -> Tensor:
        count, longest, width = documents.shape
        flat = documents.reshape(count * longest, width)
        best = queries.new_empty(len(queries), count)
        places = torch.empty(len(queries), count, dtype=torch.long, device=queries.device)
        step = max(1, _BLOCK // max(1, count * longest))
        absent = ~mask
        for start in range(0, len(queries), step):
            similarities = (queries[start : start + step] @ flat.T).view(-1, count, longest)
            similarities.masked_fill_(absent, -torch.inf)  # in place: one block is held, not two
            best[start : start + step], places[start : start + step] = similarities.max(dim=-1)
        places += torch.arange(count, device=queries.device) * longest
        ctx.save_for_backward(queries, flat, places)
        ctx.shape = documents.shape
        return best

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        queries, flat, places = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        to_queries = torch.nn.functional.embedding_bag(places, flat, mode="sum", per_sample_weights=gradient)
        rows = torch.arange(len(queries), device=places.device).repeat_interleave(places.shape[1])
        weights = torch.sparse_coo_tensor(
            torch.stack([places.flatten(), rows]),
            gradient.flatten(),
            (len(flat), len(queries)),
            check_invariants=False,
        )
        with _in_float32(flat):
            to_documents = torch.sparse.mm(weights, queries)
        return to_queries, to_documents.view(ctx.shape), None


def _in_float32(values: Tensor) -> torch.autocast:
    """No autocast, whose products have three digits: at a temperature of .03 that is .1 of a logit."""
    return torch.autocast(values.device.type, enabled=False)


def max_similarities(queries: Tensor, documents: Tensor, mask: Tensor) -> Tensor:
    """The best dot product of each query token in each document, differentiable: ``[sum Tq, Nd]`` float32.

    Of queries ``[sum Tq, Dt]`` and padded documents ``[Nd, Td, Dt]`` with a mask ``[Nd, Td]``; 0 for a document without
    tokens.
    """
    with _in_float32(documents):
        best: Tensor = _MaxSim.apply(queries.float(), documents.float(), mask)  # type: ignore[no-untyped-call]
    return best.masked_fill(~mask.any(dim=1), 0.0)


def late_matrix(best: Tensor, lengths: Tensor, weights: Tensor | None = None) -> Tensor:
    """Late scores ``[Nq, Nd]``: the mean of :func:`max_similarities` over each query's tokens; 0 where it has none.

    ``lengths`` ``[Nq]`` are tokens of each query; ``weights`` ``[sum Tq]`` are non-negative, or None for equal ones.
    """
    items = torch.repeat_interleave(torch.arange(len(lengths), device=best.device), lengths.to(best.device))
    shares = torch.ones(len(best), device=best.device) if weights is None else weights.to(best.device).float()
    sums = torch.zeros(len(lengths), device=best.device).index_add(0, items, shares)
    shares = shares / sums[items].clamp_min(1e-12)
    scores = torch.zeros(len(lengths), best.shape[1], device=best.device)
    return scores.index_add(0, items, best * shares[:, None])


def hybrid_matrix(
    lambdas: tuple[float, float],
    query_anchors: Tensor,
    document_anchors: Tensor,
    query_tokens: Tensor,
    query_lengths: Tensor,
    documents: Tensor,
    mask: Tensor,
) -> Tensor:
    """``lambda_anchor * cosine + lambda_late * late``, ``[Nq, Nd]`` float32, differentiable, under autocast as well.

    Anchors are of unit length; the rest is as for :func:`max_similarities`. A part of weight 0 is not computed.
    """
    lambda_anchor, lambda_late = lambdas
    scores = torch.zeros(len(query_anchors), len(documents), device=documents.device)
    if lambda_anchor:
        with _in_float32(document_anchors):
            scores = scores + lambda_anchor * (query_anchors.float() @ document_anchors.float().T)
    if lambda_late:
        best = max_similarities(query_tokens, documents, mask)
        scores = scores + lambda_late * late_matrix(best, query_lengths)
    return scores


def padded(vectors: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Ragged vectors ``[sum T, D]`` as one block ``[N, max T, D]`` with zeros behind each item, and its mask."""
    longest = max(1, int(lengths.max()))
    mask = torch.arange(longest, device=vectors.device) < lengths.to(vectors.device)[:, None]
    block = vectors.new_zeros(len(lengths), longest, vectors.shape[1])
    return block.masked_scatter(mask.unsqueeze(-1), vectors), mask


def contrastive_loss(
    scores: Tensor, targets: Tensor, ignored: Tensor | None = None, temperature: float = 0.03
) -> Tensor:
    """InfoNCE: each query's document (its column in ``targets``) against all others, the mean over the queries.

    ``ignored`` ``[Nq, Nd]`` are documents that answer the query, too, and are no negatives; never the target.
    """
    logits = scores / temperature
    if ignored is not None:
        logits = logits.masked_fill(ignored, -torch.inf)
    return torch.nn.functional.cross_entropy(logits, targets)


def distillation_loss(
    scores: Tensor, teacher: Tensor, temperature: float = 0.03, teacher_temperature: float = 1.0
) -> Tensor:
    """Kullback-Leibler divergence of scores ``[Nq, Nd]`` from a teacher's, ``-inf`` where it has none; the mean.

    Not multiplied by the squared temperature, so that its gradient is of the size of :func:`contrastive_loss`'s.
    """
    known = teacher > -torch.inf
    logits = (scores / temperature).masked_fill(~known, -torch.inf)
    wanted = (teacher / teacher_temperature).log_softmax(dim=-1)
    found = logits.log_softmax(dim=-1)
    terms = torch.where(known, wanted.exp() * (wanted - found), torch.zeros_like(found))
    return terms.masked_fill(~known, 0.0).sum(dim=-1).mean()
