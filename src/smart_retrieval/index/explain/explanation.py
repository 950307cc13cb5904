"""Why a document was found: its score taken apart, as numbers, as a web page and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path

import numpy as np

from ...backbones.tokenizing import tokenize
from ...core.hybrid import anchor_scores
from ...core.late import token_shares
from ...core.matches import TokenMatch, token_matches
from ...core.readout import Readout
from ...core.roles import TokenRole, kept_rows
from ...core.scoring import Scoring
from ...embeddings import SmartEmbeddings
from ..encoder import IndexEncoder, Vocabulary, decode_vectors
from ..search.boosts import AddedPart
from ..search.searcher import Searcher, Settings
from ..store.pictures import VISUAL, Media
from ..store.records import Document
from ..store.store import Store
from ..text.folding import fold, stored_spans
from .heatmap import grid_maps, place_in_grid, value_scale
from .page import render_page
from .png import draw_png
from .score import ExplainedToken, Place, Row, ScoreBreakdown, VisualExplanation, rows_of
from .shown_pictures import PictureFile, clock, find_pictures

# Pieces that a passage's first word may have.
_FIRST_WORD = 8


@dataclass(frozen=True)
class Explanation(ScoreBreakdown):
    """One document's score for one query.

    Args:
        query: Its text, where it was given as text.
        id: The document.
        score: ``lambda_anchor * anchor + lambda_late * late``, and what ``added`` contributes.
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
        added: What the search's options add: ``name`` (``"lexical"``, ``"feedback"``, ``"neighbours"``), ``weight``,
            ``value``, ``contribution`` (their product) and ``like`` (ids of the documents that it comes from).
        rerank: The reranker's score, if the search has one; it is no part of ``score``.
        file: Where the document's file lies, which the heat maps or marks are drawn on.

    Example:
        >>> why = index.explain("rotate the logs", "guide/logs.md#3")  # doctest: +SKIP
        >>> Path("why.html").write_text(why.to_html())  # doctest: +SKIP
    """

    file: PictureFile = field(default=PictureFile(), repr=False)

    def to_html(self, root: str | Path | None = None) -> str:
        """A web page: the score, the query's tokens with what each adds, the passage with its words shaded.

        Pointing at a query token marks the word that matches it best, and the other way round; over a picture it shows
        the token's heat map. Of a passage from a PDF or picture, its page is shown, the words that matched marked (of a
        page without text by OCR, extra ``ocr``). The page loads nothing, and everything shown is escaped.

        Args:
            root: The folder that sources are relative to, if the indexed folder was moved. A picture whose file cannot
                be read is shown as its thumbnail; a passage whose file is gone or has changed, without its page.

        Returns:
            The page.
        """
        return render_page(self, find_pictures(self, self.file, root))

    def _repr_html_(self) -> str:
        """The page, in a frame, for notebooks."""
        return f'<iframe srcdoc="{escape(self.to_html())}" width="100%" height="480" sandbox="allow-scripts"></iframe>'

    def to_png(self, root: str | Path | None = None) -> bytes:
        """The heat maps of a picture: the whole query over it, and the words that contribute most.

        Of a passage from a PDF or picture, its page with the words that matched marked.

        Args:
            root: As for :meth:`to_html`.

        Returns:
            A PNG file.

        Raises:
            SmartError: The document is text without a page, or the page cannot be shown.
        """
        return draw_png(self, find_pictures(self, self.file, root))


def explain_stored(
    store: Store,
    encoder: IndexEncoder,
    searcher: Searcher,
    query: SmartEmbeddings,
    text: str | None,
    id: str,
    settings: Settings,
    where: str | None,
) -> Explanation:
    """Take apart the score that a search with these settings gives a stored document."""
    with store.reading():
        codec = encoder.codec()  # first: it notices a codec that was changed meanwhile
        (document,) = store.get([id])
        stored = decode_vectors(codec, store.read_vectors([document.rowid]))
        if media := document.media:  # with its thumbnail, so that it can be drawn after the index was closed
            document = replace(document, media=replace(media, preview=media.thumbnail()))
        file = PictureFile(store.manifest.root, store.files.get(document.source) if document.source else None)
        added = searcher.added_parts(query, text, settings, document.rowid, where)
    vocabulary, manifest = encoder.vocabulary(), store.manifest
    token_filter = Readout.from_dict(manifest.readout).token_filter
    return explain_document(
        query, text, document, stored, settings.scoring, vocabulary, token_filter, file,
        folding=manifest.folding, added=added,
    )  # fmt: skip


def explain_document(
    query: SmartEmbeddings,
    text: str | None,
    document: Document,
    stored: SmartEmbeddings,
    scoring: Scoring,
    vocabulary: Vocabulary,
    token_filter: str,
    file: PictureFile,
    *,
    folding: bool,
    added: tuple[AddedPart, ...] = (),
) -> Explanation:
    """Take apart the score of one document, whose vectors are ``stored``, for one query, whose text is ``text``.

    ``folding`` says that the document was encoded without compatibility forms.
    """
    matches = token_matches(query, stored, scoring.query_weights, scoring.late_floor)
    roles = [TokenRole(role).name.lower() for role in query.roles.tolist()]
    words = query.token_strings(0, vocabulary.tokenizer)
    # Of a document without token vectors the match is number -1.
    answers = [*stored.token_strings(0, vocabulary.tokenizer), ""]
    seen = fold(document.text) if folding else document.text
    spans = _spans(vocabulary, token_filter, seen, stored.token_ids.tolist())
    spans = [*(stored_spans(document.text, spans) if seen != document.text else spans), None]
    tokens = tuple(
        ExplainedToken(
            words[match.query_index] or _visual_name(query, match.query_index),
            answers[match.document_index],
            match.document_index,
            spans[match.document_index],
            match.similarity,
            match.share,
            match.contribution,
            roles[match.query_index],
        )
        for match in matches
    )
    anchor = float(anchor_scores(query, stored)[0, 0])
    late = sum(token.contribution for token in tokens)
    visual = None
    if document.media is not None:
        visual = _explain_picture(document.media, query, stored, scoring, tokens, matches)
    return Explanation(
        text,
        document.id,
        float(scoring.combine(np.asarray(anchor), np.asarray(late))) + sum(part.contribution for part in added),
        anchor,
        late,
        scoring.lambda_anchor,
        scoring.late_weight,
        scoring.late_floor,
        tokens,
        document.text,
        document.source,
        document.page,
        document.heading,
        visual,
        added,
        file=file,
    )


def _visual_name(query: SmartEmbeddings, position: int) -> str:
    role = int(query.roles[position])
    return f"[{TokenRole(role).name.lower()}]" if role in VISUAL else ""


def _spans(vocabulary: Vocabulary, token_filter: str, text: str, ids: list[int]) -> list[tuple[int, int] | None]:
    """Characters each stored token stands for; None where it is none of the passage's (a prompt, a template)."""
    encoded = tokenize(vocabulary.tokenizer, text, return_offsets_mapping=True)
    token_ids = np.asarray(encoded["input_ids"], np.int64)
    # Special tokens in the passage have no vector, nor has what the filter drops.
    kept = kept_rows(vocabulary.word_roles(token_ids), token_filter)
    kept &= ~np.isin(token_ids, list(vocabulary.special_ids))
    pairs = zip(token_ids[kept].tolist(), np.asarray(encoded["offset_mapping"])[kept].tolist(), strict=True)
    passage = [(token, (int(start), int(stop))) for token, (start, stop) in pairs]
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


def _explain_picture(
    media: Media,
    query: SmartEmbeddings,
    stored: SmartEmbeddings,
    scoring: Scoring,
    tokens: Sequence[ExplainedToken],
    matches: Sequence[TokenMatch],
) -> VisualExplanation:
    similarities = np.asarray(query.token_vectors, np.float32) @ np.asarray(stored.token_vectors, np.float32).T
    places = [_place(media, match.document_index) for match in matches]
    rows = rows_of(tokens, places)
    shares = token_shares(query, scoring.query_weights)
    maps = grid_maps(similarities, shares, media.grids, floor=scoring.late_floor, rows=[row.tokens for row in rows])
    late = sum(token.contribution for token in tokens)
    outside = sum(token.contribution for token, place in zip(tokens, places, strict=True) if place is None)
    share = outside / late if late > 0 and maps else 0.0
    row_scale, whole_scale = value_scale([one.rows for one in maps]), value_scale([one.whole for one in maps])
    found = VisualExplanation(media, rows, maps, row_scale, whole_scale, share)
    return replace(found, rows=tuple(_timed(row, found) for row in rows)) if media.kind == "audio" else found


def _timed(row: Row, visual: VisualExplanation) -> Row:
    """A row whose best match is sound, with the second of the recording."""
    if row.place is None or visual.maps[row.place[0]].grid.kind != "audio":
        return row
    start = visual.media.times[0] if visual.media.times else 0.0
    return replace(row, answer=clock(start + row.place[3] * visual.cell_seconds(row.place[0])))


def _place(media: Media, position: int) -> Place | None:
    for number, grid in enumerate(media.grids):
        place = place_in_grid(grid, position)
        if place is not None:
            return (number, *place)
    return None
