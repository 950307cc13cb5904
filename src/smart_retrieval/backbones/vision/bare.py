"""A vision-language model without retrieval training: the user chooses how it is pooled."""

from __future__ import annotations

from dataclasses import replace

from ...errors import UnsupportedModelError
from .family import USUAL_INSTRUCTION, Family, VisualLimits, chat

POOLINGS = ("lasttoken", "mean")

_QWEN2 = Family(
    "bare-vlm",
    frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl"}),
    chat,
    VisualLimits(min_tokens=4, max_tokens=1280),
    {"query": USUAL_INSTRUCTION, "document": USUAL_INSTRUCTION},
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
