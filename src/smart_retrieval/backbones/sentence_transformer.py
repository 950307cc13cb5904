"""Any Sentence Transformers text model as a backbone."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor

from ..core.head import ROLES_KEY
from ..embeddings import Grid
from ..errors import MediaError, ModelNotFoundError, ReadoutError, SmartError, SmartWarning, UnsupportedModelError
from ..inputs import Frames, Item, Sound, item_of
from ..sound.files import opened_sound
from ..sound.sources import TOKENS_A_SECOND
from ..types import Array
from .backbone import GRIDS_KEY, Backbone
from .checkpoints import LoadOptions, hide_progress_bars, is_bare, only_errors_logged
from .text_families import POOLINGS, TextFamily
from .text_roles import text_roles, within_prompt
from .tokenizing import TOKENIZING, tokenize
from .vision.pixels import opened_item

#: The architecture of EmbeddingGemma 2 in transformers.
EMBEDDING_GEMMA2 = "embedding_gemma2"
# Of sound its feature extractor takes no more by default, and cuts the rest off without a word.
_MOST_SECONDS = 30.0
# Positions kept free beside the longest sound, for a longer prompt than that of documents.
_SPARE = 32
# A text of more than this for each token of the limit is not counted beforehand: it fills the limit.
_CHARACTERS_A_TOKEN = 16
# Words tried as probes before the vocabulary's own; common in most languages' vocabularies.
_USUAL_WORDS = ("one", "two", "house", "water")
# What a tokenizer makes of a text, a number for each position.
_IDS = ("input_ids", "attention_mask", "token_type_ids")


class SentenceTransformerBackbone(Backbone):
    """A single-vector text model, or one whose own processor takes pictures, with its modules untouched."""

    family = "sentence-transformers"
    # Of a video, where the checkpoint's own processor is given the frames; as many as VLM2Vec-V2's evaluation takes.
    _MAX_FRAMES = 8

    def __init__(
        self, name: str, source: str, options: LoadOptions, config: Mapping[str, Any], recipe: TextFamily | None
    ) -> None:
        super().__init__(name, source, options.revision)
        self._bare = is_bare(source, options)
        self._chosen_pooling = options.pooling
        if options.pooling is not None and (not self._bare or options.pooling not in POOLINGS):
            raise UnsupportedModelError(
                f"model {name!r}: found pooling={options.pooling!r}, which is one of {', '.join(POOLINGS)} for a "
                "checkpoint without modules.json, and none for others: there it is part of the checkpoint"
            )
        pooling = options.pooling
        if recipe is not None and self._bare:
            pooling = pooling or recipe.pooling_of(str(config.get("model_type")))
        self.model = self._open(options, pooling)
        self.truncate(options.truncate_dim)
        self.recipe = recipe
        given = options.prompts or {}
        if recipe is not None:
            added = {task: text for task, text in recipe.prompts.items() if not self.model.prompts.get(task)}
            self.model.prompts.update({task: text for task, text in added.items() if task not in given})
        # Tasks that a prompt was settled for, if only that there is none; of the others the first use warns.
        self._settled_tasks = set(given)
        self._template_lengths: dict[tuple[str | None, str | None], tuple[int, int, int]] = {}
        self._starts: list[list[int]] | None = None
        self._check_token_states()
        self.modalities = frozenset({"text"} | self._visual_modalities())
        most = 32 if self._placeholders else self._MAX_FRAMES
        self.max_frames = most if "video" in self.modalities else None
        if self._bare and pooling is None:
            self._warn(
                f"found no modules.json, which would say how it is pooled: Sentence Transformers takes "
                f"{self.pooling}; choose with pooling= one of {', '.join(POOLINGS)}"
            )
        positions = self._positions
        if positions is not None and (self.max_length or positions + 1) > positions:
            self.model.max_seq_length = positions
        if options.max_length is not None:
            self._limit(options.max_length)
        self.max_seconds = self._longest_sound()

    def _open(self, options: LoadOptions, pooling: str | None) -> SentenceTransformer:
        return _load(self.source, self.name, options, pooling)

    def identity(self) -> dict[str, Any]:
        """What an index or a cache stores to recognise this model."""
        recipe = {} if self.recipe is None else {"recipe": self.recipe.name}
        chosen = {} if self._chosen_pooling is None else {"pooling_chosen": True}
        return {**super().identity(), **recipe, **chosen}

    def prompt_for(self, task: str, prompt: str | None, prompt_name: str | None) -> str | None:
        """The prompt's text; a warning where the checkpoint names some for this task and none is chosen."""
        chosen = super().prompt_for(task, prompt, prompt_name)
        if chosen is None and prompt is None and prompt_name is None and task not in self._settled_tasks:
            words = ("query", "question") if task == "query" else ("document", "passage", "corpus")
            if names := sorted(name for name in self.prompts if any(word in name.lower() for word in words)):
                self._warn(
                    f"{'queries' if task == 'query' else 'documents'} are encoded without a prompt, but it has "
                    f'{", ".join(names)}: choose with prompt_name= (or prompts={{{task!r}: TEXT}}, "" for none)'
                )
        self._settled_tasks.add(task)
        return chosen

    def _warn(self, message: str) -> None:
        warnings.warn(f"model {self.name!r}: {message}", SmartWarning, stacklevel=2)

    # -- what it does ------------------------------------------------------------------------------------------

    def preprocess(self, items: Sequence[Any], *, prompt: str | None, task: str | None) -> dict[str, Any]:
        """Tokenise, pad and mark roles."""
        inputs = [item_of(item, position) for position, item in enumerate(items)]
        if len(self.modalities) == 1:
            values: list[Any] = [item.text for item in inputs]
        else:
            values = [_stock_input(self._without_placeholders(self.load(item))) for item in inputs]
        with TOKENIZING.held:
            chosen = {"processing_kwargs": self._chosen_already()} if self._placeholders else {}
            try:
                features: dict[str, Any] = self.model.preprocess(values, prompt=prompt, task=task, **chosen)
            except ValueError as error:
                if self._placeholders and "truncation" in str(error):
                    raise MediaError(
                        f"found an input longer than the {self.max_length} tokens of model {self.name!r}, expected "
                        "less text beside its pictures, video or sound: they cannot be cut off"
                    ) from error
                raise
        if not features["input_ids"].shape[-1]:
            # Tokenizers without special tokens make nothing of empty texts, and attention needs a position.
            features |= {name: torch.zeros((len(values), 1), dtype=torch.long) for name in _IDS if name in features}
        features[ROLES_KEY] = self.roles(features, prompt=prompt, task=task)
        if self._placeholders:
            features[GRIDS_KEY] = placeholder_grids(features, inputs, self._pooled_patches, self._placeholders)
        return features

    def load(self, item: Item) -> Item:
        """Open an item's pictures, video and sound."""
        item = opened_item(super().load(item), self.max_frames or 0)
        if item.audio is None:
            return item
        return replace(item, audio=opened_sound(item.audio, self._sound_rate, self.max_seconds or 0.0))

    def estimated_tokens(self, item: Item) -> int:
        """A quick guess at an item's length in tokens."""
        video = item.video
        if not self._placeholders or item.modalities == {"text"}:
            return super().estimated_tokens(item)
        frames = len(video.images) if isinstance(video, Frames) else (self.max_frames or 0) if video is not None else 0
        processor: Any = self.model.processor
        pictures: int = (
            processor.image_seq_length * len(item.images) + processor.video_processor.max_soft_tokens * frames
        )
        seconds = item.audio.seconds if isinstance(item.audio, Sound) else (self.max_seconds or 0) * bool(item.audio)
        return super().estimated_tokens(item) + pictures + round(TOKENS_A_SECOND * seconds)

    def token_lengths(self, items: Sequence[Item], *, prompt: str | None, task: str | None) -> list[int]:
        """Items' lengths in tokens; those of texts are counted, unless they certainly reach the limit."""
        lengths, most = super().token_lengths(items, prompt=prompt, task=task), self.max_length or 10**9
        longest = _CHARACTERS_A_TOKEN * most
        texts = {n: one.text for n, one in enumerate(items) if len(one.text) <= longest and one.modalities == {"text"}}
        if len(items) > 1 and texts and getattr(self.tokenizer, "is_fast", False):
            _, before, behind = self.template_lengths(prompt, task)
            only_ids = {"return_attention_mask": False, "return_token_type_ids": False}
            found = tokenize(self.tokenizer, list(texts.values()), **only_ids)["input_ids"]
            for number, ids in zip(texts, found, strict=True):
                lengths[number] = min(before + len(ids) + behind, most)
        return lengths

    @property
    def _sound_rate(self) -> int:
        return int(self.model.processor.feature_extractor.sampling_rate)

    def _chosen_already(self) -> dict[str, dict[str, Any]]:
        """What its processor should not decide: the frames and the length of sound are chosen before."""
        frames = {"video": {"do_sample_frames": False}}
        if "audio" not in self.modalities:
            return frames
        # Else a tokenizer saved with a limit of tokens would cut sound off after so many samples.
        return {**frames, "audio": {"truncation": True, "max_length": round(_MOST_SECONDS * self._sound_rate)}}

    def _longest_sound(self) -> float | None:
        if "audio" not in self.modalities:
            return None
        if self.max_length is None:
            return _MOST_SECONDS
        around = self.token_count("a", prompt=super().prompt_for("document", None, None), task="document") + _SPARE
        return float(max(0.1, min(_MOST_SECONDS, (self.max_length - around) / TOKENS_A_SECOND)))

    def _visual_modalities(self) -> set[str]:
        """Pictures, videos and sound, where the model marks which positions they take."""
        declared = {"image", "video", "audio"} & {name for name in self.model.modalities if isinstance(name, str)}
        processor = getattr(self.model, "processor", None)
        if "mm_token_type_ids" in getattr(processor, "model_input_names", ()):
            return declared - {"audio"}
        return declared & set(self._placeholders)

    @cached_property
    def _placeholders(self) -> dict[str, int]:
        """Ids of the places of pictures, videos and sound, where the processor marks them by nothing else."""
        config = self.transformer.config
        if config.model_type != EMBEDDING_GEMMA2 or getattr(config, "vision_config", None) is None:
            return {}
        ids = {"image": int(config.image_token_id), "video": int(config.video_token_id)}
        return ids if config.audio_config is None else {**ids, "audio": int(config.audio_token_id)}

    @property
    def _pooled_patches(self) -> int:
        """Patches along each side of what becomes one visual token."""
        return int(self.transformer.config.vision_config.pooling_kernel_size)

    def _without_placeholders(self, item: Item) -> Item:
        """A text that spells a placeholder gets a blank into it: the processor would look for a picture there."""
        processor, text = self.model.processor, item.text
        for name in ("image_token", "video_token", "audio_token"):
            token = getattr(processor, name, None)
            if self._placeholders and token:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return item if text == item.text else replace(item, text=text)

    def roles(self, features: dict[str, Any], *, prompt: str | None, task: str | None) -> Tensor:
        """The role of every position, ``[B, T]`` uint8 on the features' device; padding counts as special."""
        encodings = getattr(features, "encodings", None) if features.get("modality") == "text" else None
        prefix = within_prompt(encodings, _numpy(features["attention_mask"]), prompt)
        return self._mark(features, self.template_lengths(prompt, task), prefix)

    def roles_without_prompt(self, features: dict[str, Any]) -> Tensor:
        """Roles where only Sentence Transformers' features are at hand, as in its trainer: its ``prompt_length``."""
        template, _, suffix = self.template_lengths(None, None)
        if features.get("modality") == "message":  # a rendered chat, of which Sentence Transformers tells no length
            before = self._before_texts(features)
            return self._mark(features, (min(template, int(before.min())), template, suffix), before)
        length = features.get("prompt_length", 0)
        # A whole number while encoding, a tensor of equal numbers in training.
        prefix = int(length.reshape(-1)[0]) if isinstance(length, Tensor) else int(length)
        return self._mark(features, (template, max(prefix, template), suffix))

    def _before_texts(self, features: dict[str, Any]) -> Array:
        """Positions in front of each text ``[B, 1]`` that are the start of a chat with one of the model's prompts."""
        if self._starts is None:
            self._starts = [self._shared(prompt, None)[0] for prompt in (None, *self.prompts.values())]
        ids, attended = (_numpy(features[name]) for name in ("input_ids", "attention_mask"))
        rows = [row[kept].tolist() for row, kept in zip(ids, attended.astype(bool), strict=True)]
        return np.array([[max(_common(row, start) for start in self._starts)] for row in rows], np.int64)

    def _mark(
        self, features: dict[str, Any], around: tuple[int, int, int], prefix: Array | int | None = None
    ) -> Tensor:
        kinds = features.get("mm_token_type_ids")
        ids, attended = (_numpy(features[name]) for name in ("input_ids", "attention_mask"))
        kinds = None if kinds is None else _numpy(kinds)
        if kinds is None and self._placeholders:
            kinds = np.zeros(ids.shape, np.int64)
            for kind, id in enumerate(self._placeholders.values(), 1):
                kinds[ids == id] = kind
        roles = text_roles(ids, attended, around, self.special_ids, self.word_roles, prefix=prefix, kinds=kinds)
        return torch.from_numpy(roles).to(features["input_ids"].device)

    def template_lengths(self, prompt: str | None, task: str | None) -> tuple[int, int, int]:
        """Positions around every text: template in front, template and prompt in front, template behind.

        Found by rendering pairs of short texts and taking what they share, which is exact whatever the tokenizer
        merges.
        """
        key = (prompt, task)
        if key not in self._template_lengths:
            start, suffix = self._shared(None, task)
            template = prefix = len(start)
            if prompt:
                whole, suffix = self._shared(prompt, task)
                # A chat template may say something of its own where there is no prompt.
                template, prefix = _common(start, whole), len(whole)
            self._template_lengths[key] = (template, prefix, suffix)
        return self._template_lengths[key]

    def cut_tokens(
        self, items: Sequence[Item], features: dict[str, Any], *, prompt: str | None, task: str | None
    ) -> list[int]:
        """Tokens cut off the end of each item to fit the limit."""
        limit, cut = self.max_length, [_unheard(item) for item in items]
        if limit is None:
            return cut
        # Only a text that fills the limit can have been cut.
        lengths = features["attention_mask"].sum(dim=1).tolist()
        full = [index for index, length in enumerate(lengths) if length >= limit]
        encodings = getattr(features, "encodings", None) if features.get("modality") == "text" else None
        if encodings is not None:  # fast tokenizers keep what they cut off, with special tokens around it
            for index in full:
                parts = encodings[index].overflowing
                cut[index] = sum(len(part.ids) - sum(part.special_tokens_mask) for part in parts)
            return cut
        counts = self._token_counts([items[index].text for index in full], prompt, task)
        for index, count in zip(full, counts, strict=True):
            cut[index] = max(cut[index], count - limit)
        return cut

    def token_count(self, text: str, *, prompt: str | None, task: str | None = None) -> int:
        """How many tokens a text would have if nothing were cut off."""
        return self._token_counts([text], prompt, task)[0]

    def _token_counts(self, texts: list[str], prompt: str | None, task: str | None) -> list[int]:
        if not texts:
            return []
        # The limit is switched off, so transformers would warn of a length beyond it.
        with only_errors_logged(), TOKENIZING.held:
            features = self.model.preprocess(
                texts, prompt=prompt, task=task, processing_kwargs={"text": {"truncation": False}}
            )
        counts: list[int] = features["attention_mask"].sum(dim=1).tolist()
        return counts

    # -- inside ------------------------------------------------------------------------------------------------

    def _shared(self, prompt: str | None, task: str | None) -> tuple[list[int], int]:
        """The tokens that renderings of probes begin with, and how many they end with."""
        with TOKENIZING.held:
            rendered: list[list[int]] = [
                self.model.preprocess([word], prompt=prompt, task=task)["input_ids"][0].tolist()
                for word in self._probe_words
            ]
        pairs = list(itertools.pairwise(rendered))
        start = min(_common(a, b) for a, b in pairs)
        return rendered[0][:start], min(_common(a[::-1], b[::-1]) for a, b in pairs)

    @cached_property
    def _probe_words(self) -> list[str]:
        """Words the tokenizer knows whole, no two sharing a token: what their renderings share is not text."""
        tokenizer = self.tokenizer
        vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
        step = max(1, len(vocabulary) // 2000)
        words: list[str] = []
        taken: set[int] = set()
        for word in (*_USUAL_WORDS, *(token for token, _ in vocabulary[::step])):
            plain = tokenizer.convert_tokens_to_string([word]).strip() if word not in _USUAL_WORDS else word
            ids = tokenize(tokenizer, plain)["input_ids"]
            known = ids and not taken.intersection(ids) and not set(tokenizer.all_special_ids).intersection(ids)
            if plain.isalnum() and known:
                words.append(plain)
                taken.update(ids)
            if len(words) == 4:
                break
        return words

    def _limit(self, max_length: int) -> None:
        room = max_length - int(self.model.preprocess([""], task="document")["input_ids"].shape[-1])
        config = getattr(self.transformer, "config", None)
        positions = self._positions
        if positions is None and config is not None:
            positions = getattr(config.get_text_config(), "max_position_embeddings", None)
            if positions is not None:  # no table of them, so a checkpoint may go beyond; what it has is recorded
                positions = max(positions, self.max_length or 0)
        if room < 1 or (positions is not None and max_length > positions):
            raise ReadoutError(
                f"max_length: found {max_length}, expected at least one token more than the {max_length - room} "
                f"around every text, and at most the model's {positions or 'unlimited'} positions"
            )
        self.model.max_seq_length = max_length

    @property
    def _positions(self) -> int | None:
        """Rows of the table of positions that a text can use; RoBERTa and its kin count from behind the padding's."""
        table = getattr(
            getattr(getattr(self.transformer, "model", None), "embeddings", None), "position_embeddings", None
        )
        if not isinstance(table, torch.nn.Embedding):
            return None
        return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)

    def _check_token_states(self) -> None:
        if not hasattr(getattr(self.transformer, "config", None), "get_text_config"):
            raise UnsupportedModelError(
                f"model {self.name!r}: found {type(self.transformer).__name__} as its first module, expected a "
                "transformer: static word vectors and routers have no contextual states for each token"
            )
        if len(self.tokenizer) - len(self.special_ids) < 2:
            raise UnsupportedModelError(
                f"model {self.name!r}: found a tokenizer that knows no words, expected the files of one "
                "(tokenizer.json) beside the weights"
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


def _numpy(tensor: Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array


def _stock_input(item: Item) -> dict[str, Any]:
    """An item as Sentence Transformers takes it; text in a mapping, so that it is never taken for a path or a URL."""
    value: dict[str, Any] = {"text": item.text} if item.text or item.modalities == {"text"} else {}
    if item.images:
        value["image"] = item.images[0] if len(item.images) == 1 else list(item.images)
    if isinstance(item.video, Frames):
        frames = np.stack([np.asarray(image) for image in item.video.images]).transpose(0, 3, 1, 2)
        gaps = np.diff(item.video.times)
        # Frames count as taken at an even rate, which is what such processors assume.
        rate = 1 / float(gaps.mean()) if len(gaps) and gaps.mean() > 0 else 1.0
        metadata = {
            "fps": rate, "total_num_frames": len(frames), "duration": len(frames) / rate,
            "frames_indices": list(range(len(frames))),
        }  # fmt: skip
        value["video"] = {"array": torch.from_numpy(frames), "video_metadata": metadata}
    if isinstance(item.audio, Sound):
        value["audio"] = {"array": item.audio.samples, "sampling_rate": item.audio.rate}
    return value


def _unheard(item: Item) -> int:
    """About how many tokens of sound were cut off."""
    return int(TOKENS_A_SECOND * item.audio.left_out) if isinstance(item.audio, Sound) else 0


def placeholder_grids(
    features: Mapping[str, Any], items: Sequence[Item], pooled: int, placeholders: Mapping[str, int]
) -> list[tuple[Grid, ...]]:
    """The grids of every item, pictures before the video before sound, as `_stock_input` has them.

    They follow from the places of patches (column and row), ``[N, P, 2]``, one N for each picture and for each frame.
    """

    def sizes(name: str) -> Iterator[tuple[int, int]]:
        for places in _numpy(features[name]) if name in features else ():
            width, height = (places.max(axis=0) + 1) // pooled
            yield int(height), int(width)

    pictures, frames = sizes("image_position_ids"), sizes("video_position_ids")
    counts = iter(features.get("num_frames_per_video", ()))
    found: list[tuple[Grid, ...]] = []
    for item, ids in zip(items, features["input_ids"], strict=True):
        own = [Grid("image", 1, *size) for size in itertools.islice(pictures, len(item.images))]
        if item.video is not None:
            several = list(itertools.islice(frames, int(next(counts))))
            own.append(Grid("video", len(several), *several[0]))
        if item.audio is not None:
            own.append(Grid("audio", 1, 1, int((ids == placeholders["audio"]).sum())))
        found.append(tuple(own))
    return found


def _common(a: list[int], b: list[int]) -> int:
    """Length of the common prefix."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _pooled(source: str, options: LoadOptions, pooling: str) -> list[torch.nn.Module]:
    """The modules of a checkpoint without Sentence Transformers' files: pooled so, unit length."""
    # Text as it is: a chat template that came with the base model is none of an embedding model's.
    as_text = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
    given = (options.model_kwargs, options.processor_kwargs, options.config_kwargs)
    model, processor, config = ({**options.hub, **(kwargs or {})} for kwargs in given)
    first = Transformer(
        source, model_kwargs=model, processor_kwargs=processor, config_kwargs=config, modality_config=as_text,
        module_output_name="token_embeddings",
    )  # fmt: skip
    return [first, Pooling(first.get_embedding_dimension(), pooling_mode=pooling), Normalize()]


def _load(source: str, name: str, options: LoadOptions, pooling: str | None) -> SentenceTransformer:
    """Open a checkpoint, with one named error for any failure; ``pooling`` for one that names none."""
    hide_progress_bars()
    try:
        model = (
            SentenceTransformer(
                modules=_pooled(source, options, pooling),
                device=options.device,
                prompts=options.prompts,
                truncate_dim=options.truncate_dim,
            )
            if pooling is not None
            else SentenceTransformer(
                source,
                trust_remote_code=False,
                device=options.device,
                prompts=options.prompts,
                truncate_dim=options.truncate_dim,
                revision=options.revision,
                cache_folder=options.cache_folder,
                token=options.token,
                local_files_only=bool(options.local_files_only),
                model_kwargs=options.model_kwargs,
                processor_kwargs=options.processor_kwargs,
                config_kwargs=options.config_kwargs,
            )
        )
    except Exception as error:
        if isinstance(error, ImportError) and "Torchvision" in str(error):
            raise UnsupportedModelError(
                f"model {name!r}: its processor needs torchvision, also for text: pip install "
                "'smart-retrieval[embeddinggemma]', or torchvision of the build that fits your torch"
            ) from error
        if "trust_remote_code" in str(error):
            raise UnsupportedModelError(
                f"model {name!r}: it needs code that stands in its repository, and no code from a hub is run here: use "
                "a checkpoint that transformers and Sentence Transformers load by themselves, or serve it elsewhere "
                "and read its token states over HTTP"
            ) from error
        reason = " ".join(str(error).split())[:300]
        local = Path(source).is_dir()
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
