"""A vision-language model without retrieval training: the user chooses how it is pooled."""

from __future__ import annotations

from dataclasses import replace

from ...core.roles import TokenRole
from ...errors import UnsupportedModelError
from ...inputs import Item
from .family import GENERATION_PROMPT, Family, Part, VisualLimits, turn, visual_parts

POOLINGS = ("lasttoken", "mean")


def conversation(item: Item, instruction: str, side: str) -> list[Part]:
    """A system turn if there is an instruction, the user's turn, the generation prompt."""
    system = turn("system", Part(TokenRole.PROMPT, instruction)) if instruction else []
    return [*system, *turn("user", *visual_parts(item), Part(TokenRole.TEXT, item.text)), GENERATION_PROMPT]


# The older two chat formats open with this system turn, unless there is another.
_USUAL = "You are a helpful assistant."
_QWEN2 = Family(
    "bare-vlm",
    frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl"}),
    conversation,
    VisualLimits(min_tokens=4, max_tokens=1280),
    {"query": _USUAL, "document": _USUAL},
    source="the architecture's own chat format",
)
FAMILY = replace(_QWEN2, variants={"qwen3_vl": replace(_QWEN2, prompts={})})


def pooled(family: Family, name: str, pooling: str | None) -> Family:
    """The recipe with the pooling that the user chose, who has to choose one."""
    if pooling not in POOLINGS:
        raise UnsupportedModelError(
            f"model {name!r}: found a vision-language model and no sign that it was trained to embed, expected "
            "family= (qwen3-vl-embedding, gme, lamra, vlm2vec-v2) if it is one of these under another name, or "
            f"pooling= one of {', '.join(POOLINGS)}: the choice decides the anchor's quality, so none is assumed"
        )
    return replace(family, pooling=pooling)
