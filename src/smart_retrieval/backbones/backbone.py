"""What every backbone shares: a Sentence Transformers model whose modules stay untouched."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from sentence_transformers.base.modules import Module
from torch import Tensor

from ..core.head import ROLES_KEY, SIDE_KEY, TokenHead
from ..core.presets import Preset
from ..core.readout import Readout
from ..core.roles import TokenRole
from ..errors import ReadoutError, SmartError, UnsupportedModelError
from ..inputs import Item, item_of
from ..locks import ForkLock
from .half import bfloat16_copy, weights_state
from .text_families import TextFamily
from .tokenizing import TOKENIZING
from .word_roles import WordRoles

if TYPE_CHECKING:
    from ..core.adapter import Adapter

# Written by preprocessing: the visual grids of each item, a list of tuples of Grid (embeddings.py).
GRIDS_KEY = "visual_grids"


def estimated_tokens(text: str, max_length: int | None) -> int:
    """A quick guess at a text's length in tokens, special tokens included.

    An English word piece is about four characters long; three errs on the side of smaller batches. A batch that turns
    out larger after tokenising is cut in two.
    """
    guess = len(text) // 3 + 2
    return guess if max_length is None else min(guess, max_length)


class Backbone(ABC):
    """A single-vector model with its modules untouched.

    Subclasses load ``self.model`` and define how inputs are rendered and which role each token has.
    """

    family: str
    modalities: frozenset[str] = frozenset({"text"})
    max_visual_tokens: int | None = None
    max_frames: int | None = None
    max_seconds: float | None = None  # of sound
    video_budget: str | None = None
    #: Whether one input may hold a text and a picture.
    mixes = True
    # Whether the paper's evaluation drops the visual tokens of queries from late interaction.
    drops_visual_of_queries: bool = False
    model: SentenceTransformer
    # Why SMART applies, for smart inspect.
    reason = "every token has a hidden state, and they are pooled into the anchor"
    # What a text model's publisher writes in its model card alone, if it is of such a family.
    recipe: TextFamily | None = None
    # Why it cannot compute in bfloat16, if it cannot.
    no_bfloat16 = ""

    def __init__(self, name: str, source: str, revision: str | None) -> None:
        self.name, self.source, self.revision = name, source, revision
        self._silent: list[tuple[Any, Any]] = []  # configs that request hidden states now, and their flag as loaded
        #: Held around a forward pass: not every architecture keeps the state of a call out of its modules.
        self.running = ForkLock()
        self._pid = os.getpid()
        # The same modules with a transformer in bfloat16, and the state of the weights that it was made of.
        self._half: tuple[list[tuple[int, int]], SentenceTransformer] | None = None

    # -- to be implemented ------------------------------------------------------------------------------------

    @abstractmethod
    def preprocess(self, items: Sequence[Any], *, prompt: str | None, task: str | None) -> dict[str, Any]:
        """Tokenise, pad and mark roles.

        Takes whatever :func:`~smart_retrieval.inputs.item_of` takes and the prompt's text; ``task`` is ``"query"`` or
        ``"document"``. Gives the backbone's features on the CPU, and ``token_roles`` ``[B, T]`` uint8.
        """

    @abstractmethod
    def roles_without_prompt(self, features: dict[str, Any]) -> Tensor:
        """Roles where only Sentence Transformers' features are at hand, as in its trainer."""

    def roles(self, features: dict[str, Any], *, prompt: str | None, task: str | None) -> Tensor:
        """The role of every position, ``[B, T]`` uint8 on the features' device; padding counts as special."""
        return self.roles_without_prompt(features)

    @abstractmethod
    def token_count(self, text: str, *, prompt: str | None, task: str | None = None) -> int:
        """How many tokens a text would have if nothing were cut off."""

    @abstractmethod
    def cut_tokens(
        self, items: Sequence[Item], features: dict[str, Any], *, prompt: str | None, task: str | None
    ) -> list[int]:
        """Tokens cut off the end of each item to fit the limit, 0 for most."""

    def preset(self, chosen: Preset) -> Preset:
        """A named preset as it is meant for this model."""
        return chosen

    # -- items -------------------------------------------------------------------------------------------------

    def load(self, item: Item) -> Item:
        """Open an item's pictures and video, so that a file that cannot be read fails its own item only."""
        if not item.modalities <= self.modalities:
            raise UnsupportedModelError(
                f"found an input with {', '.join(sorted(item.modalities))}, expected "
                f"{' or '.join(sorted(self.modalities))}: model {self.name!r} takes nothing else"
            )
        return item

    def estimated_tokens(self, item: Item) -> int:
        """A quick guess at an item's length in tokens."""
        return estimated_tokens(item.text, self.max_length)

    def token_lengths(self, items: Sequence[Item], *, prompt: str | None, task: str | None) -> list[int]:
        """Items' lengths in tokens, by which batches of little padding are made: as exact as is cheap to know."""
        return [self.estimated_tokens(item) for item in items]

    # -- what the model is -------------------------------------------------------------------------------------

    @property
    def transformer(self) -> Any:
        """The first module, which turns tokens into states."""
        return self.model[0]

    @property
    def architecture(self) -> str:
        """The class of transformers that it is."""
        return type(self.transformer.model).__name__

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
    def weights_dtype(self) -> str:
        """The precision of the transformer's weights as they were loaded."""
        weights = (weight for weight in self.transformer.parameters() if weight.is_floating_point())
        return str(next(weights, torch.empty(0)).dtype).removeprefix("torch.")

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
    def word_roles(self) -> WordRoles:
        """The roles of the vocabulary's ids within a text."""
        return WordRoles(self.tokenizer, self.special_ids)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the weights: a hash over a sample of every tensor."""
        return self.weights_fingerprint()

    def weights_fingerprint(self) -> str:
        """The :attr:`fingerprint` of the weights as they are now."""
        digest = hashlib.sha256()
        for name, tensor in self.model.state_dict().items():
            flat = tensor.detach().reshape(-1)
            sample = flat[:: max(1, flat.numel() // 1024)].cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(sample.view(torch.uint8).numpy().tobytes() if sample.ndim else repr(sample.item()).encode())
        return digest.hexdigest()[:16]

    def states_sample(self) -> list[float] | None:
        """A few figures of one text's states, where no fingerprint tells other weights apart; None where one does."""
        return None

    def identity(self) -> dict[str, Any]:
        """What an index or a cache stores to recognise this model."""
        return {
            "name": self.name,
            "revision": self.revision,
            "fingerprint": self.fingerprint,
            "pooling": self.pooling,
            "max_length": self.max_length,
            **({} if self.truncate_dim is None else {"truncate_dim": self.truncate_dim}),
        }

    @property
    def video_recipe(self) -> str | None:
        """What is seen of a video, in words."""
        return None if self.max_frames is None else f"at most {self.max_frames} frames"

    @property
    def truncate_dim(self) -> int | None:
        """How many of its first dimensions an anchor keeps; None for all."""
        found: int | None = self.model.truncate_dim
        return found

    def truncate(self, asked: int | None) -> None:
        """Cut anchors off as Sentence Transformers does behind its modules; ``asked`` is what the user gave."""
        dim = self.truncate_dim
        if asked is not None and asked < 1:
            raise ReadoutError(f"truncate_dim: found {asked}, expected at least 1")
        if dim is None:
            return

        # On the last module, since the same modules stand in the multi-vector encoder, too.
        self.model[-1].register_forward_hook(partial(_cut_anchors, dim, asked))

    # -- what it does ------------------------------------------------------------------------------------------

    def prompt_for(self, task: str, prompt: str | None, prompt_name: str | None) -> str | None:
        """The prompt's text for ``"query"`` or ``"document"``, chosen as Sentence Transformers does.

        ``prompt`` overrides everything; ``prompt_name`` is a name among the model's prompts.
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

    def emit_hidden_states(self) -> None:
        """Have every forward pass write ``all_layer_embeddings``, as a readout of other layers than the last needs.

        From now on: threads share the config that requests them, so that it cannot be switched for a single call.
        """
        with self.running.held:
            if not self._silent:
                configs = (self.transformer.config, self.transformer.config.get_text_config())
                self._silent = [(config, config.output_hidden_states) for config in configs]
                self._request_hidden_states()

    def _request_hidden_states(self) -> None:
        for config, _ in self._silent:
            config.output_hidden_states = True

    @contextmanager
    def config_as_loaded(self) -> Iterator[None]:
        """The config does not request hidden states while it is saved; encoding waits."""
        with self.running.held:
            for config, value in self._silent:
                config.output_hidden_states = value
            try:
                yield
            finally:
                self._request_hidden_states()

    def forward(self, features: dict[str, Any], task: str, compute: str = "float32") -> dict[str, Any]:
        """The features with what the modules add to them; one forward pass at a time, whatever thread asks.

        With ``compute="bfloat16"`` the transformer computes in that, the modules behind it as they were loaded.
        """
        if self._pid != os.getpid():
            self._after_fork()
        with self.running.held:
            self.model.eval()
            model = self._in_bfloat16() if compute == "bfloat16" else self.model
            found: dict[str, Any] = model(features, task=task)
        return found

    def _in_bfloat16(self) -> SentenceTransformer:
        """The same modules with a transformer in bfloat16, made anew whenever the weights have changed."""
        weights = weights_state(self.transformer)
        if self._half is None or self._half[0] != weights:
            half = SentenceTransformer(modules=[*self.model], device=str(self.model.device))
            half.module_kwargs = self.model.module_kwargs
            half[0] = bfloat16_copy(self.transformer)  # not before: all modules would be given its precision
            self._half = (weights, half)
        return self._half[1]

    def _after_fork(self) -> None:
        if self.model.device.type == "cuda":
            raise SmartError(
                f"model {self.name!r}: found a process forked from the one that loaded it onto {self.model.device}, "
                "where CUDA does not work: start processes with multiprocessing's 'spawn', or load the model in each"
            )
        # The threads that OpenMP keeps for a pass did not come along, and it would wait for them for ever.
        torch.set_num_threads(1)
        self._pid = os.getpid()

    def rendered(self, item: Any, *, prompt: str | None, task: str | None) -> list[tuple[str, TokenRole]]:
        """The tokens of one input with their roles, as the backbone sees them."""
        features = self.preprocess([self.load(item_of(item))], prompt=prompt, task=task)
        seen = features["attention_mask"][0].bool()
        tokens = self.tokenizer.convert_ids_to_tokens(features["input_ids"][0][seen].tolist())
        roles = features[ROLES_KEY][0][seen].tolist()
        return [(token, TokenRole(role)) for token, role in zip(tokens, roles, strict=True)]

    def token_head(
        self, readout: Readout, adapter: Adapter | None = None, kind: type[TokenHead] = TokenHead
    ) -> TokenHead:
        """A head for this model's states."""
        drops = self.drops_visual_of_queries
        return kind(readout, self.roles_without_prompt, adapter, pooling=self.pooling, drops_visual_of_queries=drops)

    def as_multi_vector_encoder(self, head: Module, packer: Module) -> MultiVectorEncoder:
        """The untouched modules with a token head and a packer behind them, as a stock multi-vector model."""
        return _RoleMarkingEncoder(
            self,
            modules=[*self.model, head, packer],
            device=str(self.model.device),
            prompts=self.prompts,
            similarity_fn_name="meanmaxsim",
        )

    def save(self, folder: Path) -> None:
        """Write the untouched checkpoint."""
        with self.config_as_loaded():
            self.model.save_pretrained(str(folder))

    # -- inside ------------------------------------------------------------------------------------------------

    @cached_property
    def _probe(self) -> dict[str, Any]:
        # Without roles: they are not needed, and a model without tokens has none.
        with TOKENIZING.held:
            features = self.model.preprocess(["probe"], task="document")
        features.pop(ROLES_KEY, None)
        features = {k: v.to(self.model.device) if isinstance(v, Tensor) else v for k, v in features.items()}
        with torch.inference_mode():
            return {k: v for k, v in self.forward(features, "document").items() if isinstance(v, Tensor)}


def _cut_anchors(dim: int, asked: int | None, module: Any, inputs: Any, features: dict[str, Any]) -> dict[str, Any]:
    """A forward hook that shortens the anchors; an error where the user asked for more than there is."""
    if "sentence_embedding" in features:
        width = features["sentence_embedding"].shape[-1]
        if asked is not None and asked > width:
            raise ReadoutError(f"truncate_dim: found {asked}, expected at most the anchor's {width} dimensions")
        features["sentence_embedding"] = features["sentence_embedding"][..., :dim]
    return features


class _RoleMarkingEncoder(MultiVectorEncoder):
    """A stock encoder that marks roles where the prompt is known; features hold only its inexact length."""

    def __init__(self, backbone: Backbone, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # In a list, so that torch does not take the backbone for a submodule.
        self._backbone = [backbone]

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        with TOKENIZING.held:
            features: dict[str, Any] = super().preprocess(inputs, prompt=prompt, **kwargs)
        if "input_ids" in features:
            if ROLES_KEY not in features:
                features[ROLES_KEY] = self._backbone[0].roles(features, prompt=prompt, task=kwargs.get("task"))
            features[SIDE_KEY] = kwargs.get("task")
        return features
