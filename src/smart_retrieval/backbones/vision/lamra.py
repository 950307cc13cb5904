"""LamRA-Ret: prompted to summarise its input in one word, ``<emb>``; the state before that token is the anchor."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ...core.roles import TokenRole
from ...inputs import Item
from .family import GENERATION_PROMPT, USUAL_INSTRUCTION, Family, Part, VisualLimits, turn, visual_parts


def conversation(item: Item, instruction: str, system: str = USUAL_INSTRUCTION) -> list[Part]:
    """The input, the request to summarise it, and the answer."""
    seen = "image" if item.images else "video"
    visual = bool(item.images) or item.video is not None
    request = sentence(instruction)
    text = sentence(item.text)
    if request and text:
        # Training joined the two before spelling them: behind an instruction, a text keeps its first letter.
        text = sentence(f"{request} {item.text}").removeprefix(f"{request} ")
    words = [Part(TokenRole.PROMPT, f"{request} " if text else request), Part(TokenRole.TEXT, text)]
    has_words = bool(text or request)
    what = f"{seen} and sentence" if visual and has_words else seen if visual else "sentence"
    opening = [Part(TokenRole.TEMPLATE, f"<|im_start|>system\n{system}<|im_end|>\n")] if system else []
    return [*opening, *answered([*visual_parts(item), *(words if request else words[1:])], what)]


def answered(content: list[Part], what: str) -> list[Part]:
    """The user's turn, which asks to summarise its content, and the answer ``<emb>``."""
    return [
        *turn("user", *content, Part(TokenRole.TEMPLATE, f"\nSummarize above {what} in one word: ")),
        GENERATION_PROMPT,
        Part(TokenRole.TEMPLATE, "<emb>.<|im_end|>\n"),
        GENERATION_PROMPT,
    ]


def sentence(text: str) -> str:
    """A text as the model's training data spell it: no quotes around it, a capital in front, a stop behind.

    Example:
        >>> sentence('a dog on a beach')
        'A dog on a beach.'
    """
    bare = text.replace("\r", "").strip().strip('"')
    if not bare:
        return ""
    bare = bare[0].upper() + bare[1:]
    return bare if bare.endswith((".", "?", "!")) else f"{bare}."


_QWEN2 = Family(
    "lamra",
    frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl"}),
    conversation,
    VisualLimits(min_tokens=4, max_tokens=1280),
    {},
    source="Code-kunkun/LamRA: demo.py, dataset/, collators/, models/qwen2_vl.py",
    marks=("lamra",),
    pooling="before <emb>",
    positions="sequential",
    deepstack=False,
)
# Qwen3-VL's chat format adds no system turn.
FAMILY = replace(_QWEN2, variants={"qwen3_vl": replace(_QWEN2, conversation=partial(conversation, system=""))})
