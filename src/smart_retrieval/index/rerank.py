"""The last stage: a model that reads query and document together orders the first hits anew."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..backbones.checkpoints import hide_progress_bars, hub_answers, only_errors_logged, settled_name
from ..errors import (
    EmptyInputError,
    MediaError,
    ModelNotFoundError,
    NonFiniteError,
    ScoringError,
    SmartWarning,
    UnsupportedModelError,
)
from ..files import path_on_disk
from ..inputs import Item
from ..locks import ForkLock
from ..pictures.contained import load_again
from ..pictures.pdf_pages import PdfPageImage
from ..pictures.video import VideoFile
from ..types import Array
from .ingest.recorded_pictures import open_image, open_video
from .search.hits import Hit, Hits
from .search.options import Reranker, RerankWith
from .store.records import Document

# Frames of a video that a reranker is shown.
FRAMES = 8
# Tokenizers are not to be used by two threads at once.
_PREDICTING = ForkLock()


def reranker_of(rerank: RerankWith) -> Reranker | None:
    """The reranker, loaded if it is given by name."""
    if rerank is None:
        return None
    if isinstance(rerank, str | Path):
        return load_reranker(settled_name(rerank))
    if not callable(getattr(rerank, "predict", None)):
        raise ScoringError(
            f"rerank: found {type(rerank).__name__}, expected a CrossEncoder, its name or folder, or an object with "
            "predict(pairs)"
        )
    return rerank


@lru_cache(maxsize=1)
def load_reranker(name: str) -> Reranker:
    """A ``CrossEncoder`` by name; the last one stays loaded."""
    folder = Path(name).expanduser()
    if not folder.is_dir() and (folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise ModelNotFoundError(f"reranker {name!r}: found no such folder; check the path, or give a hub name")
    local = folder.is_dir() or not hub_answers(name, organisation="cross-encoder")
    from sentence_transformers import CrossEncoder

    hide_progress_bars()
    try:
        with only_errors_logged():
            source = str(folder) if folder.is_dir() else name
            model: Any = CrossEncoder(source, trust_remote_code=False, local_files_only=local)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelNotFoundError(
            f"reranker {name!r}: expected a checkpoint that Sentence Transformers' CrossEncoder loads, found "
            f"{type(error).__name__}: {reason}"
        ) from error
    # Whatever lacks a head is given a random one.
    heads = [str(one) for one in getattr(model.config, "architectures", None) or ()]
    if len(model) == 1 and not any(head.endswith("ForSequenceClassification") for head in heads):
        raise UnsupportedModelError(
            f"reranker {name!r}: found {' or '.join(heads) or 'no architecture'} without a trained head, expected a "
            "cross-encoder (ForSequenceClassification, or a causal model asked for yes or no)"
        )
    if model.num_labels != 1:
        raise UnsupportedModelError(f"reranker {name!r}: found {model.num_labels} labels, expected one score a pair")
    found: Reranker = model
    return found


def rerank_scores(reranker: Reranker, query: Any, documents: Sequence[Any]) -> Array:
    """Scores of documents for one query, ``[n]`` float64."""
    if not documents:
        return np.zeros(0)
    supports = getattr(reranker, "supports", None)
    for kinds in sorted({_modalities(side) for side in (query, *documents)}):
        if supports is not None and not supports(kinds[0] if len(kinds) == 1 else kinds):
            raise UnsupportedModelError(
                f"rerank: found {' with '.join(kinds)} and a reranker that does not take that, expected one for "
                "pictures, such as Qwen3-VL-Reranker"
            )
    with _PREDICTING.held:
        scores = np.asarray(reranker.predict([(query, document) for document in documents]), np.float64)
    if scores.shape != (len(documents),):
        raise ScoringError(
            f"rerank: found scores of shape {list(scores.shape)}, expected {len(documents)}: one for each pair"
        )
    if not np.isfinite(scores).all():
        raise NonFiniteError("rerank: found NaN or infinity among its scores, expected finite numbers")
    return scores


def rerank_hits(hits: Hits, query: Item, reranker: Reranker, depth: int, k: int, root: str) -> Hits:
    """The first ``depth`` hits in the reranker's order, ties in theirs, then the others in theirs; ``k`` of all.

    Hits whose picture cannot be opened any more are among the others, with a warning. What a deadline cut short stays
    as it is. ``root`` is the indexed folder.
    """
    if hits.partial:
        return replace(hits, hits=hits.hits[:k])
    sides: list[Any] = []
    scored: list[Hit] = []
    failed: list[MediaError] = []
    for hit in hits.hits[:depth]:
        try:
            sides.append(document_side(hit, root))
            scored.append(hit)
        except MediaError as error:
            failed.append(error)
    if failed:
        warnings.warn(
            f"rerank: {len(failed)} of the first {min(depth, len(hits))} hits were not reranked, as their pictures "
            f"cannot be read ({failed[0]})",
            SmartWarning,
            stacklevel=3,
        )
    scores = rerank_scores(reranker, query_side(query), sides)
    order = np.argsort(-scores, kind="stable").tolist()
    first = [replace(scored[place], rerank=float(scores[place])) for place in order]
    done = {hit.id for hit in first}
    return replace(hits, hits=(*first, *(hit for hit in hits.hits if hit.id not in done))[:k])


def rerank_document(document: Document, query: Item, reranker: Reranker, root: str) -> float:
    """The reranker's score of one document."""
    return float(rerank_scores(reranker, query_side(query), [document_side(document, root)])[0])


def query_side(query: Item) -> Any:
    """A query as a reranker takes it."""
    if query.modalities == {"audio"}:
        raise EmptyInputError("rerank: found a query of sound alone, expected words, a picture or a video")
    frames = None if query.video is None else open_video(query.video, FRAMES).images
    return _side(query.text, [open_image(image) for image in query.images], frames)


def document_side(hit: Hit | Document, root: str) -> Any:
    """A document as a reranker takes it, its picture read from its file again."""
    if hit.media is None:
        return hit.text
    if hit.source is None:
        raise MediaError(f"document {hit.id!r}: found no file that its picture came from, expected one to read again")
    path = path_on_disk(root or ".", hit.source)
    if hit.media.kind == "audio":
        raise MediaError(f"document {hit.id!r}: found sound, expected text, a picture or a video: no reranker hears it")
    if hit.media.kind == "video":
        return _side(hit.text, [], VideoFile(path).frames(FRAMES).images)
    if hit.media.kind == "page" and hit.page is not None:
        return _side(hit.text, [PdfPageImage(path, hit.page).load()])
    return _side(hit.text, [load_again(path, hit.id)])


def _side(text: str, images: Sequence[Any], frames: Sequence[Any] | None = None) -> Any:
    if frames is None and (not images or (len(images) == 1 and not text)):
        return images[0] if images else text
    found: dict[str, Any] = {"text": text} if text else {}
    if images:
        found["image"] = images[0] if len(images) == 1 else list(images)
    return found if frames is None else {**found, "video": list(frames)}


def _modalities(side: Any) -> tuple[str, ...]:
    return tuple(sorted(side)) if isinstance(side, dict) else ("text",) if isinstance(side, str) else ("image",)
