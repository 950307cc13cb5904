"""What is taken out of a PDF: plain values only, so that they can cross from one process to another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Box(NamedTuple):
    """A rectangle in points, from the lower left corner of the page."""

    left: float
    bottom: float
    right: float
    top: float

    def turned(self, quarters: int, width: float, height: float) -> Box:
        """The box after its page of this size was turned clockwise by so many quarters."""
        left, bottom, right, top = self
        if quarters == 1:
            return Box(bottom, width - right, top, width - left)
        if quarters == 2:
            return Box(width - right, height - top, width - left, height - bottom)
        if quarters == 3:
            return Box(height - top, left, height - bottom, right)
        return self


#: `Run.turn` of text that is neither level nor upright: a watermark from corner to corner.
SLANTED = 4
#: Text of a form's buttons.
TICKED, UNTICKED = "[x]", "[ ]"


@dataclass(frozen=True, slots=True)
class Run:
    """Text on one line without a wide gap in it, spaces single.

    Its box is that of the page as it is shown, turned clockwise by `turn` quarters so that the text is level. `hyphen`
    says that a hyphen (not in `text`) divides its last word; `field` is the name of the form's field whose value
    this is, else empty.
    """

    text: str
    box: Box
    turn: int = 0
    hyphen: bool = False
    field: str = ""


@dataclass(frozen=True, slots=True)
class PageText:
    """The text of one page as PDFium finds it, in the order of the file.

    `unreadable` counts characters of which nobody knows what they mean (then there are no runs), `outside` runs beyond
    the edges of the page, `comments` notes stuck to it. `drawn` says that it shows what may be text, as scans do,
    `repaired` that its characters were named with their bytes exchanged.
    """

    runs: list[Run] = field(default_factory=list)
    unreadable: int = 0
    outside: int = 0
    comments: int = 0
    damaged: bool = False
    drawn: bool = False
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class PdfText:
    """The pages of a PDF, its outline as (page from 0, level from 1, title), and what it says about itself."""

    pages: list[PageText]
    outline: list[tuple[int, int, str]]
    metadata: dict[str, Any]
