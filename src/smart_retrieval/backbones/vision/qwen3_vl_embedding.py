"""Qwen3-VL-Embedding: the instruction as system turn, the state after the generation prompt as anchor."""

from __future__ import annotations

from dataclasses import replace

from ...core.roles import TokenRole
from ...inputs import Item
from .family import Family, Part, VisualLimits, chat, punctuated

_INSTRUCTION = "Represent the user's input."


def conversation(item: Item, instruction: str) -> list[Part]:
    """The chat, with a word that stands for an empty input and is no content of it."""
    empty = not (item.text or item.images or item.video is not None)
    return chat(item, instruction, Part(TokenRole.TEMPLATE, "NULL") if empty else None)


def spelled(instruction: str) -> str:
    """Stripped, and ending in punctuation; the default if nothing is left."""
    return punctuated(instruction) or _INSTRUCTION


# The evaluation settings of its technical report.
_LIMITS = VisualLimits(min_tokens=4, max_tokens=1800, max_frames=64, max_frame_tokens=768, max_video_tokens=15_000)
FAMILY = Family(
    "qwen3-vl-embedding",
    frozenset({"qwen3_vl"}),
    conversation,
    _LIMITS,
    {"query": _INSTRUCTION, "document": _INSTRUCTION},
    source="QwenLM/Qwen3-VL-Embedding, src/models/qwen3_vl_embedding.py; its report for the limits",
    marks=("qwen3-vl-embedding",),
    spelled=spelled,
    max_length=16_384,
    # 10 x 768 x 32^2 pixels, as its code and the paper's evaluation have it.
    official_video=replace(_LIMITS, max_video_tokens=7680, frames_as_pictures=True),
)
