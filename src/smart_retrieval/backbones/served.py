"""A text model whose token states a server computes: tokenizer, prompts and pooling are local, weights are not."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import InputModule, Normalize
from sentence_transformers.sentence_transformer.modules import Pooling

from ..errors import ModelNotFoundError, ModelServerError, UnsupportedModelError
from ..types import Array
from .checkpoints import LoadOptions, checkpoint_file
from .sentence_transformer import SentenceTransformerBackbone
from .server_client import ServerClient
from .text_families import POOLINGS, TextFamily
from .tokenizing import tokenize

# What both sides must cut into the same tokens.
_PROBE = "Where do sea otters sleep? In kelp, 2 by 2 – ça va, 世界."
# Numbers of a sample of states; least cosine of two samples of one model, which a server may have rounded to 8 bits.
_FIGURES, _LEAST = 64, 0.99
# Whose positions begin behind that of the padding.
_COUNT_FROM_PADDING = ("roberta", "camembert", "mpnet")


class ServedBackbone(SentenceTransformerBackbone):
    """A single-vector text model that gives its last states over HTTP."""

    family = "served"
    no_bfloat16 = "its states come from a server, which computes as it was started"

    def __init__(
        self, name: str, source: str, url: str, options: LoadOptions, config: Mapping[str, Any],
        recipe: TextFamily | None,
    ) -> None:  # fmt: skip
        self._client = ServerClient(url, name.removesuffix(f"@{url}"))
        super().__init__(name, source, options, config, recipe)

    def _open(self, options: LoadOptions, pooling: str | None) -> SentenceTransformer:
        first = self._first = ServedStates(self.source, self.name, self._client, options)
        behind = _modules_behind(self.source, self.name, first.width, options, pooling)
        config = _json_file(self.source, "config_sentence_transformers.json", options)
        truncate_dim = options.truncate_dim or config.get("truncate_dim")
        model = SentenceTransformer(
            modules=[first, *behind], device="cpu", prompts=options.prompts, truncate_dim=truncate_dim
        )
        for name, text in config.get("prompts", {}).items():
            if not model.prompts.get(name) and name not in (options.prompts or {}):
                model.prompts[name] = text
        first.check(normalised_matters=_needs_lengths(behind))
        return model.eval()

    @property
    def architecture(self) -> str:
        """The class of transformers that the checkpoint names."""
        return str(next(iter(self.transformer.config.architectures or ["unknown"])))

    def emit_hidden_states(self) -> None:
        """An error: a server gives the last states only."""
        raise UnsupportedModelError(
            f"model {self.name!r}: found a readout of other layers, expected the last, (-1,): a server gives no others"
        )

    def weights_fingerprint(self) -> str:
        """A hash over all that is known of the model here; the weights are not."""
        known = (self._client.protocol, self._client.model, self.transformer.config.to_json_string(use_diff=False))
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        return hashlib.sha256(json.dumps([known, vocabulary]).encode()).hexdigest()[:16]

    def states_sample(self) -> list[float]:
        """As found when the model was opened; near those of the same weights on another server, see `same_states`."""
        return self._first.sample

    def identity(self) -> dict[str, Any]:
        """What an index or a cache stores to recognise this model."""
        return {**super().identity(), "server": self._client.protocol}

    def _after_fork(self) -> None:
        super()._after_fork()
        self._client.renew()

    def save(self, folder: Path) -> None:
        """An error: there are no weights here."""
        raise UnsupportedModelError(
            f"model {self.name!r}: found a model whose weights are on a server, which cannot be saved here"
        )


class ServedStates(InputModule):
    """The first module: a local tokenizer, and a server that turns ids into states."""

    tokenizer: Any

    def __init__(self, source: str, name: str, client: ServerClient, options: LoadOptions) -> None:
        from transformers import AutoConfig, AutoTokenizer

        super().__init__()  # type: ignore[no-untyped-call]
        settings = _json_file(source, "sentence_bert_config.json", options)
        if set(settings.get("modality_config", {})) - {"text"}:
            raise UnsupportedModelError(
                f"model {name!r}: found a checkpoint that renders chats or pictures, expected a plain text model: a "
                "server is sent the ids of texts"
            )
        try:
            self.config = AutoConfig.from_pretrained(source, **options.hub, **(options.config_kwargs or {}))
            self.tokenizer = AutoTokenizer.from_pretrained(source, **options.hub, **(options.processor_kwargs or {}))
        except Exception as error:
            raise ModelNotFoundError(
                f"model {name!r}: expected a checkpoint with config.json and tokenizer at {source}, found "
                f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            ) from error
        self.client, self.name = client, name
        self.width = int(self.config.get_text_config().hidden_size)
        self._lower = bool(settings.get("do_lower_case"))
        positions = getattr(self.config.get_text_config(), "max_position_embeddings", None)
        if positions is not None and any(mark in self.config.model_type for mark in _COUNT_FROM_PADDING):
            positions -= self.config.pad_token_id + 1
        elif settings.get("max_seq_length"):
            positions = None  # as Sentence Transformers, which trusts the file
        limits = (settings.get("max_seq_length") or self.max_seq_length, positions, client.about.get("max_model_len"))
        self.max_seq_length = min(limit for limit in limits if limit is not None)

    @property
    def max_seq_length(self) -> int:
        """Longest input in tokens."""
        return int(self.tokenizer.model_max_length)

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        self.tokenizer.model_max_length = value

    def get_embedding_dimension(self) -> int:
        """Dimensions of a state."""
        return self.width

    def preprocess(
        self,
        inputs: Any,
        prompt: str | None = None,
        processing_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Tokenise texts as Sentence Transformers does."""
        texts = [(prompt or "") + text for text in inputs]
        options = {"truncation": "longest_first", **(processing_kwargs or {}).get("text", {})}
        texts = [text.lower() for text in texts] if self._lower else texts
        features: dict[str, Any] = self.tokenizer(texts, padding=True, return_tensors="pt", **options)
        features["modality"] = "text"
        return features

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add ``token_embeddings`` ``[B, T, H]`` float32."""
        attended = features["attention_mask"].bool()
        ids = [row[kept].tolist() for row, kept in zip(features["input_ids"], attended, strict=True)]
        # An input without any token has no state; the server is not asked.
        states = self.client.states([one for one in ids if one], self.width)
        embedded = torch.zeros(*attended.shape, self.width)
        embedded[attended] = torch.from_numpy(np.concatenate(states)) if states else embedded.new_zeros(0, self.width)
        features["token_embeddings"] = embedded
        return features

    def check(self, *, normalised_matters: bool) -> None:
        """Refuse a server of another model, or one whose states have lost their lengths where these matter."""
        known = tokenize(self.tokenizer, _PROBE)["input_ids"]
        theirs = self.client.tokenize(_PROBE)
        if theirs is not None and theirs != known:
            raise ModelServerError(
                f"model server {self.client.url}: it serves {self.client.model!r}, which cuts a text into "
                f"{len(theirs)} tokens other than the {len(known)} of {self.name!r}: name the checkpoint that it serves"
            )
        states = self.client.states([known[: self.max_seq_length]], self.width)[0]
        self.sample = _sample(states)
        lengths = np.linalg.norm(states, axis=1)
        if normalised_matters and np.abs(lengths - 1).max() < 1e-3:
            raise ModelServerError(
                f"model server {self.client.url}: found token states of unit length, expected them as they are: their "
                "mean would be another than the model's; use a version of vLLM that knows use_activation"
            )

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Nothing to save."""


def _sample(states: Array) -> list[float]:
    """Figures of the last state, which depends on the whole text whether a model reads forwards or both ways."""
    last = states[-1].astype(np.float64)
    directions = np.random.default_rng(0).standard_normal((_FIGURES, len(last)))
    found = directions @ last / max(float(np.linalg.norm(last)) * math.sqrt(_FIGURES), 1e-30)
    return [round(float(figure), 4) for figure in found]


def same_states(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two samples may be of the same weights.

    Example:
        >>> same_states([0.6, 0.8], [0.601, 0.799]), same_states([0.6, 0.8], [0.8, 0.6])
        (True, False)
    """
    try:
        first, second = np.asarray(one, np.float64), np.asarray(other, np.float64)
        lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
        return bool(first @ second >= _LEAST * lengths > 0)
    except (TypeError, ValueError):
        return False


def _needs_lengths(behind: list[torch.nn.Module]) -> bool:
    """Whether the anchor changes if token states are given unit length before the pooling."""
    single = isinstance(behind[0], Pooling) and behind[0].pooling_mode in ("cls", "lasttoken", ("cls",), ("lasttoken",))
    return not (single and len(behind) > 1)


def _modules_behind(
    source: str, name: str, width: int, options: LoadOptions, pooling: str | None
) -> list[torch.nn.Module]:
    """The pooling and what stands behind it."""
    listed = _json_file(source, "modules.json", options)
    if not listed:
        if pooling is None:
            raise UnsupportedModelError(
                f"model {name!r}: found no modules.json, which would say how it is pooled; choose with pooling= one of "
                f"{', '.join(POOLINGS)}"
            )
        return [Pooling(width, pooling_mode=pooling), Normalize()]
    known: dict[str, Any] = {"Pooling": Pooling, "Normalize": Normalize}
    kinds = [str(entry["type"]).rpartition(".")[2] for entry in listed]
    if kinds[:2] != ["Transformer", "Pooling"] or not set(kinds[1:]) <= set(known):
        raise UnsupportedModelError(
            f"model {name!r}: found the modules {' > '.join(kinds)}, expected a transformer and its pooling, "
            "normalised or not: servers apply dense layers to every token, and give no states before them"
        )
    hub = {"cache_folder" if key == "cache_dir" else key: value for key, value in options.hub.items()}
    return [
        known[kind].load(source, subfolder=entry["path"], **hub)
        for kind, entry in zip(kinds[1:], listed[1:], strict=True)
    ]


def _json_file(source: str, file: str, options: LoadOptions) -> Any:
    """A JSON file of the checkpoint; an empty object where there is none."""
    path = Path(source) / file if Path(source).is_dir() else checkpoint_file(source, file, options)
    if path is None or not path.is_file():
        return {}
    return json.loads(path.read_text(encoding="utf-8"))
