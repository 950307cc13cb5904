"""jina-embeddings-v4 with one task's adapter merged into its weights: a mean over the words, or over the picture."""

from __future__ import annotations

from ...core.roles import TokenRole
from ...inputs import Item
from .family import VISION_SPAN, Family, Part, VisualLimits, turn, visual_parts

_PICTURE = "Describe the image."


def conversation(item: Item, instruction: str) -> list[Part]:
    """A text behind the word for its side; pictures as a user's turn with a fixed request.

    Text beside a picture stands where the request does: the publisher has no recipe for both.
    """
    if not item.images:
        return [Part(TokenRole.PROMPT, f"{instruction}: "), Part(TokenRole.TEXT, item.text)]
    request = Part(TokenRole.TEXT, item.text) if item.text else Part(TokenRole.PROMPT, _PICTURE)
    return turn("user", *visual_parts(item), request)


FAMILY = Family(
    "jina-v4",
    frozenset({"qwen2_5_vl"}),
    conversation,
    VisualLimits(min_tokens=4, max_tokens=768),
    {"query": "Query", "document": "Passage"},
    source="jinaai/jina-embeddings-v4, modeling_jina_embeddings_v4.py; its merged checkpoints for vLLM",
    marks=("jina-embeddings-v4",),
    pooling=VISION_SPAN,
    max_length=32_768,
    video=False,
)
