"""A vision-language model that nobody trained for retrieval: the user says how it is pooled."""

from __future__ import annotations

from dataclasses import replace

from ...core.roles import TokenRole
from ...errors import UnsupportedModelError
from ...inputs import Item
from .family import Family, Part, VisualLimits, answer_begins, turn, visual_parts

POOLINGS = ("lasttoken", "mean")


def conversation(item: Item, instruction: str, side: str) -> list[Part]:
    """A system turn if there is an instruction, the user's turn, the generation prompt."""
    system = turn("system", Part(TokenRole.PROMPT, instruction)) if instruction else []
    return [*system, *turn("user", *visual_parts(item), Part(TokenRole.TEXT, item.text)), answer_begins()]


_FAMILY = Family(
    "bare-vlm",
    frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl"}),
    conversation,
    VisualLimits(min_tokens=4, max_tokens=1280),
    {},
    source="the architecture's own chat format",
)


def family(name: str, model_type: str, pooling: str | None) -> Family:
    """The recipe of a bare model, pooled as asked; the older two formats open with their usual system turn.

    Raises:
        UnsupportedModelError: No pooling was chosen, or an unknown one.
    """
    if pooling not in POOLINGS:
        raise UnsupportedModelError(
            f"model {name!r}: found a vision-language model and no sign that it was trained to embed, expected "
            "family= (qwen3-vl-embedding, gme, lamra, vlm2vec-v2) if it is one of these under another name, or "
            f"pooling= one of {', '.join(POOLINGS)}: which state is the anchor decides its quality, so nobody guesses"
        )
    usual = "" if model_type == "qwen3_vl" else "You are a helpful assistant."
    return replace(_FAMILY, pooling=pooling, prompts={"query": usual, "document": usual} if usual else {})
