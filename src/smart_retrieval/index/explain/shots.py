"""The pictures an explanation is drawn on: from the file they came from, or what the index kept of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import MediaError, MissingExtraError
from .explanation import Explanation
from .heatmap import frame_of_step
from .visual import VisualExplanation

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..store.store import Store

# Longest side of a picture that is shown.
LONGEST = 1000
_BLANK = (236, 237, 240)
_PATCH = 32  # pixels a visual token gets where there is no picture at all


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture with the map that lies over it.

    Args:
        image: The picture, RGB.
        grid: The number of its map; None where there is none.
        step: The frame of that map.
        time: Its second in the video.
        score: The late score this frame would have alone; None for pictures that do not move.
    """

    image: Image
    grid: int | None = None
    step: int = 0
    time: float | None = None
    score: float | None = None

    @property
    def caption(self) -> str:
        """What is said under it; empty for a picture that does not move."""
        if self.score is None:
            return ""
        return ("" if self.time is None else f"{clock(self.time)}  ") + f"score {self.score:.3f}"


@dataclass(frozen=True, eq=False)
class Shots:
    """Pictures to show, in order, and a sentence where they are not what was indexed."""

    shots: tuple[Shot, ...]
    note: str = ""


def clock(seconds: float) -> str:
    """A place in a video.

    Example:
        >>> clock(75.25), clock(3725)
        ('1:15.2', '1:02:05.0')
    """
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02d}" if hours else str(minutes)
    return f"{head}:{rest // 10:02d}.{rest % 10}"


def find_shots(store: Store, explanation: Explanation, root: str | Path | None = None) -> Shots:
    """Fetch what an explanation's maps are drawn on; frames of a video in the order of their times.

    Args:
        store: Of the index.
        explanation: Of one of its documents that is a picture.
        root: The folder that sources are relative to; the one that was indexed when None, or else the working
            directory.

    Returns:
        A picture for every image, the best frames of a video; none for a document that is text.
    """
    visual = explanation.visual
    if visual is None:
        return Shots(())
    note = ""
    images: dict[int, Image] = {}
    folder = Path(root or store.manifest.root or ".")
    path = None if explanation.source is None else folder / explanation.source
    if path is None:
        note = "It did not come from a file: this is the thumbnail that the index keeps."
    else:
        try:
            images = _from_file(path, explanation, visual)
            note = _changed(store, path, explanation.source or "")
        except (MediaError, MissingExtraError) as error:
            note = f"The file cannot be shown ({error}); this is the thumbnail that the index keeps."
    if not images:
        images = _from_thumbnail(visual)
    return Shots(tuple(_shots(visual, images)), note)


def _shots(visual: VisualExplanation, images: dict[int, Image]) -> list[Shot]:
    if not visual.maps:
        return [Shot(image) for _, image in sorted(images.items())][:1]
    shots = []
    for number, one in enumerate(visual.maps):
        moving = one.grid.kind == "video"
        for step, time, score in sorted(visual.shown_frames(number)):
            # A document's further images are not kept: their maps are drawn on nothing.
            image = images.get(_frame(visual, number, step)) if moving or number == 0 else None
            if image is None:
                image = _blank(one.grid.w, one.grid.h)
            shots.append(Shot(image, number, step, time, score if moving else None))
    return shots


def _frame(visual: VisualExplanation, number: int, step: int) -> int:
    """Which of the frames that the model was given a step of a map begins with; 0 for what does not move."""
    one = visual.maps[number]
    return frame_of_step(step, one.grid.t, len(visual.media.times)) if one.grid.kind == "video" else 0


def _from_file(path: Path, explanation: Explanation, visual: VisualExplanation) -> dict[int, Image]:
    """Frames by number (0 for an image or a page), drawn anew from the file."""
    from ...pictures.images import load_image

    if visual.media.kind == "video":
        from ...pictures.video import VideoFile

        found = VideoFile(path).frames(max(1, len(visual.media.times)))
        wanted = {_frame(visual, number, step) for number in range(len(visual.maps)) for step in _steps(visual, number)}
        wanted = wanted or {_middle(visual)}
        return {number: _small(image) for number, image in enumerate(found.images) if number in wanted}
    if visual.media.kind == "page" and explanation.page is not None:
        from ...pictures.pdf_pages import PdfPages

        with PdfPages(path) as pages:
            return {0: _small(pages.render(explanation.page))}
    return {0: _small(load_image(path))}


def _steps(visual: VisualExplanation, number: int) -> list[int]:
    return [step for step, _, _ in visual.shown_frames(number)]


def _from_thumbnail(visual: VisualExplanation) -> dict[int, Image]:
    from ...pictures.images import load_image

    thumbnail = visual.media.thumbnail()
    if not thumbnail:
        return {}
    return {_middle(visual) if visual.media.kind == "video" else 0: _large(load_image(thumbnail))}


def _middle(visual: VisualExplanation) -> int:
    """The frame a video's thumbnail was made of."""
    return len(visual.media.times) // 2


def _changed(store: Store, path: Path, source: str) -> str:
    entry = store.files.get(source)
    status = path.stat()
    if entry is None or (entry.size, entry.mtime_ns) == (status.st_size, status.st_mtime_ns):
        return ""
    return "The file has changed since it was indexed: what is shown may not be what was found."


def _small(image: Image) -> Image:
    copy = image.copy()
    copy.thumbnail((LONGEST, LONGEST))  # which only ever makes it smaller
    return copy


def _large(image: Image) -> Image:
    """A thumbnail, enlarged so that a map over it can be seen."""
    factor = max(1, round(480 / max(image.size)))
    return image.resize((image.width * factor, image.height * factor))


def _blank(width: int, height: int) -> Image:
    from PIL import Image as images

    return images.new("RGB", (width * _PATCH, height * _PATCH), _BLANK)
