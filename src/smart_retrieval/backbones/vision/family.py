"""A vision-language family's recipe: its wording, its positions, its pooling, its limits."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ...core.roles import TokenRole
from ...inputs import Item

IMAGE_BLOCK = "<|vision_start|><|image_pad|><|vision_end|>"
VIDEO_BLOCK = "<|vision_start|><|video_pad|><|vision_end|>"
# A pooling: the mean from the first picture's <|vision_start|> to its <|vision_end|>, over everything without pictures.
VISION_SPAN = "mean of the picture"


@dataclass(frozen=True)
class Part:
    """A stretch of a rendered input, all of one role; special tokens inside are found by their ids.

    Parts of pictures and videos hold one placeholder (``<|image_pad|>``, ``<|video_pad|>``) each, which is repeated for
    every visual token.
    """

    role: TokenRole
    text: str


@dataclass(frozen=True)
class VisualLimits:
    """How large pictures and videos may become, in visual tokens (one covers ``(patch x merge)^2`` pixels).

    Smaller pictures and frames are enlarged, larger ones reduced. ``first_resize`` holds the limits of an earlier
    resize in the publisher's code; ``max_video_tokens`` counts all steps of two frames.
    ``frames_as_pictures`` sizes frames as Qwen's own code does with a list of them: each is a picture first, their
    share of the total is exact, and a last frame without a partner is followed by one more at the same pace.
    """

    min_tokens: int
    max_tokens: int
    first_resize: tuple[int, int] | None = None
    max_frames: int = 8
    min_frame_tokens: int = 128
    max_frame_tokens: int = 768
    max_video_tokens: int = 15_000
    frames_as_pictures: bool = False

    def tightened(
        self, max_length: int, frames_a_step: int, max_visual_tokens: int | None, max_frames: int | None
    ) -> VisualLimits:
        """The limits with a quarter of the longest input reserved for words, and tightened to what a user sets."""
        room = max(1, 3 * max_length // 4)
        steps = max(1, min(self.max_video_tokens, room) // min(self.min_frame_tokens, room))
        limits = replace(
            self,
            min_tokens=min(self.min_tokens, room),
            max_tokens=min(self.max_tokens, room),
            max_video_tokens=min(self.max_video_tokens, room),
            max_frames=min(self.max_frames, steps * frames_a_step),
        )
        if max_visual_tokens is not None:
            fewest = min(limits.min_tokens, max_visual_tokens)
            # Below the publisher's smallest frame there is no published size: frames keep theirs.
            smaller = max_visual_tokens < limits.min_frame_tokens * 1.05
            limits = replace(
                limits,
                min_tokens=fewest,
                max_tokens=max_visual_tokens,
                min_frame_tokens=fewest if smaller else limits.min_frame_tokens,
                max_frame_tokens=min(limits.max_frame_tokens, max_visual_tokens),
            )
        return limits if max_frames is None else replace(limits, max_frames=max_frames)


@dataclass(frozen=True)
class Family:
    """One family's published recipe."""

    name: str  # as SmartModel takes it under family=
    model_types: frozenset[str]  # architectures (config.json's model_type) it exists for
    conversation: Callable[[Item, str], list[Part]]  # from an item and its instruction
    limits: VisualLimits
    prompts: dict[str, str]  # default instructions for "query" and "document"
    source: str  # where the recipe comes from
    marks: tuple[str, ...] = ()  # parts of a name by which a published checkpoint is known, in lower case
    spelled: Callable[[str], str] = str.strip  # brings an instruction into the form the model was trained with
    pooling: str = "lasttoken"  # or "mean", "before <emb>", VISION_SPAN
    # "mrope" (three axes, as the architecture has them) or "sequential", where the publisher's own code counts visual
    # tokens as words.
    positions: str = "mrope"
    deepstack: bool = True  # whether Qwen3-VL's intermediate visual features reach the language model
    max_length: int = 8192  # in tokens
    video: bool = True  # whether there is a recipe for video
    middle_frame: bool = False  # whether that is a video's middle frame as a picture
    official_video: VisualLimits | None = None  # limits of the publisher's code, where the usual ones are others
    drops_visual_of_queries: bool = False  # see Backbone
    variants: Mapping[str, Family] = field(default_factory=dict)  # recipes that differ for some of the architectures

    @property
    def pools_as_sentence_transformers(self) -> bool:
        """Whether Sentence Transformers' own pooling module knows this pooling."""
        return self.pooling in ("lasttoken", "mean")


def punctuated(instruction: str) -> str:
    """An instruction, stripped and ending in punctuation."""
    text = instruction.strip()
    return f"{text}." if text and not unicodedata.category(text[-1]).startswith("P") else text


def turn(speaker: str, *parts: Part) -> list[Part]:
    """One turn of a chat in Qwen's format."""
    return [
        Part(TokenRole.TEMPLATE, f"<|im_start|>{speaker}\n"),
        *(part for part in parts if part.text),
        Part(TokenRole.TEMPLATE, "<|im_end|>\n"),
    ]


# The system turn of the older two chat formats, unless there is another.
USUAL_INSTRUCTION = "You are a helpful assistant."
# The model's turn, still empty.
GENERATION_PROMPT = Part(TokenRole.TEMPLATE, "<|im_start|>assistant\n")


def visual_parts(item: Item, *, image: str = IMAGE_BLOCK, video: str = VIDEO_BLOCK) -> list[Part]:
    """Placeholders of an item's video and pictures, the video first."""
    videos = [Part(TokenRole.VIDEO, video)] if item.video is not None else []
    return [*videos, *(Part(TokenRole.IMAGE, image) for _ in item.images)]


def chat(item: Item, instruction: str, words: Part | None = None) -> list[Part]:
    """A system turn if there is an instruction, the user's turn, the generation prompt; ``words`` for the own text."""
    system = turn("system", Part(TokenRole.PROMPT, instruction)) if instruction else []
    return [*system, *turn("user", *visual_parts(item), words or Part(TokenRole.TEXT, item.text)), GENERATION_PROMPT]
