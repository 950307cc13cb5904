"""The two published ways of wording MMEB-V2's inputs: ``v2v`` (VLM2Vec's code) and ``qwen`` (Qwen3-VL-Embedding's)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import DatasetError, one_of
from ...inputs import Item
from .tasks import Task

#: Marks the picture in the annotations' own instructions; models put theirs where they want it.
PLACEHOLDER = "<|image_1|>"
_QWEN_TARGET = "Represent the user's input."


@dataclass(frozen=True)
class Prompts:
    """How an item is made from an annotation's parts.

    ``qwen``: the instruction is separate (the system turn) and ends in a full stop; every candidate gets "Represent the
    user's input.". ``v2v``: the instruction precedes the text and ends in a colon, visual candidates have one too, and
    texts of the image tasks end in a line break.
    """

    name: str
    #: Most frames of a video, and of the clip of a moment.
    frames: int
    clip_frames: int = 8

    def query(self, task: Task, text: str = "", *, image: Any = None, video: Any = None) -> Item:
        """A query of a video or document task, with the task's instruction."""
        instruction = task.instruction
        if image is not None and task.instruction_image:
            instruction = task.instruction_image
        elif video is not None and task.instruction_video:
            instruction = task.instruction_video
        elif self.name == "v2v" and task.instruction_v2v:
            instruction = task.instruction_v2v
        if self.name == "qwen" and instruction.endswith(":"):
            instruction = instruction[:-1] + "."
        return Item(text, _images(image), video, instruction or None)

    def candidate(self, task: Task, text: str = "", *, image: Any = None, video: Any = None) -> Item:
        """A candidate of a video or document task."""
        if self.name == "qwen":
            instruction: str | None = _QWEN_TARGET
        else:
            instruction = task.target_v2v or None if image is not None or video is not None else None
        return Item(text, _images(image), video, instruction)

    def image_query(self, instruction: str, text: str, *, image: Any = None, line_breaks: int = 1) -> Item:
        """A query of an image task, whose annotations bring the instruction; ``v2v`` puts line breaks behind it."""
        own = _without_placeholder(instruction)
        if self.name == "qwen":
            return Item(text, _images(image), instruction=own or None)
        return _v2v(own, text, image, line_breaks)

    def image_candidate(self, instruction: str, text: str = "", *, image: Any = None, line_breaks: int = 1) -> Item:
        """A candidate of an image task; text alone carries no instruction of its own."""
        if self.name == "qwen":
            return Item(text, _images(image), instruction=_QWEN_TARGET)
        if image is None:
            return Item(text)
        return _v2v(_without_placeholder(instruction), text, image, line_breaks)


PROMPTS = {"qwen": Prompts("qwen", 64), "v2v": Prompts("v2v", 8)}


def get_prompts(name: str) -> Prompts:
    """The convention of this name."""
    if name not in PROMPTS:
        raise DatasetError(f"prompts: {one_of(name, PROMPTS)}")
    return PROMPTS[name]


def _images(image: Any) -> tuple[Any, ...]:
    return () if image is None else (image,)


def _without_placeholder(instruction: str) -> str:
    return instruction.replace(PLACEHOLDER, "").strip()


def _v2v(instruction: str, text: str, image: Any, line_breaks: int) -> Item:
    """Instruction, text and line breaks; the last token decides the anchor, so the breaks are kept."""
    end = "\n" * line_breaks
    if text or not end:
        return Item(text + end, _images(image), instruction=instruction or None)
    # An instruction is stripped when it is rendered, a text is not: where there is no other text, it is the text.
    return Item(instruction + end, _images(image))
