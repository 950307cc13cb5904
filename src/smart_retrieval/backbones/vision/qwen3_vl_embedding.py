"""Qwen3-VL-Embedding: the instruction as system turn, the state after the generation prompt as anchor."""

from __future__ import annotations

import unicodedata

from ...core.roles import TokenRole
from ...inputs import Item
from .family import GENERATION_PROMPT, Family, Part, VisualLimits, turn, visual_parts

_INSTRUCTION = "Represent the user's input."
_NOTHING = "NULL"


def conversation(item: Item, instruction: str, side: str) -> list[Part]:
    """System turn, then video, pictures and text, then the generation prompt."""
    text = item.text or ("" if item.images or item.video is not None else _NOTHING)
    # The word that stands for an empty input is no content of it.
    role = TokenRole.TEXT if item.text else TokenRole.TEMPLATE
    return [
        *turn("system", Part(TokenRole.PROMPT, instruction)),
        *turn("user", *visual_parts(item), Part(role, text)),
        GENERATION_PROMPT,
    ]


def spelled(instruction: str) -> str:
    """Stripped, and ending in punctuation; the default if nothing is left."""
    text = instruction.strip() or _INSTRUCTION
    return text if unicodedata.category(text[-1]).startswith("P") else f"{text}."


FAMILY = Family(
    "qwen3-vl-embedding",
    frozenset({"qwen3_vl"}),
    conversation,
    # The evaluation settings of its technical report.
    VisualLimits(min_tokens=4, max_tokens=1800, max_frames=64, max_frame_tokens=768, max_video_tokens=15_000),
    {"query": _INSTRUCTION, "document": _INSTRUCTION},
    source="QwenLM/Qwen3-VL-Embedding, src/models/qwen3_vl_embedding.py; its report for the limits",
    marks=("qwen3-vl-embedding",),
    spelled=spelled,
    max_length=16_384,
)
