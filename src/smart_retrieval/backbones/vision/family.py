"""What tells one vision-language family from another: its wording, its positions, its pooling, its limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...core.roles import TokenRole
from ...inputs import Item

IMAGE_BLOCK = "<|vision_start|><|image_pad|><|vision_end|>"
VIDEO_BLOCK = "<|vision_start|><|video_pad|><|vision_end|>"
# A pooling: the mean from the first picture's <|vision_start|> to its <|vision_end|>, over everything without pictures.
VISION_SPAN = "mean of the picture"
ROLE_START, ROLE_END = "<|im_start|>", "<|im_end|>\n"


@dataclass(frozen=True)
class Part:
    """A stretch of a rendered input, all of one role.

    Args:
        role: What its tokens are; special tokens inside are found by their ids.
        text: The string. Parts of pictures and videos hold one placeholder (``<|image_pad|>``, ``<|video_pad|>``)
            each, which is repeated for every visual token.
    """

    role: TokenRole
    text: str


@dataclass(frozen=True)
class VisualLimits:
    """How large pictures and videos may become, in visual tokens (one covers ``(patch x merge)^2`` pixels).

    Args:
        min_tokens: Fewest tokens of a picture; smaller ones are enlarged.
        max_tokens: Most tokens of a picture; larger ones are reduced.
        first_resize: Limits of an earlier resize that the publisher's code does before, or None.
        max_frames: Most frames of a video.
        min_frame_tokens: Fewest tokens of one frame; smaller ones are enlarged.
        max_frame_tokens: Most tokens of one frame.
        max_video_tokens: Most tokens of all frames together, before two frames are merged into one step.
    """

    min_tokens: int
    max_tokens: int
    first_resize: tuple[int, int] | None = None
    max_frames: int = 8
    min_frame_tokens: int = 128
    max_frame_tokens: int = 768
    max_video_tokens: int = 15_000


@dataclass(frozen=True)
class Family:
    """One family's published recipe.

    Args:
        name: As :class:`~smart_retrieval.SmartModel` takes it under ``family``.
        model_types: Architectures (``config.json``'s ``model_type``) it exists for.
        conversation: From an item, its instruction and its side (``"query"`` or ``"document"``) to parts.
        limits: Of pictures and videos.
        prompts: Default instructions by side.
        spelled: Brings an instruction into the form the model was trained with.
        pooling: ``"lasttoken"``, ``"mean"``, ``"before <emb>"``, or :data:`VISION_SPAN`.
        positions: ``"mrope"`` (three axes, as the architecture has them) or ``"sequential"``, where the publisher's own
            code counts visual tokens as words.
        deepstack: Whether Qwen3-VL's intermediate visual features reach the language model.
        max_length: Longest input in tokens.
        video: Whether there is a recipe for video.
        drops_visual_of_queries: Whether the paper's evaluation leaves visual tokens of queries out of late interaction.
        source: Where the recipe comes from.
    """

    name: str
    model_types: frozenset[str]
    conversation: Callable[[Item, str, str], list[Part]]
    limits: VisualLimits
    prompts: dict[str, str]
    source: str
    spelled: Callable[[str], str] = str.strip
    pooling: str = "lasttoken"
    positions: str = "mrope"
    deepstack: bool = True
    max_length: int = 8192
    video: bool = True
    drops_visual_of_queries: bool = False


def is_stock(pooling: str) -> bool:
    """Whether Sentence Transformers' own pooling module knows this pooling."""
    return pooling in ("lasttoken", "mean")


def turn(speaker: str, *parts: Part) -> list[Part]:
    """One turn of a chat in Qwen's format."""
    return [
        Part(TokenRole.TEMPLATE, f"{ROLE_START}{speaker}\n"),
        *(part for part in parts if part.text),
        Part(TokenRole.TEMPLATE, ROLE_END),
    ]


def answer_begins() -> Part:
    """The generation prompt: the model's turn, still empty."""
    return Part(TokenRole.TEMPLATE, f"{ROLE_START}assistant\n")


def visual_parts(item: Item, *, image: str = IMAGE_BLOCK, video: str = VIDEO_BLOCK) -> list[Part]:
    """Placeholders of an item's video and pictures, the video first."""
    videos = [Part(TokenRole.VIDEO, video)] if item.video is not None else []
    return [*videos, *(Part(TokenRole.IMAGE, image) for _ in item.images)]
