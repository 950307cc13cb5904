"""Drawing pages of PDFs with PDFium, in the guarded child: what is open there, and pixels on their way back."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from ..files import UnreadableFileError, open_local
from ..guarded import guarded
from .images import MAX_ASPECT
from .pdfium import open_pdf

_LARGEST_SCALE = 4.0  # 288 dots an inch: a stamp-sized page is not blown up to a poster
_KEPT_OPEN = 4
# PDFium keeps all it has read of an open document. It is opened anew after so many bytes, but not for a few pages, and
# after so many pages.
_REOPEN_BYTES = 32 * 2**20
_REOPEN_FEW, _REOPEN_PAGES = 4, 64


@dataclass(frozen=True)
class Pixels:
    """A picture as PDFium draws it: rows of blue, green and red bytes."""

    width: int
    height: int
    stride: int  # bytes a row
    data: memoryview  # which is not copied on its way out of the message


@guarded(needs={"pypdfium2": "pdf"})
def count_pages(path: Path) -> int:
    """How many pages a PDF has; it stays open."""
    return _OPEN.document(path).count


@guarded()
def page_size(path: Path, page: int) -> tuple[float, float]:
    """Width and height of a page in points, as it is shown."""
    return _OPEN.document(path).size(page)


@guarded()
def draw_page(path: Path, page: int, max_pixels: int, close_after_last: bool) -> Pixels:
    """Draw a page."""
    document = _OPEN.document(path)
    pixels = document.draw(page, max_pixels)
    if close_after_last and page == document.count:
        _OPEN.close(path)
    return pixels


@guarded()
def close_pdf(path: Path) -> None:
    """Close a PDF and its file, if they are open."""
    _OPEN.close(path)


def page_scale(width: float, height: float, max_pixels: int) -> float:
    """Pixels a point, so that a page has at most so many pixels once its sides are rounded up."""
    scale = min(_LARGEST_SCALE, math.sqrt(max_pixels / width / height))
    while scale > 0 and math.ceil(width * scale) * math.ceil(height * scale) > max(1, max_pixels):
        scale *= 0.999
    return scale


class _OpenPdf:
    """An open PDF."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_local(path)
        self._read = _Counted(self._file)
        self._document: Any = None
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._close_document()
        self._file.close()

    def size(self, page: int) -> tuple[float, float]:
        with self._reading(page) as index:
            return self._checked(page, self._document.get_page_size(index))

    def draw(self, page: int, max_pixels: int) -> Pixels:
        with self._reading(page) as index:
            most = _REOPEN_FEW if self._read.count > _REOPEN_BYTES else _REOPEN_PAGES
            if self._document is None or self._drawn >= most:
                self._close_document()
                self._open()
            with closing(self._document[index]) as opened:
                scale = page_scale(*self._checked(page, opened.get_size()), max_pixels)
                with closing(opened.render(scale=scale, limit_image_cache=True)) as bitmap:
                    pixels = Pixels(bitmap.width, bitmap.height, bitmap.stride, memoryview(bytes(bitmap.buffer)))
            self._drawn += 1
        return pixels

    def _open(self) -> None:
        self._document = open_pdf(self.path, self._read)
        self.count = len(self._document)
        self._drawn = self._read.count = 0
        with suppress(Exception):  # only what was filled into forms is missing without it
            self._document.init_forms()

    def _close_document(self) -> None:
        if self._document is not None:
            self._document.close()
            self._document = None

    @contextmanager
    def _reading(self, page: int) -> Iterator[int]:
        """The index of a page; whatever PDFium raises inside is an error that names the page."""
        if not 1 <= page <= self.count:
            raise UnreadableFileError(self.path, "no such page", f"page {page}, expected 1 to {self.count}")
        try:
            yield page - 1
        except (UnreadableFileError, MemoryError):
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


class _OpenPdfs:
    """The few PDFs used last, by path."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, tuple[tuple[int, ...], _OpenPdf]] = OrderedDict()

    def document(self, path: Path) -> _OpenPdf:
        """The PDF of a path, opened anew where the file has changed."""
        stamp: tuple[int, ...] = ()
        with suppress(OSError, ValueError):
            status = path.stat()
            stamp = status.st_ino, status.st_size, status.st_mtime_ns
        if path in self._open and self._open[path][0] != stamp:
            self.close(path)
        if path not in self._open:
            self._open[path] = stamp, _OpenPdf(path)
        self._open.move_to_end(path)
        if len(self._open) > _KEPT_OPEN:
            self.close(next(iter(self._open)))
        return self._open[path][1]

    def close(self, path: Path) -> None:
        if path in self._open:
            self._open.pop(path)[1].close()


_OPEN = _OpenPdfs()
