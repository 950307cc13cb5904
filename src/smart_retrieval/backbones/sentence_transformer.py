"""Any Sentence Transformers text model as a backbone.

This is the one file that leans on Sentence Transformers' less public corners (facts/sentence_transformers.md).
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from torch import Tensor

from ..errors import ModelNotFoundError, ReadoutError, SmartError, UnsupportedModelError
from ..readout.head import ROLES_KEY
from ..readout.roles import TokenRole
from .naming import hub_answers, resolve_model

# Words tried as probes before the vocabulary's own; common in most languages' vocabularies.
_USUAL_WORDS = ("one", "two", "house", "water")


class SentenceTransformerBackbone:
    """A single-vector text model with its modules untouched.

    Args:
        name_or_path: As :func:`~smart_retrieval.backbones.naming.resolve_model` takes it.
        device: Torch device; the best one at hand when None.
        revision: Hub revision.
        max_length: Longest input in tokens; the checkpoint's own when None.
        prompts: Prompts by name, over the checkpoint's own.
        **kwargs: Passed to ``SentenceTransformer`` (``cache_folder``, ``token``, ``local_files_only``,
            ``model_kwargs``, ``processor_kwargs``, ``config_kwargs``); never ``trust_remote_code``.

    Raises:
        ModelNotFoundError: Nothing loadable under this name.
        UnsupportedModelError: The model gives no token states (CLIP-style, static or bag-of-words models).
    """

    family = "sentence-transformers"

    def __init__(
        self,
        name_or_path: str | Path,
        *,
        device: str | None = None,
        revision: str | None = None,
        max_length: int | None = None,
        prompts: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.pop("trust_remote_code", False):
            raise UnsupportedModelError("found trust_remote_code=True, expected False: code from a hub is never run")
        self.name = str(name_or_path)
        self.source = resolve_model(name_or_path)
        self.model = _load(self.source, self.name, device=device, revision=revision, prompts=prompts, **kwargs)
        self.revision = revision
        self._emits_hidden_states = False
        self._template_lengths: dict[tuple[str | None, str | None], tuple[int, int, int]] = {}
        self._check_token_states()
        if max_length is not None:
            self._limit(max_length)

    # -- what the model is -------------------------------------------------------------------------------------

    @property
    def transformer(self) -> Any:
        """The first module, which turns tokens into states."""
        return self.model[0]

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self.model.tokenizer

    @property
    def max_length(self) -> int | None:
        """Longest input in tokens, special tokens included; None when the model sets no limit."""
        length = self.model.max_seq_length
        # Tokenizers without a limit report a number of 31 digits.
        return int(length) if length is not None and length < 10**9 else None

    @property
    def hidden_size(self) -> int:
        """Dimensions of a hidden state inside the transformer."""
        return int(self.transformer.get_embedding_dimension())

    @property
    def output_size(self) -> int:
        """Dimensions of the last state; other than :attr:`hidden_size` where a module behind it projects tokens."""
        return int(self._probe["token_embeddings"].shape[-1])

    @property
    def anchor_dim(self) -> int:
        """Dimensions of the pooled embedding."""
        return int(self._probe["sentence_embedding"].shape[-1])

    @cached_property
    def n_states(self) -> int:
        """Hidden states, the embedding output included."""
        return int(self.transformer.config.get_text_config().num_hidden_layers) + 1

    @property
    def pooling(self) -> str:
        """The pooling modes, joined by ``+``; the class name of a pooling that has none."""
        for module in self.model:
            if "Pooling" in type(module).__name__:
                mode = getattr(module, "pooling_mode", type(module).__name__)
                return mode if isinstance(mode, str) else "+".join(mode)
        return "none"

    @property
    def prompts(self) -> dict[str, str]:
        """Prompts by name, empty ones left out."""
        return {name: text for name, text in self.model.prompts.items() if text}

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids the token filter treats as special. ``[UNK]`` is not: it stands for a word of the text."""
        tokenizer = self.tokenizer
        # GPT-2's unknown token is its end token, too; as such it is special.
        others = {tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.sep_token_id}
        unknown = {tokenizer.unk_token_id} - others
        return frozenset(tokenizer.all_special_ids) - unknown

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the weights: a hash over a sample of every tensor."""
        digest = hashlib.sha256()
        for name, tensor in self.model.state_dict().items():
            flat = tensor.detach().reshape(-1)
            sample = flat[:: max(1, flat.numel() // 1024)].cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(sample.view(torch.uint8).numpy().tobytes() if sample.ndim else repr(sample.item()).encode())
        return digest.hexdigest()[:16]

    def identity(self) -> dict[str, Any]:
        """What an index or a cache must hold to know this model again."""
        return {
            "name": self.name,
            "revision": self.revision,
            "fingerprint": self.fingerprint,
            "pooling": self.pooling,
            "max_length": self.max_length,
        }

    # -- what it does ------------------------------------------------------------------------------------------

    def prompt_for(self, task: str, prompt: str | None, prompt_name: str | None) -> str | None:
        """The prompt's text for a task, chosen as Sentence Transformers does.

        Args:
            task: ``"query"`` or ``"document"``.
            prompt: A text that overrides everything.
            prompt_name: A name among the model's prompts.

        Raises:
            SmartError: The name is unknown.
        """
        if prompt is not None:
            return prompt or None
        known = self.model.prompts
        if prompt_name is not None:
            if prompt_name not in known:
                raise SmartError(f"prompt: found no {prompt_name!r}, expected one of {sorted(known)}")
            return known[prompt_name] or None
        names = ("query",) if task == "query" else ("document", "passage", "corpus")
        for name in names:
            if name in known:
                return known[name] or None
        return known.get(self.model.default_prompt_name or "") or None

    def preprocess(self, texts: Sequence[str], *, prompt: str | None, task: str | None) -> dict[str, Any]:
        """Tokenise, pad and mark roles.

        Returns:
            The backbone's features on the CPU, and ``token_roles`` ``[B, T]`` uint8.
        """
        features: dict[str, Any] = self.model.preprocess(list(texts), prompt=prompt, task=task)
        features[ROLES_KEY] = self.roles(features, prompt=prompt, task=task)
        return features

    def emit_hidden_states(self) -> None:
        """Have every forward pass write ``all_layer_embeddings``, as a readout of other layers than the last needs.

        Sentence Transformers hands intermediate states on only while the model's config asks for them, and saves that
        config: hooks switch it on for each call and back again.
        """
        if self._emits_hidden_states:
            return
        self._emits_hidden_states = True
        configs = (self.transformer.config, self.transformer.config.get_text_config())
        before = [config.output_hidden_states for config in configs]

        def switch_on(*_: Any) -> None:
            for config in configs:
                config.output_hidden_states = True

        def switch_back(*_: Any) -> None:
            for config, value in zip(configs, before, strict=True):
                config.output_hidden_states = value

        self.transformer.register_forward_pre_hook(switch_on)
        self.transformer.register_forward_hook(switch_back, always_call=True)

    def roles(self, features: dict[str, Any], *, prompt: str | None, task: str | None) -> Tensor:
        """The role of every position, ``[B, T]`` uint8 on the features' device; padding counts as special."""
        return self._mark(features, *self.template_lengths(prompt, task))

    def roles_without_prompt(self, features: dict[str, Any]) -> Tensor:
        """Roles where only Sentence Transformers' features are at hand, as in its trainer: its ``prompt_length``."""
        template, _, suffix = self.template_lengths(None, None)
        length = features.get("prompt_length", 0)
        # A whole number while encoding, a tensor of equal numbers in training.
        prefix = int(length.reshape(-1)[0]) if isinstance(length, Tensor) else int(length)
        return self._mark(features, template, max(prefix, template), suffix)

    def _mark(self, features: dict[str, Any], template: int, prefix: int, suffix: int) -> Tensor:
        attended = features["attention_mask"].bool()
        position = attended.cumsum(dim=1) - 1
        length = attended.sum(dim=1, keepdim=True)
        roles = torch.full(attended.shape, int(TokenRole.TEXT), dtype=torch.uint8, device=attended.device)
        roles[position < prefix] = int(TokenRole.PROMPT)
        roles[(position < template) | (position >= length - suffix)] = int(TokenRole.TEMPLATE)
        ids = features["input_ids"]
        special = torch.isin(ids, torch.tensor(sorted(self.special_ids), device=ids.device))
        roles[special | ~attended] = int(TokenRole.SPECIAL)
        return roles

    def template_lengths(self, prompt: str | None, task: str | None) -> tuple[int, int, int]:
        """Positions around every text: template in front, template and prompt in front, template behind.

        Found by rendering pairs of short texts and taking what they share, which is exact whatever the tokenizer
        merges (facts/sentence_transformers.md).
        """
        key = (prompt, task)
        if key not in self._template_lengths:
            template, suffix = self._shared(None, task)
            prefix = self._shared(prompt, task)[0] if prompt else template
            self._template_lengths[key] = (template, max(prefix, template), suffix)
        return self._template_lengths[key]

    def rendered(self, text: str, *, prompt: str | None, task: str | None) -> list[tuple[str, TokenRole]]:
        """The tokens of one text with their roles, as the backbone sees them."""
        features = self.preprocess([text], prompt=prompt, task=task)
        tokens = self.tokenizer.convert_ids_to_tokens(features["input_ids"][0].tolist())
        return [(token, TokenRole(role)) for token, role in zip(tokens, features[ROLES_KEY][0].tolist(), strict=True)]

    def token_count(self, text: str, *, prompt: str | None, task: str | None = None) -> int:
        """How many tokens a text would have if nothing were cut off."""
        return self.token_counts([text], prompt=prompt, task=task)[0]

    def token_counts(self, texts: Sequence[str], *, prompt: str | None, task: str | None = None) -> list[int]:
        """How many tokens each text would have if nothing were cut off."""
        if not texts:
            return []
        from transformers.utils import logging as transformers_logging

        whole = {"text": {"truncation": False}}
        verbosity = transformers_logging.get_verbosity()
        # It would warn of a length beyond the model's limit, which is just what is being measured.
        transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        try:
            features = self.model.preprocess(list(texts), prompt=prompt, task=task, processing_kwargs=whole)
        finally:
            transformers_logging.set_verbosity(verbosity)
        counts: list[int] = features["attention_mask"].sum(dim=1).tolist()
        return counts

    def as_multi_vector_encoder(self, head: Any, packer: Any) -> MultiVectorEncoder:
        """The untouched modules with a token head and a packer behind them, as a stock multi-vector model."""
        return _RoleMarkingEncoder(
            self,
            modules=[*self.model, head, packer],
            device=str(self.model.device),
            prompts=self.prompts,
            similarity_fn_name="meanmaxsim",
        )

    # -- inside ------------------------------------------------------------------------------------------------

    def _shared(self, prompt: str | None, task: str | None) -> tuple[int, int]:
        """The shortest common prefix and suffix over pairs of probes, in tokens."""
        fronts, backs = [], []
        words = self._probe_words
        for left, right in itertools.pairwise(words):
            a, b = (
                self.model.preprocess([text], prompt=prompt, task=task)["input_ids"][0].tolist()
                for text in (left, right)
            )
            fronts.append(_common(a, b))
            backs.append(_common(a[::-1], b[::-1]))
        return min(fronts), min(backs)

    @cached_property
    def _probe_words(self) -> list[str]:
        """Words the tokenizer knows whole, no two sharing a token: what their renderings share is no text."""
        tokenizer = self.tokenizer
        vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
        step = max(1, len(vocabulary) // 2000)
        words: list[str] = []
        taken: set[int] = set()
        for word in (*_USUAL_WORDS, *(token for token, _ in vocabulary[::step])):
            plain = tokenizer.convert_tokens_to_string([word]).strip() if word not in _USUAL_WORDS else word
            ids = tokenizer(plain, add_special_tokens=False, verbose=False)["input_ids"]
            known = ids and not taken.intersection(ids) and not set(tokenizer.all_special_ids).intersection(ids)
            if plain.isalnum() and known:
                words.append(plain)
                taken.update(ids)
            if len(words) == 4:
                break
        return words

    @cached_property
    def _probe(self) -> dict[str, Any]:
        features = self.model.preprocess(["probe"], task="document")
        features = {k: v.to(self.model.device) if isinstance(v, Tensor) else v for k, v in features.items()}
        self.model.eval()
        with torch.inference_mode():
            return {k: v for k, v in self.model(features, task="document").items() if isinstance(v, Tensor)}

    def _limit(self, max_length: int) -> None:
        room = max_length - int(self.model.preprocess([""], task="document")["input_ids"].shape[-1])
        config = getattr(self.transformer, "config", None)
        positions = getattr(config.get_text_config(), "max_position_embeddings", None) if config is not None else None
        if room < 1 or (positions is not None and max_length > positions):
            raise ReadoutError(
                f"max_length: found {max_length}, expected at least one token more than the {max_length - room} that "
                f"stand around every text, and at most the model's {positions or 'unlimited'} positions"
            )
        self.model.max_seq_length = max_length

    def _check_token_states(self) -> None:
        if not hasattr(getattr(self.transformer, "config", None), "get_text_config"):
            raise UnsupportedModelError(
                f"model {self.name!r}: found {type(self.transformer).__name__} as its first module, expected a "
                "transformer: static word vectors and routers have no contextual states for each token"
            )
        try:
            probe = self._probe
        except SmartError:
            raise
        except Exception as error:
            raise UnsupportedModelError(
                f"model {self.name!r}: a one-word text does not pass through it ({type(error).__name__}: {error}); "
                "SMART needs a text model that Sentence Transformers can run"
            ) from error
        states, ids = probe.get("token_embeddings"), probe.get("input_ids")
        if states is None or ids is None or states.ndim != 3 or states.shape[:2] != ids.shape:
            kinds = " > ".join(type(module).__name__ for module in self.model)
            raise UnsupportedModelError(
                f"model {self.name!r} ({kinds}): found no hidden state for each token, which SMART scores with; "
                "CLIP-style, static and bag-of-words models only give the pooled vector. "
                "Use a transformer that pools its token states"
            )
        if "sentence_embedding" not in probe:
            raise UnsupportedModelError(f"model {self.name!r}: found no pooled embedding, which SMART anchors on")


class _RoleMarkingEncoder(MultiVectorEncoder):
    """A stock encoder that marks roles while it still knows the prompt; features carry only its (inexact) length."""

    def __init__(self, backbone: SentenceTransformerBackbone, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # In a list, so that torch does not take the backbone for a submodule.
        self._backbone = [backbone]

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        features: dict[str, Any] = super().preprocess(inputs, prompt=prompt, **kwargs)
        if "input_ids" in features:
            features[ROLES_KEY] = self._backbone[0].roles(features, prompt=prompt, task=kwargs.get("task"))
        return features


def _common(a: list[int], b: list[int]) -> int:
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count


def _load(source: str, name: str, **kwargs: Any) -> SentenceTransformer:
    """Open a checkpoint quietly, with one named error for whatever goes wrong."""
    from transformers.utils import logging as transformers_logging

    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    local = Path(source).is_dir()
    if local or not hub_answers(source, kwargs.get("revision"), kwargs.get("token")):
        kwargs["local_files_only"] = True
    try:
        model = SentenceTransformer(source, trust_remote_code=False, **kwargs)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        expected = f"a checkpoint that loads from {source}" if local else "a model that loads from the hub or its cache"
        raise ModelNotFoundError(
            f"model {name!r}: expected {expected}, found {type(error).__name__}: {reason}"
        ) from error
    first: Any = model[0]
    if hasattr(first, "unpad_inputs"):
        # Flattened batches drop the attention mask, which the readout needs.
        first.unpad_inputs = False
    model.eval()
    return model


__all__ = ["SentenceTransformerBackbone"]
