"""PDF pages as pictures, with pypdfium2 (extra ``pdf``) and Pillow (extra ``image``).

A page is drawn as a PDF viewer shows it (crop box, rotation, annotations, filled-in forms) on white. Nothing a PDF
refers to is loaded, and no script in it runs. What PDFium itself ignores (damaged drawing commands) stays white. PDFium
runs in the guarded child: a page that crashes it, or takes too much memory or time, costs an error.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import require
from ..files import UnreadableFileError, settled
from ..guarded import stop
from .pdf_drawing import close_pdf, count_pages, draw_page, page_scale, page_size

if TYPE_CHECKING:
    from PIL.Image import Image

#: Most pixels of a page: 1,800 image tokens of 32 x 32 pixels; about 136 dots an inch for A4.
PAGE_PIXELS = 1_800_000


class PdfPages:
    """An open PDF whose pages can be drawn. Pages count from 1. Close it, or use it in a ``with`` statement.

    Safe to use from several threads; PDFium draws one page at a time.

    Args:
        path: The file.

    Raises:
        UnreadableFileError: It is no PDF, damaged, encrypted or without pages, or it takes PDFium too much memory or
            time.
        MissingExtraError: pypdfium2 or Pillow is not installed.

    Example:
        >>> with PdfPages("report.pdf") as pages:  # doctest: +SKIP
        ...     pictures = [pages.render(page) for page in range(1, len(pages) + 1)]
    """

    def __init__(self, path: str | Path) -> None:
        require("PIL.Image", "image")
        self.path = settled(path)
        self._count = count_pages(self.path)
        self._closed = False

    def __len__(self) -> int:
        """Number of pages."""
        return self._count

    def __enter__(self) -> PdfPages:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the document and its file; closing it again does nothing."""
        if not self._closed:
            self._closed = True
            with suppress(UnreadableFileError):
                close_pdf(self.path)

    def size(self, page: int) -> tuple[float, float]:
        """Width and height of a page in points, as it is shown; its contents are not read.

        Raises:
            UnreadableFileError: There is no such page, or it cannot be read.
        """
        self._check_open()
        return page_size(self.path, page)

    def pixels(self, page: int, *, max_pixels: int = PAGE_PIXELS) -> tuple[int, int]:
        """Width and height `render` gives a page.

        Raises:
            UnreadableFileError: As for `size`.
        """
        width, height = self.size(page)
        scale = page_scale(width, height, max_pixels)
        return math.ceil(width * scale), math.ceil(height * scale)

    def render(self, page: int, *, max_pixels: int = PAGE_PIXELS) -> Image:
        """Draw a page.

        Args:
            page: Its number, from 1.
            max_pixels: The picture has about so many pixels and never more; fewer if the page is very small.

        Returns:
            The page on white, RGB.

        Raises:
            UnreadableFileError: There is no such page, or it cannot be read; other pages still can.
        """
        self._check_open()
        return _drawn(self.path, page, max_pixels, close_after_last=False)

    def _check_open(self) -> None:
        if self._closed:
            raise UnreadableFileError(self.path, "closed, open it again")


@dataclass(frozen=True)
class PdfPageImage:
    """A page of a PDF, drawn only when it is needed: an :class:`~smart_retrieval.pictures.ImageSource`.

    The documents used last stay open, so that reading page after page parses a PDF once; one is closed when its last
    page was drawn.

    Args:
        path: The PDF.
        page: The page's number, from 1.
        max_pixels: See `PdfPages.render`.

    Example:
        >>> PdfPageImage(Path("report.pdf"), 3).load().size  # doctest: +SKIP
        (1127, 1595)
    """

    path: Path
    page: int
    max_pixels: int = PAGE_PIXELS

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", settled(self.path))

    def load(self) -> Image:
        """The page on white, RGB.

        Raises:
            UnreadableFileError: The file or the page cannot be read.
        """
        return _drawn(self.path, self.page, self.max_pixels, close_after_last=True)


def _drawn(path: Path, page: int, max_pixels: int, *, close_after_last: bool) -> Image:
    from PIL import Image as pillow

    pixels = draw_page(path, page, max_pixels, close_after_last)
    size = pixels.width, pixels.height
    if min(size) < 1 or pixels.stride < 3 * pixels.width or len(pixels.data) < pixels.stride * pixels.height:
        raise UnreadableFileError(path, "a damaged page", f"page {page}: {size[0]} x {size[1]} pixels")
    data: Any = pixels.data
    return pillow.frombuffer("RGB", size, data, "raw", "BGR", pixels.stride, 1)


def close_documents() -> None:
    """Close the PDFs that `PdfPageImage` keeps open, so that their files can be moved or deleted everywhere."""
    stop()
