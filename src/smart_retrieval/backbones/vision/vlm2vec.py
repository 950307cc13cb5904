"""VLM2Vec-V2: bare words without a chat, placeholders in front; the last token's state is the anchor."""

from __future__ import annotations

from ...core.roles import TokenRole
from ...inputs import Item
from .family import Family, Part, VisualLimits, visual_parts


def conversation(item: Item, instruction: str) -> list[Part]:
    """Placeholders, the instruction, the text."""
    parts = visual_parts(item, image="<|image_pad|> ", video="<|video_pad|> ")
    if instruction and item.text:
        return [*parts, Part(TokenRole.PROMPT, f"{instruction} "), Part(TokenRole.TEXT, item.text)]
    if instruction:
        return [*parts, Part(TokenRole.PROMPT, instruction)]
    # Its collator gives an empty input two blanks.
    return [*parts, Part(TokenRole.TEXT, item.text)] if item.text or parts else [Part(TokenRole.TEMPLATE, "  ")]


FAMILY = Family(
    "vlm2vec-v2",
    frozenset({"qwen2_vl"}),
    conversation,
    VisualLimits(min_tokens=4, max_tokens=1280, max_frames=8, min_frame_tokens=4, max_frame_tokens=1280),
    {},
    source="TIGER-AI-Lab/VLM2Vec: src/model/processor.py, experiments/examples/qwen2vl",
    marks=("vlm2vec",),
    # Without <|vision_start|> its own code finds no picture to give three axes to.
    positions="sequential",
)
