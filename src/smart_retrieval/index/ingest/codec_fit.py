"""When an index's codec is fitted, and to what."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ...embeddings import SmartEmbeddings
from ...errors import CodecError, IndexBusyError, SmartError, SmartWarning
from ...types import Array
from ..codec.base import Codec
from ..codec.fitting import fit_codec
from ..codec.names import CodecSpec
from ..codec.pooling import pool_tokens
from ..codec.storing import codec_from_bytes
from ..codec.vocabulary import vocabulary_features
from ..store.records import Vectors
from ..store.store import Store

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel

# What tokens are kept in before there are enough to fit to: lossless enough to fit from.
START_CODEC = "float16"
# Tokens from which on a codebook knows a collection's usual words; 150 MB of float16 at 384 dimensions.
FIT_TOKENS = 200_000
# Larger vocabularies (multilingual models) would take minutes to run through the model.
_LARGEST_VOCABULARY = 60_000
_BATCH = 512


class FitPolicy:
    """Fits a codec once an index holds :data:`FIT_TOKENS` tokens; again only when asked to.

    Args:
        store: The index's store, whose manifest says which codec is wanted.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._gave_up = False

    @staticmethod
    def start(wanted: CodecSpec, token_dim: int) -> Codec:
        """The codec an empty index begins with: the wanted one if it needs no fitting."""
        name = wanted.name if wanted.family in ("float32", "float16") else START_CODEC
        return fit_codec(name, SmartEmbeddings(np.zeros((1, 1)), np.zeros((1, token_dim)), [0, 1]))

    @property
    def wanted(self) -> str:
        """The codec the index is to have."""
        return str(self.store.manifest.limits.get("codec", self.store.manifest.codec))

    def pending(self) -> bool:
        """Whether the wanted codec is still to be fitted, and there is something to fit it to."""
        return self.wanted != self.store.manifest.codec and self.store.state().tokens > 0

    def due(self) -> bool:
        """Whether it is to be fitted now."""
        return self.wanted != self.store.manifest.codec and self.store.state().tokens >= FIT_TOKENS

    def fit_if_due(self, model: SmartModel | None) -> None:
        """Fit the wanted codec if it is time; what was added stays as it is where that fails.

        Warns:
            SmartWarning: The codec cannot be fitted; documents stay in the codec they are in.
        """
        if self._gave_up or not self.due():
            return
        self.store.reload()
        if not self.due():
            return  # another process has just done it
        try:
            self.fit(model)
            # The float16 codes leave most of the file as free pages.
            self.store.optimize()
        except IndexBusyError:
            return  # another process is at it
        except (SmartError, np.linalg.LinAlgError) as error:
            self._gave_up = True
            warnings.warn(f"the codec {self.wanted!r} cannot be fitted: {error}", SmartWarning, stacklevel=4)

    def fit(self, model: SmartModel | None, *, from_texts: bool = False) -> None:
        """Fit the wanted codec to the documents in the index and code them with it.

        Args:
            model: Gives features of the vocabulary's ids, and encodes passages anew for ``from_texts``.
            from_texts: Encode the stored passages again instead of decoding their codes, which may be coarse.

        Raises:
            SmartError: ``from_texts`` and a document has no text.
        """
        old = codec_from_bytes(self.store.codec())
        if not from_texts and old.spec.family not in ("float32", "float16"):
            raise CodecError(f"found codes of {old.name!r}, too coarse to fit to; fit from the texts (refit=True)")

        def documents() -> Iterator[SmartEmbeddings]:
            for vectors in self.store.iterate(_BATCH):
                yield self._embeddings(vectors, old, model if from_texts else None)

        codec = fit_codec(self.wanted, documents(), vocabulary=vocabulary_of(model))

        def encode(vectors: Vectors) -> tuple[Array, Array]:
            embeddings = self._embeddings(vectors, old, model if from_texts else None)
            return codec.encode_documents(embeddings), embeddings.offsets

        self.store.recode(
            codec.to_bytes(), encode, codec_name=codec.name, code_width=codec.bytes_per_token, batch=_BATCH
        )

    def _embeddings(self, vectors: Vectors, codec: Codec, model: SmartModel | None) -> SmartEmbeddings:
        if model is not None:
            documents = self.store.get(rowids=vectors.rowids, missing="skip")
            if any(document.media is not None for document in documents):
                raise SmartError(
                    "refit: found pictures, which an index does not keep; index their files into a new one"
                )
            texts = [document.text for document in documents]
            if len(texts) < len(vectors.rowids) or not all(texts):
                raise SmartError("refit: found documents without a text, expected all of them to be encoded from texts")
            factor = self.store.manifest.pooling
            return pool_tokens(model.encode_document(texts, show_progress=False), factor or 1)
        anchors = np.repeat(vectors.anchors, np.diff(vectors.offsets), axis=0) if codec.anchor_dim is not None else None
        tokens = codec.decode(vectors.codes, anchors)
        # Pooled tokens are fewer than the ids of their document; which is whose is not kept, so they go without.
        pooled = not np.array_equal(vectors.offsets, vectors.id_offsets)
        ids = np.full(len(tokens), -1, np.int32) if pooled else vectors.token_ids
        return SmartEmbeddings(vectors.anchors, tokens, vectors.offsets, ids)


def vocabulary_of(model: SmartModel | None) -> Array | None:
    """Features of the vocabulary's ids, where the model is a plain encoder of words."""
    if model is None or model.backbone.family != "sentence-transformers":
        return None
    transformer = model.backbone.transformer.model
    if transformer.get_input_embeddings().weight.shape[0] > _LARGEST_VOCABULARY:
        return None
    bidirectional = not getattr(transformer.config, "is_decoder", False) and hasattr(
        model.tokenizer, "build_inputs_with_special_tokens"
    )
    features: Array = vocabulary_features(transformer, model.tokenizer if bidirectional else None)
    return features
