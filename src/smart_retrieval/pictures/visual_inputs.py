"""From a file to the visual inputs a model takes: an image, the pages of a PDF, a video; and thumbnails of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import MissingExtraError, SmartError, one_of
from ..files import FoundFile, SkipLog, Skipped, UnreadableFileError
from .images import ImageFile, as_rgb, image_size
from .pdf_pages import PAGE_PIXELS, PdfPageImage, PdfPages
from .sources import ImageSource, VideoSource, visual_format_of
from .video import VideoFile
from .video_stream import open_video

if TYPE_CHECKING:
    from PIL.Image import Image

_MOST_PAGES = 10_000


@dataclass(frozen=True)
class VisualInput:
    """One picture, page or video; nothing is decoded before `source` is loaded.

    Args:
        source: What a model takes, as it is or in an :class:`~smart_retrieval.inputs.Item`.
        kind: ``"image"``, ``"page"`` or ``"video"``.
        page: A page's number, from 1.
        width: Of the picture `source` gives, if it is known without decoding.
        height: Likewise.
        times: A video's first and last second, if the file says so.
    """

    source: ImageSource | VideoSource
    kind: Literal["image", "page", "video"]
    page: int | None = None
    width: int | None = None
    height: int | None = None
    times: tuple[float, float] | None = None


def visual_inputs(
    path: str | Path,
    *,
    as_: Literal["auto", "pages"] = "auto",
    skipped: SkipLog | None = None,
    relative: str = "",
    page_pixels: int = PAGE_PIXELS,
) -> Iterator[VisualInput]:
    """The visual inputs in a file: an image or a video as one, a PDF as its pages.

    Headers are read here, so that a file that cannot be opened is reported at once; damage further in is an error of
    the source when it is loaded.

    Args:
        path: The file; its suffix decides what it is taken for.
        as_: ``"auto"``: all kinds; ``"pages"``: what consists of still pages, that is all but videos.
        skipped: Receives a record for each page that cannot be read; the others are yielded.
        relative: The file's name in these records; its path when empty.
        page_pixels: Most pixels of a page of a PDF.

    Raises:
        UnreadableFileError: The file cannot be read at all, or is of no visual kind.
        MissingExtraError: A package for its kind is not installed.

    Example:
        >>> [(found.kind, found.page) for found in visual_inputs("report.pdf")]  # doctest: +SKIP
        [('page', 1), ('page', 2)]
    """
    path = Path(path)
    if as_ not in ("auto", "pages"):
        raise SmartError(f"as_: {one_of(as_, ('auto', 'pages'))}")
    kind = visual_format_of(path)
    if kind == "image":
        width, height = image_size(path)
        yield VisualInput(ImageFile(path), "image", None, width, height)
    elif kind == "pdf":
        yield from _pages(path, skipped if skipped is not None else SkipLog(), relative or str(path), page_pixels)
    elif kind == "video" and as_ == "auto":
        with open_video(path) as stream:
            duration = stream.duration
        yield VisualInput(VideoFile(path), "video", times=None if duration is None else (0.0, duration))
    else:
        raise UnreadableFileError(path, "not an image, a PDF or a video", path.suffix or "no suffix")


def _pages(path: Path, skipped: SkipLog, name: str, page_pixels: int) -> Iterator[VisualInput]:
    found: list[VisualInput] = []
    with PdfPages(path) as pages:
        if len(pages) > _MOST_PAGES:
            raise UnreadableFileError(path, f"more than {_MOST_PAGES:,} pages", f"{len(pages):,}")
        for page in range(1, len(pages) + 1):
            try:
                width, height = pages.pixels(page, max_pixels=page_pixels)
            except UnreadableFileError as error:
                skipped.add(Skipped.from_error(name, error))
                continue
            found.append(VisualInput(PdfPageImage(path, page, page_pixels), "page", page, width, height))
    if not found:
        raise UnreadableFileError(path, "no page of the PDF can be read")
    # The document is closed by now: drawing a page opens it again.
    yield from found


def read_visual_files(
    found: Iterable[FoundFile],
    skipped: SkipLog,
    *,
    as_: Literal["auto", "pages"] = "auto",
    page_pixels: int = PAGE_PIXELS,
) -> Iterator[tuple[FoundFile, VisualInput]]:
    """The visual inputs in many files; files and pages that cannot be read are counted and the run goes on.

    Args:
        found: What `scan` found.
        skipped: Receives a record for everything skipped; a file of no visual kind is no failure.
        as_: See `visual_inputs`.
        page_pixels: See `visual_inputs`.

    Yields:
        Each file with one of its inputs, files in their order, pages in theirs.
    """
    for file in found:
        try:
            for one in visual_inputs(
                file.path, as_=as_, skipped=skipped, relative=file.relative, page_pixels=page_pixels
            ):
                yield file, one
        except (UnreadableFileError, MissingExtraError) as error:
            kind = visual_format_of(file.path)
            wanted = bool(kind) and (kind, as_) != ("video", "pages")
            skipped.add(Skipped.from_error(file.relative, error, failed=wanted))


def thumbnail(image: Image, longest: int = 160) -> bytes:
    """A small JPEG of a picture, a few kB.

    Args:
        image: The picture, of any mode.
        longest: Pixels of its longer side at most; a smaller picture is not enlarged.

    Raises:
        UnreadableFileError: It cannot be converted; see `as_rgb`.

    Example:
        >>> from PIL import Image
        >>> thumbnail(Image.new("RGB", (800, 400)))[:2].hex()
        'ffd8'
    """
    from PIL.Image import Resampling

    rgb = as_rgb(image)
    scale = min(1.0, longest / max(rgb.size))
    size = max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale))
    small = rgb.resize(size, Resampling.LANCZOS, reducing_gap=3.0) if size != rgb.size else rgb
    out = BytesIO()
    # Only the pixels: the file's own metadata may be larger than the thumbnail.
    small.save(out, "JPEG", quality=75, optimize=True, exif=b"", icc_profile=None, comment=b"")
    return out.getvalue()
