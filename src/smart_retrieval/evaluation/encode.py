"""Encode a dataset once: what was encoded before with the same model, readout and texts is read back."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..embeddings import FORMAT, SmartEmbeddings
from ..errors import EmbeddingsError, SmartWarning
from .beir import BeirDataset, content_fingerprint
from .cache import EncodingCache

if TYPE_CHECKING:
    from ..model import SmartModel


@dataclass(frozen=True)
class Encoding:
    """Encoded texts and what they cost; `seconds` is None when they came out of the cache."""

    embeddings: SmartEmbeddings
    seconds: float | None


def encode_dataset(
    smart: SmartModel,
    data: BeirDataset,
    cache: EncodingCache | None,
    *,
    batch_size: int | None = None,
    progress: bool | None = False,
) -> tuple[Encoding, Encoding]:
    """Encode a dataset's documents and queries, or find them in the cache.

    The two have entries of their own, so that another split of the same corpus encodes its queries alone. Scoring
    settings are no part of the key: another lambda or weighting encodes nothing.

    Args:
        smart: The model.
        data: What to encode.
        cache: Where encodings are kept and looked for. With None everything is encoded, and held in memory.
        batch_size: Most texts in one forward pass; the model's default when None.
        progress: Draw bars on stderr; None draws them on a terminal only.

    Returns:
        Documents and queries.

    Raises:
        SmartError: The model cannot be run; the cache cannot be written.
    """
    return (
        _encode(smart, "document", data.document_ids, data.texts, cache, batch_size, progress),
        _encode(smart, "query", data.query_ids, data.queries, cache, batch_size, progress),
    )


def _encode(
    smart: SmartModel,
    task: str,
    ids: Sequence[str],
    texts: Sequence[str],
    cache: EncodingCache | None,
    batch_size: int | None,
    progress: bool | None,
) -> Encoding:
    encoder = smart.encode_query if task == "query" else smart.encode_document
    seconds: list[float] = []

    def run(out: Path | None) -> SmartEmbeddings:
        start = time.perf_counter()
        with warnings.catch_warnings():
            # The counts behind these warnings are part of the result, where a cached encoding has them too.
            warnings.simplefilter("ignore", SmartWarning)
            embeddings = encoder(texts, batch_size=batch_size, show_progress=progress, out=out)
        seconds.append(time.perf_counter() - start)
        return embeddings

    def load(path: Path) -> SmartEmbeddings:
        embeddings = SmartEmbeddings.load(path, mmap=True)
        if len(embeddings) != len(texts):
            raise EmbeddingsError(f"found {len(embeddings)} items in {path}, expected {len(texts)}")
        embeddings.tokenizer = smart.tokenizer
        return embeddings

    if cache is None:
        return Encoding(run(None), seconds[0])
    key = {
        "model": smart.identity(),
        "task": task,
        # The one in use: which of the model's prompts that is also depends on its default.
        "prompt": smart.backbone.prompt_for(task, None, None),
        "dtype": smart.dtype,
        "data": content_fingerprint(ids, texts),
        "smart_retrieval": __version__,
        "format": FORMAT,
    }
    embeddings, _ = cache.get_or_encode(key, run, load)
    return Encoding(embeddings, seconds[0] if seconds else None)
