"""GME-Qwen2-VL: a chat that ends in one more special token, whose state is the anchor."""

from __future__ import annotations

from ...core.roles import TokenRole
from ...inputs import Item
from .family import GENERATION_PROMPT, Family, Part, VisualLimits, turn, visual_parts

_INSTRUCTION = "You are a helpful assistant."


def conversation(item: Item, instruction: str, side: str) -> list[Part]:
    """System turn, picture and text, generation prompt, end-of-text."""
    return [
        *turn("system", Part(TokenRole.PROMPT, instruction)),
        *turn("user", *visual_parts(item), Part(TokenRole.TEXT, item.text)),
        GENERATION_PROMPT,
        Part(TokenRole.TEMPLATE, "<|endoftext|>"),
    ]


FAMILY = Family(
    "gme",
    frozenset({"qwen2_vl"}),
    conversation,
    VisualLimits(min_tokens=256, max_tokens=1280, first_resize=(4, 16_384)),
    {"query": _INSTRUCTION, "document": _INSTRUCTION},
    source="Alibaba-NLP/gme-Qwen2-VL-2B-Instruct, gme_inference.py",
    marks=("gme-qwen2-vl", "gme_qwen2_vl"),
    spelled=lambda instruction: instruction or _INSTRUCTION,
    # Its code embeds the visual tokens itself and hands the language model no positions.
    positions="sequential",
    max_length=1800,
    video=False,
    drops_visual_of_queries=True,
)
