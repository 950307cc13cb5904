"""Why a document was found: its score, taken apart into query tokens and the document tokens that answered them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.hybrid import anchor_scores
from ...core.late import token_shares
from ...core.matches import token_matches
from ...core.scoring import Scoring
from ...embeddings import SmartEmbeddings
from ..store.pictures import SPECIAL, VISUAL
from .visual import Row, VisualExplanation, explain_visual, rows_of

if TYPE_CHECKING:
    from ..smart_index import SmartIndex

# Pieces that a passage's first word may have.
_FIRST_WORD = 8
_ROLES = ("special", "template", "prompt", "text", "image", "video")  # by number, see TokenRole


@dataclass(frozen=True)
class ExplainedToken:
    """One query token.

    Args:
        query_token: The token.
        document_token: The document token that answered it best; ``""`` where tokens were pooled.
        document_index: Its position among the document's tokens.
        span: Where it stands in the passage, from and to in characters; None where that is not known.
        similarity: Cosine of the two.
        weight: The query token's share of all weights.
        contribution: What it adds to the late score.
        role: What the query token is: ``"text"``, ``"image"`` or ``"video"``, or ``"prompt"``, ``"template"`` or
            ``"special"``, which nobody asked with.
    """

    query_token: str
    document_token: str
    document_index: int
    span: tuple[int, int] | None
    similarity: float
    weight: float
    contribution: float
    role: str = "text"


@dataclass(frozen=True)
class Explanation:
    """One document's score for one query.

    Args:
        query: Its text, where it was given as text.
        id: The document.
        score: ``lambda_anchor * anchor + lambda_late * late``.
        anchor: Cosine of the anchors.
        late: Late interaction: the sum of the tokens' contributions.
        lambda_anchor: Weight of the first.
        lambda_late: Weight of the second.
        floor: Similarities that counted as none.
        tokens: The query's tokens, in order.
        text: The passage.
        source: Its file.
        page: Its page there.
        heading: Its heading path there.
        visual: Heat maps, where the document is a picture.
    """

    query: str | None
    id: str
    score: float
    anchor: float
    late: float
    lambda_anchor: float
    lambda_late: float
    floor: float | None
    tokens: tuple[ExplainedToken, ...]
    text: str
    source: str | None
    page: int | None
    heading: str | None
    visual: VisualExplanation | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; ``contributions`` add up to the late score."""
        found = {part.name: getattr(self, part.name) for part in fields(self)}
        return {
            **found,
            "tokens": [asdict(token) for token in self.tokens],
            "special_share": self.special_share,
            "visual": self.visual.to_dict() if self.visual is not None else None,
        }

    @property
    def special_share(self) -> float:
        """Share of the late score that the query's special, template and prompt tokens bring, which nobody asked with.

        Example:
            >>> parts = [("cat", 0.3, "text"), ("<s>", 0.1, "special")]
            >>> tokens = tuple(ExplainedToken(word, "", 0, None, 1, 0.5, value, role) for word, value, role in parts)
            >>> Explanation("cat", "a", 1, 0, 0.4, 1, 1, None, tokens, "", None, None, None).special_share
            0.25
        """
        own = sum(token.contribution for token in self.tokens if _ROLES.index(token.role) in SPECIAL)
        return own / self.late if self.late > 0 else 0.0

    def rows(self) -> tuple[Row, ...]:
        """Lines of the query to show: its tokens one by one, those of its pictures as one."""
        if self.visual is not None:
            return self.visual.rows
        return rows_of(self.tokens, [_ROLES.index(token.role) for token in self.tokens])

    def shading(self) -> list[tuple[int, int, float]]:
        """Parts of the passage that answered query tokens: from, to, and what they contributed together."""
        parts: dict[tuple[int, int], float] = {}
        for token in self.tokens:
            if token.span is not None and token.contribution > 0:
                parts[token.span] = parts.get(token.span, 0.0) + token.contribution
        return sorted((start, stop, value) for (start, stop), value in parts.items())


def explain_document(
    index: SmartIndex,
    query: SmartEmbeddings,
    text: str | None,
    id: str,
    scoring: Scoring,
) -> Explanation:
    """See :meth:`~smart_retrieval.index.smart_index.SmartIndex.explain`."""
    weights, cut = scoring.query_weights, scoring.floor
    with index.store.reading():
        codec = index.codec()  # first: it notices a codec that was changed meanwhile
        rowids = index.store.rowids([id])
        (document,) = index.store.get(rowids=rowids)
        vectors = index.store.read_vectors(rowids)
    anchors = np.repeat(vectors.anchors, len(vectors.codes), axis=0) if codec.anchor_dim is not None else None
    pooled = not np.array_equal(vectors.offsets, vectors.id_offsets)
    ids = None if pooled else vectors.token_ids
    stored = SmartEmbeddings(vectors.anchors, codec.decode(vectors.codes, anchors), vectors.offsets, ids)
    tokenizer = index.model.tokenizer
    words = _names(query, tokenizer)
    answers = stored.token_strings(0, tokenizer)
    spans = _spans(index, document.text, stored.token_ids.tolist()) if not pooled else [None] * len(answers)
    matches = token_matches(query, stored, weights, cut)
    roles = query.roles.tolist()
    tokens = tuple(
        ExplainedToken(
            words[match.query_index],
            answers[match.document_index],
            match.document_index,
            spans[match.document_index],
            match.similarity,
            match.share,
            match.contribution,
            _ROLES[roles[match.query_index]],
        )
        for match in matches
    )
    anchor = float(anchor_scores(query, stored)[0, 0])
    late = sum(token.contribution for token in tokens)
    return Explanation(
        text,
        id,
        scoring.lambda_anchor * anchor + scoring.lambda_late * late,
        anchor,
        late,
        scoring.lambda_anchor,
        scoring.lambda_late,
        cut,
        tokens,
        document.text,
        document.source,
        document.page,
        document.heading,
        None
        if document.media is None
        else explain_visual(document.media, query, stored, token_shares(query, weights), cut, tokens, matches),
    )


def _names(query: SmartEmbeddings, tokenizer: Any) -> list[str]:
    """The query's tokens in words; a visual one has none."""
    return [
        word or (f"[{_ROLES[role]}]" if role in VISUAL else "")
        for word, role in zip(query.token_strings(0, tokenizer), query[0].roles.tolist(), strict=True)
    ]


def _spans(index: SmartIndex, text: str, ids: list[int]) -> list[tuple[int, int] | None]:
    """Characters each stored token stands for; None where it is none of the passage's (a prompt, a template)."""
    encoded = index.model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    special = index.model.backbone.special_ids
    pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    # Special tokens in the passage have no vector.
    passage = [(token, (int(span[0]), int(span[1]))) for token, span in pairs if token not in special]
    best, at, skipped = 0, 0, 0
    # A tokenizer may merge a prompt's last blank with the first word, which is then cut in other pieces.
    for skip in range(min(_FIRST_WORD, len(passage))):
        rest = [token for token, _ in passage[skip:]]
        for start in range(len(ids)):
            length = 0
            while length < min(len(rest), len(ids) - start) and ids[start + length] == rest[length]:
                length += 1
            # Of all places the passage could begin at, the one where most of it follows.
            if length > best:
                best, at, skipped = length, start, skip
    spans: list[tuple[int, int] | None] = [None] * len(ids)
    spans[at : at + best] = [span for _, span in passage[skipped : skipped + best]]
    return spans
