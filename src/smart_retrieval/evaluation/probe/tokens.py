"""Which document tokens win a MaxSim: by role, when every position is kept, and how many ever do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...core.head import TokenHead
from ...core.readout import Readout
from ...core.roles import TokenRole, kept_rows
from ...embeddings import SmartEmbeddings
from ...inputs import Item
from ...model.batching import BatchLimits
from ...model.encoding import Encoder, gathered
from ...types import Array

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel
    from ..beir import BeirDataset

#: Queries and documents in the sample; every query is compared with every document.
QUERIES, DOCUMENTS = 100, 200


def token_report(
    smart: SmartModel, readout: Readout, data: BeirDataset, *, seed: int = 0, batch_size: int | None = None
) -> dict[str, Any]:
    """Where the best matches of query tokens fall, in a random sample of queries and documents.

    ``all_kept`` is with every position kept, those that are no content included, for which the
    sample is encoded once more; ``as_used`` is under the readout's own filter.
    """
    rng = np.random.default_rng(seed)

    def encoded(task: Literal["query", "document"], most: int) -> SmartEmbeddings:
        items = data.items(task)
        chosen = [items[place] for place in sorted(rng.permutation(len(items))[:most].tolist())]
        return encode_every_position(smart, readout, task, chosen, batch_size)

    queries, documents = encoded("query", QUERIES), encoded("document", DOCUMENTS)
    used = (one.with_rows(kept_rows(one.roles, readout.token_filter, one.offsets)) for one in (queries, documents))
    return {
        "sample": {"queries": len(queries), "documents": len(documents)},
        "all_kept": winner_report(queries, documents),
        "as_used": winner_report(*used),
    }


class _EveryPositionHead(TokenHead):
    def kept_positions(self, roles: Any) -> Any:
        return roles >= 0


def encode_every_position(
    smart: SmartModel, readout: Readout, task: str, items: Sequence[str | Item], batch_size: int | None = None
) -> SmartEmbeddings:
    """Encode with no position left out but padding, whatever the readout's filter."""
    # Not the paper's filter, with which some backbones leave out positions of their own.
    every = Readout(readout.layers, readout.mix, "content")
    backbone = smart.backbone
    if not every.reads_last_state_only:
        backbone.emit_hidden_states()
    windows = Encoder(backbone, backbone.token_head(every, smart.adapter, _EveryPositionHead)).windows(
        items,
        task=task,
        prompt=backbone.prompt_for(task, None, None),
        limits=BatchLimits() if batch_size is None else BatchLimits(batch_size=batch_size),
        advance=lambda count: None,
    )
    return gathered(windows, None)


def winner_report(queries: SmartEmbeddings, documents: SmartEmbeddings) -> dict[str, Any]:
    """Which document tokens are the best match of a query token, over every pair of a query and a document.

    By the role of the document token: ``document_tokens`` (share of all), ``wins`` (share of all best matches) and
    ``score`` (share of the mean late score, equal weights, no floor; a share can be negative where similarities are);
    ``query_tokens`` by their own role; and ``ever_win``, the share of document tokens that are the best match of a
    query token at least once, by role and over ``all``. Roles that do not occur are left out; a share of nothing is
    None.
    """
    tokens = np.asarray(queries.token_vectors, np.float32)
    # A query's score is a mean over its tokens, so each token weighs one over their number.
    weights = np.repeat(1.0 / np.maximum(queries.lengths, 1), queries.lengths)
    wins, score = np.zeros(len(TokenRole)), np.zeros(len(TokenRole))
    won = np.zeros(len(documents.token_vectors), bool)
    for start, stop in zip(documents.offsets[:-1].tolist(), documents.offsets[1:].tolist(), strict=True):
        if start == stop or not len(tokens):
            continue
        similarities = tokens @ np.asarray(documents.token_vectors[start:stop], np.float32).T
        best = similarities.argmax(axis=1)
        roles = documents.roles[start:stop][best]
        won[start + best] = True
        wins += _count(roles)
        score += _count(roles, weights * similarities[np.arange(len(best)), best])
    counts, winners = _count(documents.roles), _count(documents.roles[won])
    present = [role for role in TokenRole if counts[role]]
    ever = {role.name.lower(): float(winners[role] / counts[role]) for role in present}
    query_counts = _count(queries.roles)
    return {
        "query_tokens": _shares(query_counts, [role for role in TokenRole if query_counts[role]]),
        "document_tokens": _shares(counts, present),
        "wins": _shares(wins, present),
        "score": _shares(score, present),
        "ever_win": {**ever, "all": float(won.mean()) if len(won) else None},
    }


def _count(roles: Array, weights: Array | None = None) -> Array:
    return np.bincount(roles, weights, minlength=len(TokenRole))


def _shares(values: Array, roles: Sequence[TokenRole]) -> dict[str, float | None]:
    total = float(values.sum())
    return {role.name.lower(): float(values[role]) / total if total > 0 else None for role in roles}
