"""From a name and some documents to a codec."""

from __future__ import annotations

from collections.abc import Iterable

from numpy.typing import ArrayLike

from ...embeddings import SmartEmbeddings
from ...errors import CodecError
from .base import Codec
from .codebook_fit import fit_codebook
from .names import parse_codec
from .plain import BitsCodec, FloatCodec, Int8Codec
from .sample import gather_sample


def fit_codec(
    name: str,
    sample: Iterable[SmartEmbeddings] | SmartEmbeddings,
    *,
    vocabulary: ArrayLike | None = None,
    seed: int = 0,
) -> Codec:
    """Fit a codec to a sample of documents.

    Reads the documents once, in bounded memory. The same documents and seed give the same codec, however they are cut
    into batches (on one machine: matrix products differ in their last bits between machines).

    Args:
        name: A codec name, see :func:`~smart_retrieval.index.codec.names.parse_codec`.
        sample: Documents with anchors, token vectors and token ids.
        vocabulary: ``[V, E]`` features of the vocabulary, for codebooks only: ids that the sample does not hold then
            get a centroid too. See :func:`~smart_retrieval.index.codec.vocabulary.vocabulary_features`.
        seed: Of the sample and of k-means.

    Raises:
        CodecError: There is no such codec, no token to fit to, or a value that is not finite.

    Example:
        >>> import numpy as np
        >>> documents = SmartEmbeddings(np.eye(2, 4), np.eye(3, 4), [0, 1, 3], token_ids=[5, 6, 5])
        >>> fit_codec("codebook", documents)
        CodebookCodec('codebook', 4d -> 2 bytes a token)
    """
    spec = parse_codec(name)
    if spec.family in FloatCodec.families:
        for batch in [sample] if isinstance(sample, SmartEmbeddings) else sample:
            return FloatCodec(spec, batch.token_dim)
        raise CodecError("found no documents to fit a codec to, expected at least one batch")
    gathered = gather_sample(sample, seed=seed)
    if spec.family == "int8":
        return Int8Codec.fit(spec, gathered)
    if spec.family == "bits":
        return BitsCodec.fit(spec, gathered)
    return fit_codebook(spec, gathered, vocabulary=vocabulary, seed=seed)
