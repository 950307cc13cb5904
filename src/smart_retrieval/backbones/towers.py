"""Two towers (CLIP, SigLIP, SigLIP 2): a text or a picture, each with a tower of its own, in one space.

Their training compares the pooled vectors alone, and most states never reach these: a picture's last states are not
what CLIP pools. What is read in their place is the nearest that the weights allow, and late scores are off by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import InputModule
from torch import Tensor

from ..core.head import ROLES_KEY
from ..core.presets import Preset
from ..core.roles import TokenRole
from ..embeddings import Grid
from ..errors import ModelNotFoundError, ReadoutError, UnsupportedModelError
from ..inputs import Item, item_of
from .backbone import GRIDS_KEY, Backbone
from .checkpoints import LoadOptions, hide_progress_bars
from .tokenizing import TOKENIZING, tokenize
from .vision.pixels import opened_item

FAMILY = "two-towers"


class TwoTowersBackbone(Backbone):
    """A text tower and a picture tower."""

    family = FAMILY
    modalities = frozenset({"text", "image"})
    mixes = False
    pooling = "each tower's own"
    reason = (
        "with reserve: words and patches are read, but their training compares pooled vectors alone, so late scores "
        "are off by default; smart probe says whether they help on your data"
    )
    n_states = 1

    def __init__(self, name: str, source: str, options: LoadOptions) -> None:
        super().__init__(name, source, options.revision)
        first = Towers(source, name, options)
        if options.max_length is not None and not 2 < options.max_length <= first.max_seq_length:
            raise ReadoutError(f"max_length: found {options.max_length}, expected 3 to {first.max_seq_length} tokens")
        first.max_seq_length = options.max_length or first.max_seq_length
        self.model = SentenceTransformer(
            modules=[first], device=options.device, prompts=options.prompts, truncate_dim=options.truncate_dim
        ).eval()
        self.truncate(options.truncate_dim)

    def identity(self) -> dict[str, Any]:
        """What an index or a cache stores to recognise this model."""
        return {**super().identity(), "family": self.family}

    def preset(self, chosen: Preset) -> Preset:
        """The same without late scores under ``default``: nothing is known of their worth for these models."""
        if chosen.name != "default":
            return chosen
        return replace(chosen, scoring=chosen.scoring.override(lambda_late=0.0))

    def load(self, item: Item) -> Item:
        """Open an item's picture; each item is one text or one picture."""
        item = super().load(item)
        if len(item.images) + bool(item.text) > 1:
            raise UnsupportedModelError(
                f"model {self.name!r}: found an input of {len(item.images)} pictures"
                f"{' and a text' if item.text else ''}, expected one text or one picture: it has a tower for each, and "
                "none for both"
            )
        return opened_item(item, 0)

    def preprocess(self, items: Sequence[Any], *, prompt: str | None, task: str | None) -> dict[str, Any]:
        """Tokenise texts, resize pictures, and mark roles."""
        loaded = [self.load(item_of(item, position)) for position, item in enumerate(items)]
        features: dict[str, Any] = self.transformer.preprocess(loaded, prompt=prompt)
        features[ROLES_KEY] = self.roles_without_prompt(features)
        return features

    def roles_without_prompt(self, features: dict[str, Any]) -> Tensor:
        """The role of every position; the prompt's tokens are marked by preprocessing."""
        ids, attended = features["input_ids"], features["attention_mask"].bool()
        special = torch.isin(ids, torch.tensor(sorted(self.special_ids), device=ids.device))
        roles = torch.full(ids.shape, int(TokenRole.SPECIAL), dtype=torch.uint8, device=ids.device)
        text = attended & ~special & ~features["is_image"][:, None]
        roles[text] = int(TokenRole.TEXT)
        worded = roles.cpu().numpy()
        self.word_roles.fill(worded, ids.cpu().numpy())
        roles = torch.from_numpy(worded).to(ids.device)
        roles[text & features["of_prompt"]] = int(TokenRole.PROMPT)
        roles[attended & features["is_image"][:, None]] = int(TokenRole.IMAGE)
        return roles

    def token_count(self, text: str, *, prompt: str | None, task: str | None = None) -> int:
        """How many tokens a text would have if nothing were cut off."""
        return int(self.transformer.count((prompt or "") + text))

    def cut_tokens(
        self, items: Sequence[Item], features: dict[str, Any], *, prompt: str | None, task: str | None
    ) -> list[int]:
        """Tokens cut off each text to fit the limit."""
        counts = [0 if item.images else self.token_count(item.text, prompt=prompt) for item in items]
        return [max(0, count - int(self.transformer.max_seq_length)) for count in counts]

    def save(self, folder: Path) -> None:
        """Write the untouched checkpoint."""
        self.transformer.save(str(folder))


class Towers(InputModule):
    """Both towers of a checkpoint; a batch may mix texts and pictures."""

    tokenizer: Any

    def __init__(self, source: str, name: str, options: LoadOptions) -> None:
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        super().__init__()  # type: ignore[no-untyped-call]
        hide_progress_bars()
        try:
            self.model = AutoModel.from_pretrained(source, **options.hub, **(options.model_kwargs or {}))
            self.tokenizer = AutoTokenizer.from_pretrained(source, **options.hub)
            pictures: Any = AutoImageProcessor
            self.pictures = pictures.from_pretrained(source, backend="pil", **options.hub)
        except Exception as error:
            raise ModelNotFoundError(
                f"model {name!r}: expected two towers with tokenizer and picture settings at {source}, found "
                f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            ) from error
        self.config = self.model.config
        self.is_clip = self.config.model_type == "clip"
        self.max_seq_length = int(self.config.text_config.max_position_embeddings)

    def get_embedding_dimension(self) -> int:
        """Dimensions of the space of both towers."""
        return int(self.config.projection_dim if self.is_clip else self.config.vision_config.hidden_size)

    def count(self, text: str) -> int:
        """Tokens of a text with the special ones around it."""
        return len(tokenize(self.tokenizer, text)["input_ids"]) + int(self.tokenizer.num_special_tokens_to_add())

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Texts as ids, pictures as pixels; ``input_ids`` ``[B, T]`` hold 0 at pictures' positions."""
        items = [item_of(value) for value in inputs]
        is_image = torch.tensor([bool(item.images) for item in items])
        texts = [(prompt or "") + item.text for item in items if not item.images]
        images = [item.images[0] for item in items if item.images]
        features: dict[str, Any] = {"is_image": is_image}
        pixels = dict(self.pictures(images, return_tensors="pt")) if images else {}
        grids = self._grids(pixels, len(images))
        encoded, own, of_prompt = self._texts(texts, len(prompt or ""))
        texts_width = encoded.shape[1]
        width = max([texts_width, *(grid.tokens for grid in grids)])
        ids = torch.zeros(len(items), width, dtype=torch.long)
        mask, marked = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        for whole, part in ((ids, encoded), (mask, own), (marked, of_prompt)):
            whole[~is_image, :texts_width] = part
        for row, grid in zip(is_image.nonzero()[:, 0].tolist(), grids, strict=True):
            mask[row, : grid.tokens] = 1
        placed = iter(grids)
        features |= {"input_ids": ids, "attention_mask": mask, "of_prompt": marked, "text_width": texts_width}
        return {**features, **pixels, GRIDS_KEY: [(next(placed),) if one else () for one in is_image.tolist()]}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add ``sentence_embedding`` ``[B, D]`` and ``token_embeddings`` ``[B, T, D]``."""
        ids, is_image = features["input_ids"], features["is_image"]
        anchors = torch.zeros(len(ids), self.get_embedding_dimension(), device=ids.device, dtype=self.model.dtype)
        states = torch.zeros(*ids.shape, anchors.shape[1], device=ids.device, dtype=self.model.dtype)
        if not is_image.all():
            width = features["text_width"]
            # SigLIP's tokenizers say whether it was trained with a mask.
            masked = "attention_mask" in self.tokenizer.model_input_names
            mask = {"attention_mask": features["attention_mask"][~is_image, :width]} if masked else {}
            found = self.model.get_text_features(input_ids=ids[~is_image, :width], **mask)
            project = self.model.text_projection if self.is_clip else self.model.text_model.head
            anchors[~is_image] = found.pooler_output
            own = torch.zeros_like(states[~is_image])
            own[:, :width] = project(found.last_hidden_state)
            states[~is_image] = own
        if is_image.any():
            pixels = {key: features[key] for key in _PIXELS if key in features}
            found = self.model.get_image_features(**pixels, output_hidden_states=True)
            anchors[is_image] = found.pooler_output
            patches = self._patches(found)
            own = torch.zeros_like(states[is_image])
            patches = patches[:, : own.shape[1]]  # SigLIP 2 pads small pictures with patches of nothing
            own[:, : patches.shape[1]] = patches
            states[is_image] = own
        features["sentence_embedding"], features["token_embeddings"] = anchors, states
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the checkpoint as transformers does."""
        for part in (self.model, self.tokenizer, self.pictures):
            part.save_pretrained(output_path)

    # -- inside ------------------------------------------------------------------------------------------------

    def _texts(self, texts: list[str], prompt: int) -> tuple[Tensor, Tensor, Tensor]:
        """Ids ``[N, L]``, 1 where they are no padding, and which of them end within the first ``prompt`` characters."""
        if not texts:
            none = torch.zeros(0, 0, dtype=torch.long)
            return none, none, none.bool()
        with TOKENIZING.held:
            # SigLIP was trained on texts of one length, and pools the last position, padding or not.
            encoded = self.tokenizer(
                texts, padding=True if self.is_clip else "max_length", truncation=True, max_length=self.max_seq_length,
                return_tensors="pt", return_attention_mask=True, return_offsets_mapping=True,
            )  # fmt: skip
        ends = encoded["offset_mapping"][..., 1]
        return encoded["input_ids"], encoded["attention_mask"], (ends > 0) & (ends <= prompt)

    def _grids(self, pixels: dict[str, Tensor], count: int) -> list[Grid]:
        if not count:
            return []
        if "spatial_shapes" in pixels:  # each picture its own
            return [Grid("image", 1, int(h), int(w)) for h, w in pixels["spatial_shapes"].tolist()]
        side = self.config.vision_config.patch_size
        return [Grid("image", 1, *(int(edge) // side for edge in pixels["pixel_values"].shape[-2:]))] * count

    def _patches(self, found: Any) -> Tensor:
        """A vector for each patch in the space of the anchors, ``[N, P, D]``."""
        vision = self.model.vision_model
        if self.is_clip:
            # Only the first position of the last layer is pooled; the others' last states feed nothing.
            below: Tensor = self.model.visual_projection(vision.post_layernorm(found.hidden_states[-2][:, 1:]))
            return below
        # The head pools by attention; this is what it would give if one patch had all of it.
        head = vision.head
        values = head.attention.in_proj_weight.chunk(3)[2], head.attention.in_proj_bias.chunk(3)[2]
        single = head.attention.out_proj(torch.nn.functional.linear(found.last_hidden_state, *values))
        whole: Tensor = single + head.mlp(head.layernorm(single))
        return whole


_PIXELS = ("pixel_values", "pixel_attention_mask", "spatial_shapes")
