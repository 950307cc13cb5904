"""Query-token weights from the collection's own documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..embeddings import SmartEmbeddings
from ..errors import EmbeddingsError
from ..files import atomic_file
from ..types import Array
from .roles import TokenRole, kept_rows
from .vectors import expect_embeddings

FORMAT = "smart-idf/1"
# Counted together, so that a million documents take no more memory than a few thousand.
_TOKENS_AT_ONCE = 1 << 18


class IdfWeights:
    """Inverse document frequency of vocabulary ids: ``max(0, ln((N + 1) / (df + 0.5)))``.

    A token that most documents contain says little about which one is meant. What is no content of a query weighs
    nothing: prompts, templates, unknown tokens, punctuation. A word that no document holds weighs as much as one that a
    single document holds: it is rare, and words of its meaning may match it, but that it is missing makes it no more
    telling than the rarest word there is. Of documents every token vector counts that could be matched. Kept with the
    collection: it is fitted on documents, follows what is added and removed, and is saved beside them.

    A word that the tokenizer cut in pieces weighs more than its heaviest piece alone and less than so many words: the
    geometric mean of both, which its pieces share in proportion (this project; benchmarks/default_selection.py).

    Args:
        documents: N, documents counted.
        frequencies: ``[vocabulary]`` int64; documents that contain each id. Ids beyond its end were never seen.
        unseen: Documents that an id which none holds counts as being in; 0 in version 0.1, where each piece of a word
            weighed as a word of its own.

    Example:
        >>> docs = SmartEmbeddings([[1.0], [1.0]], [[1.0]] * 3, [0, 2, 3], token_ids=[7, 8, 7])
        >>> IdfWeights.fit(docs).of([7, 8, 9]).round(3).tolist()
        [0.182, 0.693, 0.693]
    """

    def __init__(self, documents: int = 0, frequencies: Array | None = None, *, unseen: int = 1) -> None:
        self.documents, self.unseen = documents, unseen
        self.frequencies: Array = np.zeros(0, np.int64) if frequencies is None else frequencies.astype(np.int64)

    @classmethod
    def fit(cls, documents: SmartEmbeddings) -> IdfWeights:
        """Count the documents of a collection."""
        weights = cls()
        weights.add(documents)
        return weights

    def add(self, documents: SmartEmbeddings) -> None:
        """Count more documents."""
        self._count(documents, 1)

    def remove(self, documents: SmartEmbeddings) -> None:
        """Take documents out of the count; they must be the ones that were added.

        Raises:
            EmbeddingsError: More documents would be removed than were counted.
        """
        self._count(documents, -1)

    def _count(self, documents: SmartEmbeddings, sign: int) -> None:
        expect_embeddings(documents)
        ids, offsets = documents.token_ids, documents.offsets
        size = max(len(self.frequencies), int(ids.max(initial=-1)) + 1)
        counts = np.zeros(size, np.int64)
        start = 0
        while start < len(documents):
            stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + _TOKENS_AT_ONCE, "right")) - 1)
            own = np.asarray(ids[offsets[start] : offsets[stop]], np.int64)
            items = np.repeat(np.arange(stop - start), documents.lengths[start:stop])[own >= 0]
            # Each id counts once for a document, however often it occurs there.
            pairs = np.unique(items * max(size, 1) + own[own >= 0])
            counts += sign * np.bincount(pairs % max(size, 1), minlength=size)
            start = stop
        counts[: len(self.frequencies)] += self.frequencies
        total = self.documents + sign * len(documents)
        if total < 0 or (counts < 0).any():
            raise EmbeddingsError(
                f"found {len(documents)} documents to take out of {self.documents} counted ones that do not hold "
                "all their tokens, expected documents that were added before"
            )
        self.documents, self.frequencies = total, counts

    def of(self, token_ids: Any) -> Array:
        """Weights of vocabulary ids, float32 of the same shape; -1 gets 1.

        Positions without an id (-1) are those of images, video or an anchor standing in.
        """
        ids = np.asarray(token_ids, np.int64)
        seen = np.zeros(ids.shape, np.int64)
        known = (ids >= 0) & (ids < len(self.frequencies))
        seen[known] = self.frequencies[ids[known]]
        seen[seen == 0] = self.unseen
        idf = np.maximum(0, np.log((self.documents + 1) / (seen + 0.5)))
        result: Array = np.where(ids >= 0, idf, 1.0).astype(np.float32)
        return result

    def weights(self, queries: SmartEmbeddings) -> Array:
        """Weights of the queries' tokens, ``[sum T_q]`` float32: those of their ids, 0 for what is no content."""
        weights = np.where(kept_rows(queries.roles, "content"), self.of(queries.token_ids), np.float32(0))
        return _shared_in_words(weights, queries) if self.unseen else weights

    def save(self, path: str | Path) -> Path:
        """Write to a ``.safetensors`` file."""
        from safetensors.numpy import save_file

        arrays = {"frequencies": self.frequencies, "documents": np.array([self.documents])}
        with atomic_file(path) as partial:
            save_file(arrays, partial, {"format": FORMAT})
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> IdfWeights:
        """Read what :meth:`save` wrote.

        Raises:
            EmbeddingsError: The file is missing, damaged or something else.
        """
        from safetensors import safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                found = (file.metadata() or {}).get("format")
                if found != FORMAT:
                    raise EmbeddingsError(f"IDF table {str(path)!r}: found format {found!r}, expected {FORMAT!r}")
                return cls(int(file.get_tensor("documents")[0]), file.get_tensor("frequencies"))
        except EmbeddingsError:
            raise
        except Exception as error:  # a damaged file raises many kinds
            raise EmbeddingsError(
                f"IDF table {str(path)!r}: cannot be read ({type(error).__name__}: {error})"
            ) from error


def _shared_in_words(weights: Array, queries: SmartEmbeddings) -> Array:
    """The weights of pieces of words, brought to sqrt(heaviest * sum) a word."""
    goes_on = queries.roles == int(TokenRole.CONTINUATION)
    if not goes_on.any():
        return weights
    goes_on[queries.offsets[:-1][queries.lengths > 0]] = False  # what a query begins with goes on with nothing of it
    first = np.flatnonzero(~goes_on)
    heaviest, total = np.maximum.reduceat(weights, first), np.add.reduceat(weights, first)
    share = np.sqrt(heaviest / np.where(total > 0, total, 1))
    shared: Array = weights * np.repeat(share, np.diff([*first, len(weights)]))
    return shared
