"""GME-Qwen2-VL: a chat that ends in one more special token, whose state is the anchor."""

from __future__ import annotations

from ...core.roles import TokenRole
from ...inputs import Item
from .family import USUAL_INSTRUCTION, Family, Part, VisualLimits, chat


def conversation(item: Item, instruction: str) -> list[Part]:
    """The chat and end-of-text."""
    return [*chat(item, instruction), Part(TokenRole.TEMPLATE, "<|endoftext|>")]


FAMILY = Family(
    "gme",
    frozenset({"qwen2_vl"}),
    conversation,
    VisualLimits(min_tokens=256, max_tokens=1280, first_resize=(4, 16_384), max_frames=64),
    {"query": USUAL_INSTRUCTION, "document": USUAL_INSTRUCTION},
    source="Alibaba-NLP/gme-Qwen2-VL-2B-Instruct, gme_inference.py",
    marks=("gme-qwen2-vl", "gme_qwen2_vl"),
    spelled=lambda instruction: instruction or USUAL_INSTRUCTION,
    # Its code embeds the visual tokens itself and hands the language model no positions.
    positions="sequential",
    max_length=1800,
    # As the paper evaluated it (HanSolo9682/SMART, eval_gme_late_interaction.py); the publisher has nothing for video.
    middle_frame=True,
    drops_visual_of_queries=True,
)
