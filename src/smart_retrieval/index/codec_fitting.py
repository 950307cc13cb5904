"""When an index's codec is fitted, and to what."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.vectors import unit_rows
from ..embeddings import SmartEmbeddings
from ..errors import CodecError, IndexBusyError, SmartError, SmartWarning
from ..types import Array
from .codec.base import Codec
from .codec.factory import fit_codec, general_codec
from .codec.names import CodecSpec
from .codec.pooling import pool_tokens
from .encoder import decode_vectors
from .store.records import Vectors
from .store.store import Store
from .text.folding import fold

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel

# What tokens are kept in before there are enough to fit to: lossless enough to fit from.
START_CODEC = "float16"
# Tokens from which on a codebook fits its collection. Cosine of vectors coded and as they were, CACM, other documents:
# .865 when fitted to 50,000 tokens, .837 to 20,000, .794 to 10,000; with the codec that the package ships .827.
FIT_TOKENS = 50_000
# Larger vocabularies (multilingual models) would take minutes to run through the model.
_LARGEST_VOCABULARY = 60_000
_BATCH = 512


class FitPolicy:
    """Fits a codec once an index holds :data:`FIT_TOKENS` tokens; again only when asked to."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._gave_up = False

    @staticmethod
    def start(wanted: CodecSpec, model: SmartModel, pooling: float = 1) -> Codec:
        """The codec an empty index begins with.

        The wanted one where it needs no fitting, or where the package ships it for the model; of merged tokens, which
        have no word, a shipped one knows nothing.
        """
        general = general_codec(wanted.name, model.identity(), (model.anchor_dim, model.token_dim))
        if general is not None and pooling == 1:
            return general
        name = wanted.name if wanted.family in ("float32", "float16") else START_CODEC
        return fit_codec(name, SmartEmbeddings(np.zeros((1, 1)), np.zeros((1, model.token_dim)), [0, 1]))

    @property
    def wanted(self) -> str:
        """The codec the index is to have."""
        return str(self.store.manifest.limits.get("codec", self.store.manifest.codec))

    def pending(self, tokens: int = 1) -> bool:
        """Whether the wanted codec is still to be fitted, and there are at least so many tokens to fit it to."""
        return self.wanted != self.store.manifest.codec and self.store.state().tokens >= tokens

    def fit_if_due(self, model: SmartModel | None) -> None:
        """Fit the wanted codec if it is time; what was added stays as it is where that fails.

        Warns:
            SmartWarning: The codec cannot be fitted; documents stay in the codec they are in.
        """
        if self._gave_up or not self.pending(FIT_TOKENS):
            return
        self.store.reload()
        if not self.pending(FIT_TOKENS):
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
            model: Gives features of the vocabulary's ids, and re-encodes passages for ``from_texts``.
            from_texts: Encode the stored passages again instead of decoding their codes, which may be coarse.
        """
        if "codec_hash" in self.store.manifest.limits:
            raise CodecError("refit: found a codec that other indexes may share; index into a new one to change it")
        old = Codec.from_bytes(self.store.codec())
        if not from_texts and old.spec.family not in ("float32", "float16"):
            raise CodecError(f"found codes of {old.name!r}, too coarse to fit to; fit from the texts (refit=True)")

        def embeddings(vectors: Vectors) -> SmartEmbeddings:
            return self._encode_texts(vectors, model) if from_texts and model else decode_vectors(old, vectors)

        def documents() -> Iterator[SmartEmbeddings]:
            for vectors in self.store.iterate(_BATCH):
                yield embeddings(vectors)

        codec = fit_codec(self.wanted, documents(), vocabulary=vocabulary_of(model))

        def encode(vectors: Vectors) -> tuple[Array, Array]:
            found = embeddings(vectors)
            return codec.encode_documents(found), found.offsets

        self.store.recode(
            codec.to_bytes(), encode, codec_name=codec.name, code_width=codec.bytes_per_token, batch=_BATCH
        )

    def _encode_texts(self, vectors: Vectors, model: SmartModel) -> SmartEmbeddings:
        documents = self.store.get(rowids=vectors.rowids, missing="skip")
        if any(document.media is not None for document in documents):
            raise SmartError("refit: found pictures, which an index does not keep; index their files into a new one")
        texts = [document.text for document in documents]
        if len(texts) < len(vectors.rowids) or not all(texts):
            raise SmartError("refit: found documents without a text, expected all of them to be encoded from texts")
        if self.store.manifest.folding:
            texts = [fold(text) for text in texts]
        return pool_tokens(model.encode_document(texts, show_progress=False), self.store.manifest.pooling or 1)


def vocabulary_of(model: SmartModel | None) -> Array | None:
    """Features of each vocabulary id ``[V, E]``, from a model that is a plain encoder of words; None for others."""
    if model is None or model.backbone.family != "sentence-transformers":
        return None
    transformer = model.backbone.transformer.model
    if transformer.get_input_embeddings().weight.shape[0] > _LARGEST_VOCABULARY:
        return None
    bidirectional = not getattr(transformer.config, "is_decoder", False) and hasattr(
        model.tokenizer, "build_inputs_with_special_tokens"
    )
    return vocabulary_features(transformer, model.tokenizer if bidirectional else None)


def vocabulary_features(transformer: Any, tokenizer: Any | None) -> Array:
    """The input embedding of each id and, with a tokenizer, beside it the model's state of that id alone.

    Each half of a row ``[V, E]`` float32 has unit length. Measured with MiniLM, squared error of the predicted centroid
    of ids that the sample did not hold: input embeddings .58, states of the id alone .45, both .44 (the mean of all:
    1.02). The states cost one forward pass of V three-token inputs (30,522 ids of MiniLM: some 20 s on one core).
    """
    import torch

    with torch.inference_mode():
        weight = transformer.get_input_embeddings().weight.detach()
        static = unit_rows(weight.float().cpu().numpy())
        if tokenizer is None:
            return static
        states = []
        for start in range(0, len(weight), 1024):
            ids = range(start, min(start + 1024, len(weight)))
            rows = [tokenizer.build_inputs_with_special_tokens([one]) for one in ids]
            tokens = torch.tensor(rows, device=weight.device)
            position = rows[0].index(start) if start in rows[0] else 0
            output = transformer(input_ids=tokens, attention_mask=torch.ones_like(tokens))
            states.append(output.last_hidden_state[:, position].float().cpu().numpy())
    return np.concatenate([static, unit_rows(np.concatenate(states))], axis=1)
