"""PDF pages as pictures, with pypdfium2 (extra ``pdf``) and Pillow (extra ``image``).

A page is drawn as a PDF viewer shows it (crop box, rotation, annotations, filled-in forms) on white. Nothing a PDF
refers to is loaded, and no script in it runs. What PDFium itself ignores (damaged drawing commands) stays white.
"""

from __future__ import annotations

import atexit
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import require
from ..files import UnreadableFileError, open_local
from .images import MAX_ASPECT
from .pdfium import PDFIUM_LOCK, open_pdf

if TYPE_CHECKING:
    from PIL.Image import Image

#: Most pixels of a page: 1,800 image tokens of 32 x 32 pixels; about 136 dots an inch for A4.
PAGE_PIXELS = 1_800_000
_LARGEST_SCALE = 4.0  # 288 dots an inch: a stamp-sized page is not blown up to a poster
_KEPT_OPEN = 4
# PDFium keeps all it has read of an open document. It is opened anew after so many bytes, but not for a few pages, and
# after so many pages.
_REOPEN_BYTES = 32 * 2**20
_REOPEN_FEW, _REOPEN_PAGES = 4, 64


class PdfPages:
    """An open PDF whose pages can be drawn. Pages count from 1. Close it, or use it in a ``with`` statement.

    Safe to use from several threads; PDFium draws one page at a time in a process.

    Args:
        path: The file.

    Raises:
        UnreadableFileError: It is no PDF, damaged, encrypted or without pages.
        MissingExtraError: pypdfium2 or Pillow is not installed.

    Example:
        >>> with PdfPages("report.pdf") as pages:  # doctest: +SKIP
        ...     pictures = [pages.render(page) for page in range(1, len(pages) + 1)]
    """

    def __init__(self, path: str | Path) -> None:
        require("PIL.Image", "image")
        self.path = Path(path)
        self._file = open_local(path)
        self._read = _Counted(self._file)
        self._document: Any = None
        try:
            with PDFIUM_LOCK:
                self._open()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        """Number of pages."""
        return self._count

    def __enter__(self) -> PdfPages:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the document and its file; closing it again does nothing."""
        with PDFIUM_LOCK:
            self._close_document()
        self._file.close()

    def size(self, page: int) -> tuple[float, float]:
        """Width and height of a page in points, as it is shown; its contents are not read.

        Raises:
            UnreadableFileError: There is no such page, or it cannot be read.
        """
        with self._reading(page) as index:
            return self._checked(page, self._document.get_page_size(index))

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
        with self._reading(page) as index:
            if self._drawn >= (_REOPEN_FEW if self._read.count > _REOPEN_BYTES else _REOPEN_PAGES):
                self._close_document()
                self._open()
            with closing(self._document[index]) as opened:
                width, height = self._checked(page, opened.get_size())
                scale = page_scale(width, height, max_pixels)
                with closing(opened.render(scale=scale, limit_image_cache=True)) as bitmap:
                    image: Image = bitmap.to_pil().convert("RGB")
            self._drawn += 1
        return image

    def _open(self) -> None:
        self._document = open_pdf(self.path, self._read)
        self._count = len(self._document)
        self._drawn = self._read.count = 0
        with suppress(Exception):  # only what was filled into forms is missing without it
            self._document.init_forms()

    def _close_document(self) -> None:
        if self._document is not None:
            self._document.close()
            self._document = None

    @contextmanager
    def _reading(self, page: int) -> Iterator[int]:
        """The index of a page, PDFium's lock held; whatever PDFium raises inside is an error that names the page."""
        with PDFIUM_LOCK:
            if self._document is None:
                raise UnreadableFileError(self.path, "closed, open it again")
            if not 1 <= page <= self._count:
                raise UnreadableFileError(self.path, "no such page", f"page {page}, expected 1 to {self._count}")
            try:
                yield page - 1
            except UnreadableFileError:
                raise
            except Exception as error:  # PDFium's errors are of several kinds
                raise UnreadableFileError(self.path, "a damaged page", f"page {page}: {error}") from error

    def _checked(self, page: int, size: tuple[float, float]) -> tuple[float, float]:
        width, height = size
        if not (0 < width < math.inf and 0 < height < math.inf) or max(size) > MAX_ASPECT * min(size):
            raise UnreadableFileError(
                self.path, "a page of an implausible size", f"page {page}: {width:g} x {height:g} points"
            )
        return width, height


class _Counted:
    """An open file as PDFium reads it, and how much it has read."""

    def __init__(self, file: BufferedReader) -> None:
        self.count = 0
        self.seek, self.tell, self.read = file.seek, file.tell, file.read
        self._readinto = file.readinto

    def readinto(self, buffer: Any) -> int:
        """Read as many bytes as the buffer holds."""
        found = self._readinto(buffer)
        self.count += found
        return found


def page_scale(width: float, height: float, max_pixels: int) -> float:
    """Pixels a point, so that a page has at most so many pixels once its sides are rounded up."""
    scale = min(_LARGEST_SCALE, math.sqrt(max_pixels / width / height))
    while scale > 0 and math.ceil(width * scale) * math.ceil(height * scale) > max(1, max_pixels):
        scale *= 0.999
    return scale


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

    def load(self) -> Image:
        """The page on white, RGB.

        Raises:
            UnreadableFileError: The file or the page cannot be read.
        """
        return _OPEN.render(self.path, self.page, self.max_pixels)


class _OpenDocuments:
    """The few PDFs used last, by path."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start empty; in a process just forked, as the files' positions are shared with the parent that uses them."""
        # Held while a page is drawn: no other thread may close the document meanwhile.
        self._lock = threading.Lock()
        self._open: OrderedDict[Path, tuple[tuple[int, ...], PdfPages]] = OrderedDict()

    def render(self, path: Path, page: int, max_pixels: int) -> Image:
        with self._lock:
            pages = self._pages(path)
            image = pages.render(page, max_pixels=max_pixels)
            if page == len(pages):
                self._open.pop(path)[1].close()
            return image

    def close(self) -> None:
        with self._lock:
            while self._open:
                self._open.popitem()[1][1].close()

    def _pages(self, path: Path) -> PdfPages:
        stamp: tuple[int, ...] = ()
        with suppress(OSError, ValueError):
            status = path.stat()
            stamp = status.st_ino, status.st_size, status.st_mtime_ns
        known, pages = self._open.pop(path, ((), None))
        if pages is not None and known != stamp:
            pages.close()
            pages = None
        if pages is None:
            pages = PdfPages(path)
        self._open[path] = stamp, pages
        if len(self._open) > _KEPT_OPEN:
            self._open.popitem(last=False)[1][1].close()
        return pages


_OPEN = _OpenDocuments()


def close_documents() -> None:
    """Close the PDFs that `PdfPageImage` keeps open, so that their files can be moved or deleted everywhere."""
    _OPEN.close()


atexit.register(close_documents)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_OPEN.forget)
