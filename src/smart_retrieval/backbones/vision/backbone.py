"""A Qwen-VL embedding model as a backbone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Module, Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor

from ...core.head import ROLES_KEY
from ...errors import ModelNotFoundError, ReadoutError, UnsupportedModelError, one_of
from ...inputs import Item
from ..backbone import Backbone
from ..checkpoints import LoadOptions, checkpoint_file
from .family import Family
from .loading import load_checkpoint
from .module import CUT_KEY, MarkedPooling, VisionLanguageTransformer

VIDEO_BUDGETS = ("usual", "official")
_STATES = {"method": "forward", "method_output_name": "last_hidden_state"}
# Without it, Sentence Transformers would take text alone, and that without the chat around it.
_STOCK_TRANSFORMER = {
    "transformer_task": "feature-extraction",
    "modality_config": {
        **dict.fromkeys(("text", "image", "video"), _STATES),
        "message": {**_STATES, "format": "structured"},
    },
    "module_output_name": "token_embeddings",
    "processing_kwargs": {"chat_template": {"add_generation_prompt": True}},
}


class VisionLanguageBackbone(Backbone):
    """A vision-language embedding model: text, pictures, video."""

    def __init__(self, name: str, source: str, family: Family, options: LoadOptions) -> None:
        super().__init__(name, source, options.revision)
        for what in ("max_visual_tokens", "max_frames"):
            if (value := getattr(options, what)) is not None and value < 1:
                raise ReadoutError(f"{what}: found {value}, expected at least 1")
        self._recipe = family
        self.family = family.name
        self.drops_visual_of_queries = family.drops_visual_of_queries
        checkpoint = load_checkpoint(source, family, options)
        self.special_ids = checkpoint.special_ids
        self._companions = checkpoint.companions
        positions = checkpoint.model.config.get_text_config().max_position_embeddings
        if options.max_length is not None and not 0 < options.max_length <= positions:
            raise ReadoutError(
                f"max_length: found {options.max_length}, expected at most the model's {positions} positions"
            )
        max_length = min(family.max_length if options.max_length is None else options.max_length, positions)
        self.video_budget = _video_budget(family, options)
        published = family.official_video if self.video_budget == "official" else None
        limits = (published or family.limits).tightened(
            max_length, checkpoint.settings.temporal, options.max_visual_tokens, options.max_frames
        )
        if family.middle_frame:  # however many it is the middle of
            limits = replace(limits, max_frames=options.max_frames or family.limits.max_frames)
        first = VisionLanguageTransformer(checkpoint, family, max_length, limits)
        pooling: Module = MarkedPooling(family.pooling)
        if family.pools_as_sentence_transformers:
            pooling = Pooling(first.get_embedding_dimension(), pooling_mode=family.pooling)
        self.model = SentenceTransformer(
            modules=[first, pooling, Normalize()],
            device=options.device,
            prompts={**family.prompts, **(options.prompts or {})},
            truncate_dim=_own_truncation(source, options) if options.truncate_dim is None else options.truncate_dim,
        )
        self.truncate(options.truncate_dim)
        self.model.eval()
        if options.truncate_dim is not None:
            _ = self.anchor_dim  # an error where the model has fewer
        self.modalities = frozenset({"text", "image", *(["video"] if family.video else [])})
        self.max_visual_tokens = limits.max_tokens
        self.max_frames = limits.max_frames if family.video else None

    @property
    def video_recipe(self) -> str | None:
        """What is seen of a video, in words."""
        if self._recipe.middle_frame:
            return f"its middle frame, of at most {self.max_frames}, as a picture"
        share = self.transformer.resizer.limits.max_video_tokens
        usual = super().video_recipe
        return None if usual is None else f"{usual}, {share:,} visual tokens together"

    # -- inputs ------------------------------------------------------------------------------------------------

    def load(self, item: Item) -> Item:
        """Open an item's pictures and video and bring them to their size."""
        loaded: Item = self.transformer.open_media(super().load(item))
        return loaded

    def estimated_tokens(self, item: Item) -> int:
        """An item's length in tokens."""
        return int(self.transformer.estimated_tokens(item))

    def preprocess(self, items: Sequence[Any], *, prompt: str | None, task: str | None) -> dict[str, Any]:
        """Render, tokenise, cut up, pad and mark roles."""
        features: dict[str, Any] = self.transformer.preprocess(items, prompt=prompt, task=task)
        return features

    def cut_tokens(
        self, items: Sequence[Item], features: dict[str, Any], *, prompt: str | None, task: str | None
    ) -> list[int]:
        """Text tokens cut off each item to fit the limit."""
        cut: list[int] = features[CUT_KEY]
        return cut

    def token_count(self, text: str, *, prompt: str | None, task: str | None = None) -> int:
        """How many tokens a text would have if nothing were cut off."""
        return int(self.transformer.renderer.count(self.transformer.parts(Item(text), prompt, task)))

    def roles_without_prompt(self, features: dict[str, Any]) -> Tensor:
        """An error: preprocessing always writes the roles, so features without them are not this model's."""
        raise UnsupportedModelError(
            f"found features without {ROLES_KEY!r}, expected those of this model's own preprocessing"
        )

    def identity(self) -> dict[str, Any]:
        """What an index or a cache stores to recognise this model."""
        return {
            **super().identity(),
            "family": self.family,
            "max_visual_tokens": self.max_visual_tokens,
            "max_frames": self.max_frames,
            # Older indexes, all of the usual one, do not name it.
            **({} if self.video_budget == "usual" else {"video_budget": self.video_budget}),
        }

    def save(self, folder: Path) -> None:
        """Write a checkpoint that transformers opens, and Sentence Transformers where it can express the recipe."""
        with self.config_as_loaded():
            self.model.save_pretrained(str(folder))
        modules = folder / "modules.json"
        listed = json.loads(modules.read_text(encoding="utf-8"))
        if self._recipe.positions != "mrope" or not self._recipe.pools_as_sentence_transformers:
            # Sentence Transformers would pool or number the tokens otherwise, silently.
            modules.unlink()
            return
        listed[0]["type"] = "sentence_transformers.base.modules.transformer.Transformer"
        modules.write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")
        described = {"sentence_bert_config.json": json.dumps(_STOCK_TRANSFORMER, indent=2) + "\n", **self._companions}
        for name, text in described.items():
            (folder / name).write_text(text, encoding="utf-8")


def _video_budget(family: Family, options: LoadOptions) -> str:
    """The limits of videos: those chosen, or those of the paper where it is followed and the family has some."""
    if options.video_budget not in (None, *VIDEO_BUDGETS):
        raise ReadoutError(f"video_budget: {one_of(options.video_budget, VIDEO_BUDGETS)}")
    if options.video_budget == "official" and family.official_video is None:
        raise ReadoutError(
            f"video_budget: found 'official', expected 'usual': {family.name} has the same limits in both"
        )
    follows = options.as_published and family.official_video is not None
    return options.video_budget or ("official" if follows else "usual")


def _own_truncation(source: str, options: LoadOptions) -> int | None:
    """The width of the anchor that a checkpoint's files for Sentence Transformers ask for."""
    file = checkpoint_file(source, "config_sentence_transformers.json", options)
    try:
        found = None if file is None else json.loads(file.read_text(encoding="utf-8")).get("truncate_dim")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelNotFoundError(f"model {source!r}: cannot read config_sentence_transformers.json: {error}") from error
    return found if isinstance(found, int) else None
