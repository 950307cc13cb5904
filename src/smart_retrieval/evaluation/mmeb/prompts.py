"""The two published ways of wording MMEB-V2's inputs: ``v2v`` (VLM2Vec's code) and ``qwen`` (Qwen3-VL-Embedding's)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import DatasetError, one_of
from ...inputs import Item
from .tasks import Task

#: Stands for the picture in the annotations' own instructions; models put theirs where they want it.
PLACEHOLDER = "<|image_1|>"
_QWEN_TARGET = "Represent the user's input."


@dataclass(frozen=True)
class Prompts:
    """How an item is put together from an annotation's parts.

    Args:
        name: ``"qwen"``: the instruction stands apart (the system turn), ends in a full stop, and every candidate gets
            "Represent the user's input.". ``"v2v"``: the instruction stands in front of the text and ends in a colon,
            visual candidates have one too, and texts of the image tasks end in a line break.
        frames: Most frames of a video.
        clip_frames: Most frames of a moment's clip.
    """

    name: str
    frames: int
    clip_frames: int

    @property
    def lettered_candidates(self) -> bool:
        """Whether NExTQA's candidates carry their letters; the two differ there."""
        return self.name == "qwen"

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
        return Item(text, () if image is None else (image,), video, instruction or None)

    def candidate(self, task: Task, text: str = "", *, image: Any = None, video: Any = None) -> Item:
        """A candidate of a video or document task."""
        images = () if image is None else (image,)
        if self.name == "qwen":
            return Item(text, images, video, _QWEN_TARGET)
        return Item(text, images, video, (task.target_v2v or None) if images or video is not None else None)

    def image_query(self, instruction: str, text: str, *, image: Any = None, line_breaks: int = 1) -> Item:
        """A query of an image task, whose annotations bring the instruction.

        Args:
            instruction: As annotated, placeholder included.
            text: The query's own text, often empty.
            image: Its picture, if it has one.
            line_breaks: How many line breaks ``v2v`` puts behind it.
        """
        own, images = _bare(instruction), () if image is None else (image,)
        if self.name == "qwen":
            return Item(text, images, instruction=own or None)
        return _v2v(own, text, images, line_breaks)

    def image_candidate(self, instruction: str, text: str = "", *, image: Any = None, line_breaks: int = 1) -> Item:
        """A candidate of an image task; text alone carries no instruction of its own."""
        images = () if image is None else (image,)
        if self.name == "qwen":
            return Item(text, images, instruction=_QWEN_TARGET)
        if not images:
            return Item(text)
        return _v2v(_bare(instruction), text, images, line_breaks)


PROMPTS = {"qwen": Prompts("qwen", 64, 8), "v2v": Prompts("v2v", 8, 8)}


def get_prompts(name: str) -> Prompts:
    """The convention of this name.

    Raises:
        DatasetError: There is none.
    """
    if name not in PROMPTS:
        raise DatasetError(f"prompts: {one_of(name, PROMPTS)}")
    return PROMPTS[name]


def options_text(question: str, options: list[str]) -> tuple[str, list[str]]:
    r"""A question with its lettered options below it, and those options.

    Example:
        >>> options_text("Which?", ["left", "right"])
        ('Which?\nOptions:\n(A) left\n(B) right', ['(A) left', '(B) right'])
    """
    lettered = [f"({chr(ord('A') + place)}) {option}" for place, option in enumerate(options)]
    return "\n".join([question, "Options:", *lettered]).rstrip(), lettered


def without_letter(option: str) -> str:
    """An option without the letter in front of it.

    Example:
        >>> without_letter("B. A red car."), without_letter("none")
        ('A red car', 'none')
    """
    found = option.find(". ")
    return option[found:].strip(". ") if found >= 0 else option


def _bare(instruction: str) -> str:
    return instruction.replace(PLACEHOLDER, "").strip()


def _v2v(instruction: str, text: str, images: tuple[Any, ...], line_breaks: int) -> Item:
    """Instruction, text and line breaks; the last token decides the anchor, so the breaks are kept."""
    end = "\n" * line_breaks
    if text or not end:
        return Item(text + end, images, instruction=instruction or None)
    # An instruction is stripped where it is rendered, a text is not: without other text it stands there.
    return Item(instruction + end, images)
