"""What a model is, as its backbone and its readout tell."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .purpose import Purpose, read_purpose

if TYPE_CHECKING:
    from ..backbones.backbone import Backbone
    from ..backbones.compute import Compute
    from ..core.adapter import Adapter
    from ..core.head import TokenHead
    from .encoding import Encoder


class ModelProperties:
    """The read-only properties of :class:`SmartModel`."""

    backbone: Backbone
    computing: Compute
    _encoder: Encoder

    @property
    def anchor_dim(self) -> int:
        """Width of an anchor."""
        return self._encoder.anchor_dim

    @property
    def token_dim(self) -> int:
        """Width of a token vector."""
        return self._encoder.token_dim

    @property
    def state_dim(self) -> int:
        """Width of a hidden state that the readout reads."""
        return self._encoder.state_dim

    @property
    def head(self) -> TokenHead:
        """The module that reads token vectors out of the backbone's states."""
        return self._encoder.head

    @property
    def adapter(self) -> Adapter | None:
        """The trained projection of the states, if there is one."""
        return self.head.adapter

    @property
    def max_length(self) -> int | None:
        """Longest input in tokens; what is longer is cut off and counted."""
        return self.backbone.max_length

    @property
    def max_seq_length(self) -> int | None:
        """:attr:`max_length` by its name in Sentence Transformers; chosen with ``SmartModel(…, max_length=)``."""
        return self.max_length

    @property
    def prompts(self) -> dict[str, str]:
        """Prompts by name; empty ones are left out."""
        return self.backbone.prompts

    @property
    def modalities(self) -> frozenset[str]:
        """The kinds of input it takes, of ``"text"``, ``"image"``, ``"video"`` and ``"audio"``."""
        return self.backbone.modalities

    @property
    def max_visual_tokens(self) -> int | None:
        """Most visual tokens of one picture, page or frame; None for a text model."""
        return self.backbone.max_visual_tokens

    @property
    def max_frames(self) -> int | None:
        """Most frames of a video; None where there is no recipe for video."""
        return self.backbone.max_frames

    @property
    def max_seconds(self) -> float | None:
        """Longest sound, in seconds, that is heard whole; None where none is taken."""
        return self.backbone.max_seconds

    @cached_property
    def purpose(self) -> Purpose | None:
        """What it was made for, if that is less than it takes; None for most models."""
        return read_purpose(Path(self.backbone.source))

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self.backbone.tokenizer

    @property
    def dtype(self) -> str:
        """NumPy dtype of the token vectors handed out."""
        return self._encoder.dtype

    @property
    def device(self) -> str:
        """Where the model runs."""
        return str(self.backbone.model.device)

    @property
    def compute(self) -> str:
        """What the transformer computes in: ``"float32"``, ``"bfloat16"``, or what its weights were loaded in."""
        return self.backbone.weights_dtype if self.computing.name == "float32" else self.computing.name
