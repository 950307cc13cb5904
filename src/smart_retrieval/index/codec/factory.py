"""From a codec's name and some documents, or from its bytes, to the codec."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import ArrayLike

from ...embeddings import SmartEmbeddings
from ...errors import CodecError
from . import packaged
from .base import Codec as Codec
from .codebook import CodebookCodec
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
        vocabulary: ``[V, E]`` features of the vocabulary, row i of id i, for codebooks only: ids that the sample does
            not hold then get a centroid too.
        seed: Of the sample and of k-means.

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
    return CodebookCodec.fit(spec, gathered, vocabulary, seed)


def general_codec(name: str, identity: Mapping[str, Any], dims: tuple[int, int]) -> Codec | None:
    """The codec of that name that the package ships for a model; None of most.

    Args:
        name: A codec name.
        identity: What :meth:`SmartModel.identity` says of the model: weights, pooling and readout.
        dims: Dimensions of its anchors and token vectors.
    """
    hash = packaged.find(name, identity)
    codec = Codec.of_package(hash) if hash else None
    return codec if codec is not None and (codec.anchor_dim or dims[0], codec.token_dim) == dims else None
