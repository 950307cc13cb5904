"""Which tokens win a MaxSim: by role, when every position is kept, and how many ever do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...core.readout import Readout
from ...core.roles import TokenRole, kept_roles
from ...embeddings import SmartEmbeddings
from ...model.batching import BatchLimits
from ...model.encoding import Encoder, gathered

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel
    from ..beir import BeirDataset

#: Queries and documents that are looked at; every query meets every document.
QUERIES, DOCUMENTS = 100, 200

_NAMES = {role: role.name.lower() for role in TokenRole}


def token_report(
    smart: SmartModel, readout: Readout, data: BeirDataset, *, seed: int = 0, batch_size: int | None = None
) -> dict[str, Any]:
    """Where the best matches of query tokens fall, in a sample of queries and documents.

    The sample is encoded once more with every position kept, those of special, template and prompt tokens included,
    which a readout leaves out or may leave out.

    Args:
        smart: The model.
        readout: The layers, mix and filter it is used with.
        data: The collection.
        seed: Of the random sample.
        batch_size: Most texts in one forward pass.

    Returns:
        ``sample`` (``queries``, ``documents``); ``all_kept`` (as `winner_report` gives it, every position kept) and
        ``as_used`` (the same under the readout's own filter).

    Raises:
        SmartError: The model cannot be run.
    """
    rng = np.random.default_rng(seed)

    def some(values: Sequence[str], most: int) -> list[str]:
        chosen = rng.permutation(len(values))[:most]
        return [values[place] for place in sorted(chosen.tolist())]

    texts = {"query": some(data.queries, QUERIES), "document": some(data.texts, DOCUMENTS)}
    queries, documents = (encode_every_position(smart, readout, task, texts[task], batch_size) for task in texts)
    kept = [int(role) for role in kept_roles(readout.token_filter)]
    return {
        "sample": {"queries": len(queries), "documents": len(documents)},
        "all_kept": winner_report(queries, documents),
        "as_used": winner_report(_with_roles(queries, kept), _with_roles(documents, kept)),
    }


def encode_every_position(
    smart: SmartModel, readout: Readout, task: str, texts: Sequence[str], batch_size: int | None = None
) -> SmartEmbeddings:
    """Encode with no position left out but padding.

    Args:
        smart: The model.
        readout: Layers and mix; its filter is not used.
        task: ``"query"`` or ``"document"``.
        texts: What to encode.
        batch_size: Most texts in one forward pass.

    Returns:
        Token vectors of all positions, each with its role.
    """
    from ...core.head import TokenHead

    class _EveryPosition(TokenHead):
        def kept_positions(self, roles: Any) -> Any:
            return roles >= 0

    # Not the paper's filter, with which some backbones leave out positions of their own.
    every = Readout(readout.layers, readout.mix, "content")
    backbone = smart.backbone
    if not every.reads_last_state_only:
        backbone.emit_hidden_states()
    encoder = Encoder(backbone, _EveryPosition(every, backbone.roles_without_prompt, smart.adapter))
    stream = encoder.stream(
        texts,
        task=task,
        prompt=backbone.prompt_for(task, None, None),
        limits=BatchLimits() if batch_size is None else BatchLimits(batch_size=batch_size),
        advance=lambda count: None,
    )
    return gathered(stream, None, task)


def winner_report(queries: SmartEmbeddings, documents: SmartEmbeddings) -> dict[str, Any]:
    """Which document tokens are the best match of a query token, over every pair of a query and a document.

    Args:
        queries: With token vectors.
        documents: With token vectors; those without any are passed over.

    Returns:
        By the role of the document token: ``document_tokens`` (share of all), ``wins`` (share of all best matches) and
        ``score`` (share of the mean late score, equal weights, no floor; a share can be negative where similarities
        are); ``query_tokens`` by their own role; and ``ever_win``, the share of document tokens that are the best match
        of a query token at least once, by role and over ``all``. Roles that do not occur are left out; every value is
        None where there is nothing to count.

    Example:
        >>> import numpy as np
        >>> one = SmartEmbeddings([[1.0]], np.eye(2)[:1], [0, 1])
        >>> two = SmartEmbeddings([[1.0]], np.eye(2), [0, 2], roles=[3, 0])
        >>> winner_report(one, two)["wins"], winner_report(one, two)["ever_win"]
        ({'special': 0.0, 'text': 1.0}, {'special': 0.0, 'text': 1.0, 'all': 0.5})
    """
    tokens = np.asarray(queries.token_vectors, np.float32)
    # A query's score is a mean over its tokens, so each token weighs one over their number.
    lengths = queries.lengths
    weights = np.repeat(1.0 / np.maximum(lengths, 1), lengths)
    wins, score = np.zeros(len(TokenRole)), np.zeros(len(TokenRole))
    won = np.zeros(len(documents.token_vectors), bool)
    for start, stop in zip(documents.offsets[:-1].tolist(), documents.offsets[1:].tolist(), strict=True):
        if start == stop or not len(tokens):
            continue
        similarities = tokens @ np.asarray(documents.token_vectors[start:stop], np.float32).T
        best = similarities.argmax(axis=1)
        roles = documents.roles[start:stop][best]
        won[start + best] = True
        wins += np.bincount(roles, minlength=len(TokenRole))
        score += np.bincount(roles, weights * similarities[np.arange(len(best)), best], minlength=len(TokenRole))
    counts = np.bincount(documents.roles, minlength=len(TokenRole))
    winners = np.bincount(documents.roles[won], minlength=len(TokenRole))
    present = [role for role in TokenRole if counts[role]]
    ever = {_NAMES[role]: float(winners[role] / counts[role]) for role in present}
    return {
        "query_tokens": _shares(np.bincount(queries.roles, minlength=len(TokenRole))),
        "document_tokens": _shares(counts),
        "wins": _shares(wins, present),
        "score": _shares(score, present),
        "ever_win": {**ever, "all": float(won.mean()) if len(won) else None},
    }


def _shares(values: NDArray[Any], present: Sequence[TokenRole] | None = None) -> dict[str, float | None]:
    total = float(values.sum())
    roles = [role for role in TokenRole if values[role]] if present is None else present
    return {_NAMES[role]: float(values[role]) / total if total > 0 else None for role in roles}


def _with_roles(embeddings: SmartEmbeddings, kept: Sequence[int]) -> SmartEmbeddings:
    """The token vectors of some roles alone."""
    rows = np.isin(embeddings.roles, kept)
    offsets = np.concatenate([[0], np.cumsum(rows)])[embeddings.offsets]
    return SmartEmbeddings(
        embeddings.anchors, embeddings.token_vectors[rows], offsets, embeddings.token_ids[rows], embeddings.roles[rows]
    )
