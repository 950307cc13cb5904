"""The pictures that heat maps are drawn on: from the file that was indexed, or the thumbnail that the index keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import MediaError, MissingExtraError
from ...files import path_on_disk
from ..store.records import FileEntry
from .page_words import MarkedWord, draw_page, has_page, marked_words
from .score import ScoreBreakdown, VisualExplanation

if TYPE_CHECKING:
    from PIL.Image import Image

_LONGEST = 1000  # pixels of the longer side of a picture that is shown
_LONGEST_PAGE = 1600  # of a page whose words are marked
_MOST_PAGES = 3  # that a passage may go over
_THUMBNAIL = 480  # of a thumbnail, enlarged so that a map over it can be seen
_BLANK = (236, 237, 240)
_STRIP, _TICK = 60, (98, 101, 110)  # height in pixels of the strip that stands for sound, colour of its times
_PATCH = 32  # pixels of a visual token where there is no picture at all


@dataclass(frozen=True)
class PictureFile:
    """Where the file of a document was when it was indexed, and its size and time then, if the index knows them."""

    root: str = ""
    entry: FileEntry | None = None


@dataclass(frozen=True, eq=False)
class ShownPicture:
    """One picture with the map that lies over it, or a page with the words of a passage that are marked."""

    image: Image  # RGB
    grid: int | None = None  # number of its map; None where there is none
    step: int = 0  # the frame of that map
    time: float | None = None  # its second in the video
    score: float | None = None  # the late score this frame would have alone; None for still pictures
    words: tuple[MarkedWord, ...] = ()
    heard: str = ""  # of sound: its seconds, and those that matched best

    @property
    def caption(self) -> str:
        """Time and score of a frame, or of the seconds of sound; empty for a still picture."""
        if self.score is None:
            return self.heard
        return ("" if self.time is None else f"{clock(self.time)}  ") + f"score {self.score:.3f}"


@dataclass(frozen=True, eq=False)
class ShownPictures:
    """Pictures to show, in order, and a sentence where they are not what was indexed."""

    pictures: tuple[ShownPicture, ...]
    note: str = ""


def clock(seconds: float) -> str:
    """A place in a video or a recording.

    Example:
        >>> clock(75.25), clock(3725)
        ('1:15.2', '1:02:05.0')
    """
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02d}" if hours else str(minutes)
    return f"{head}:{rest // 10:02d}.{rest % 10}"


def _second(time: float | None) -> str:
    return clock(time or 0.0).removesuffix(".0")


def map_notes(score: ScoreBreakdown) -> list[str]:
    """What the maps do not say by themselves: their scales, and which part of the score they do not show."""
    visual = score.visual
    if visual is None:
        return []
    if not visual.maps:
        return ["There is no heat map: tokens were merged, or the model does not say where its visual tokens are."]
    low, high = visual.whole_scale
    return [
        f"The whole query: weighted similarities from {low:.3f} to {high:.3f}. Choose a word to see its own: "
        f"similarities from {visual.row_scale[0]:.3f} to {visual.row_scale[1]:.3f}, one scale for all words.",
        f"Tokens of the query that are no content (prompt, template, punctuation) bring "
        f"{100 * score.special_share:.1f} % of the late score; {100 * visual.outside:.1f} % of it was found outside "
        f"the {'sound' if visual.media.kind == 'audio' else 'picture'}, in the document's text or, where these are "
        "kept, its prompt and template.",
    ]


def find_pictures(score: ScoreBreakdown, file: PictureFile, root: str | Path | None = None) -> ShownPictures:
    """What a document's maps are drawn on: every image, the best frames of a video in the order of their times.

    For a passage of a PDF or picture, its page. ``root`` is where the indexed folder is now, if it was moved.
    """
    visual = score.visual
    if visual is None:
        return _find_page(score, file, root)
    images: dict[int, Image] = {}
    if visual.media.kind == "audio":
        return ShownPictures(tuple(_shown(visual, images)))
    if score.source is None:
        note = "It did not come from a file: this is the thumbnail that the index keeps."
    else:
        path = path_on_disk(root or file.root or ".", score.source)
        try:
            images = _from_file(path, score.id, score.page, visual)
            note = _changed(path, file.entry)
        except (MediaError, MissingExtraError) as error:
            note = f"The file cannot be shown ({error}); this is the thumbnail that the index keeps."
    if not images:
        images = _from_thumbnail(visual)
    return ShownPictures(tuple(_shown(visual, images)), note)


def _find_page(score: ScoreBreakdown, file: PictureFile, root: str | Path | None) -> ShownPictures:
    """The page of a passage with the words that matched, and those it goes on to; or a sentence that says why not."""
    if score.source is None or not has_page(score.source):
        return ShownPictures(())
    path = path_on_disk(root or file.root or ".", score.source)
    first, left, shown, note = score.page or 1, score.shaded_words(), list[ShownPicture](), ""
    try:
        if _changed(path, file.entry):
            return ShownPictures((), "The page is not shown: its file has changed since it was indexed.")
        for page in range(first, first + (1 if score.page is None else _MOST_PAGES)):
            words: tuple[MarkedWord, ...] = ()
            try:
                words = marked_words(path, score, left, page, goes_on=page > first)
                note = note or ("" if words else "No words that matched stand there.")
            except (MediaError, MissingExtraError) as error:
                note = note or f"No words are marked on the page ({error})."
            if page > first and not words:
                break
            shown.append(ShownPicture(_small(draw_page(path, page), _LONGEST_PAGE), words=words))
            left = [word for word in left if all(word != marked.shaded for marked in words)]
            if not left:
                break
    except (MediaError, MissingExtraError, OSError) as error:
        note = f"The page cannot be shown ({error})."
    return ShownPictures(tuple(shown), note)


def _shown(visual: VisualExplanation, images: dict[int, Image]) -> list[ShownPicture]:
    if not visual.maps:
        return [ShownPicture(image) for _, image in sorted(images.items())][:1]
    shown = []
    for number, one in enumerate(visual.maps):
        moving = one.grid.kind == "video"
        if one.grid.kind == "audio":
            best = ", ".join(f"{_second(second)} ({value:.3f})" for _, second, value in visual.shown_frames(number))
            shown.append(ShownPicture(_time_strip(visual, number), number, heard=f"best seconds: {best}"))
            continue
        for step, time, score in sorted(visual.shown_frames(number)):
            # A document's further images are not kept: their maps are drawn on nothing.
            image = images.get(visual.frame(number, step)) if moving or number == 0 else None
            if image is None:
                from PIL import Image as pillow

                image = pillow.new("RGB", (one.grid.w * _PATCH, one.grid.h * _PATCH), _BLANK)
            shown.append(ShownPicture(image, number, step, time, score if moving else None))
    return shown


def _time_strip(visual: VisualExplanation, number: int) -> Image:
    """An empty strip as long as the sound, with a line at every fifth second of its recording."""
    from PIL import Image as pillow
    from PIL import ImageDraw

    image = pillow.new("RGB", (_LONGEST, _STRIP), _BLANK)
    draw = ImageDraw.Draw(image)
    start = visual.media.times[0] if visual.media.times else 0.0
    seconds = visual.cell_seconds(number) * visual.maps[number].grid.w
    for second in range(5 * math.ceil(start / 5), math.ceil(start + seconds), 5):
        x = round((second - start) / seconds * _LONGEST)
        draw.line((x, _STRIP // 2, x, _STRIP), fill=_TICK)
        draw.text((x + 4, _STRIP // 2), _second(second), fill=_TICK)
    return image


def _from_file(path: Path, id: str, page: int | None, visual: VisualExplanation) -> dict[int, Image]:
    """Frames by number (0 for an image or a page), read from the file again."""
    from ...pictures.contained import load_again

    media = visual.media
    if media.kind == "video":
        from ...pictures.video import VideoFile

        found = VideoFile(path).frames(max(1, len(media.times)))
        steps = [(number, step) for number in range(len(visual.maps)) for step, _, _ in visual.shown_frames(number)]
        wanted = {visual.frame(number, step) for number, step in steps} or {_middle(visual)}
        return {number: _small(image) for number, image in enumerate(found.images) if number in wanted}
    if media.kind == "page" and page is not None:
        from ...pictures.pdf_pages import PdfPages

        with PdfPages(path) as pages:
            return {0: _small(pages.render(page))}
    return {0: _small(load_again(path, id))}


def _from_thumbnail(visual: VisualExplanation) -> dict[int, Image]:
    from ...pictures.images import load_image

    thumbnail = visual.media.thumbnail()
    if not thumbnail:
        return {}
    image = load_image(thumbnail)
    factor = max(1, round(_THUMBNAIL / max(image.size)))
    frame = _middle(visual) if visual.media.kind == "video" else 0
    return {frame: image.resize((image.width * factor, image.height * factor))}


def _middle(visual: VisualExplanation) -> int:
    """The frame a video's thumbnail was made of."""
    return len(visual.media.times) // 2


def _changed(path: Path, entry: FileEntry | None) -> str:
    status = path.stat()
    if entry is None or (entry.size, entry.mtime_ns) == (status.st_size, status.st_mtime_ns):
        return ""
    return "The file has changed since it was indexed: what is shown may not be what was found."


def _small(image: Image, longest: int = _LONGEST) -> Image:
    copy = image.copy()
    copy.thumbnail((longest, longest))  # never enlarges
    return copy
