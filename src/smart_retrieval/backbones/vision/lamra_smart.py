"""LamRA on Qwen3-VL as SMART's authors trained and evaluated it: instruction and text on lines of their own."""

from __future__ import annotations

from ...core.roles import TokenRole
from ...inputs import Item
from .family import Family, Part, VisualLimits, punctuated, visual_parts
from .lamra import answered


def conversation(item: Item, instruction: str) -> list[Part]:
    """The input, the request to summarise it, and the answer.

    As published, a picture without text brings no instruction along, and whatever has a text is called a sentence.
    """
    visual = visual_parts(item)
    # Of the instruction's line, the blank in front and the line break are part of the published wording.
    prompt = [Part(TokenRole.PROMPT, f" {instruction}\n")] if instruction and item.text else []
    return answered(
        [*visual, *prompt, Part(TokenRole.TEXT, item.text)], "sentence" if item.text or not visual else "image"
    )


FAMILY = Family(
    "lamra-smart",
    frozenset({"qwen3_vl"}),
    conversation,
    # 1024 x 28^2 pixels, in visual tokens of 32 x 32.
    VisualLimits(min_tokens=4, max_tokens=784),
    {},
    source="HanSolo9682/SMART: eval/src/models/lamra_ret.py, train_lamra/dataset/datasets_mbeir.py",
    marks=("lamra",),
    spelled=punctuated,
    pooling="before <emb>",
    positions="sequential",
    deepstack=False,
)
