"""Pictures within other files: Office documents and books, which are ZIP archives, e-mail, and pages as text.

Each is named by its file and its place there. Nothing is unpacked to a disk.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..files import UnreadableFileError, open_local, settled, too_large
from .images import MAX_IMAGE_BYTES, image_size, load_image
from .sources import IMAGE_SUFFIXES
from .text_parts import Pictures, embedded, pictures_in_text, record_of

if TYPE_CHECKING:
    from PIL.Image import Image

#: Formats of files that may contain pictures.
CONTAINERS = frozenset({"docx", "pptx", "xlsx", "epub", "email", "mailbox", "html", "markdown", "notebook"})
#: Why pictures in files are left out.
SMALL = "pictures within files, of few pixels (icons)"
OTHER_FORMAT = "pictures within files, of a format that is not read"
_FEW_PIXELS = 10_000
_DRAWINGS = frozenset({".emf", ".wmf", ".svg"})
_PAGES = frozenset({".html", ".htm", ".xhtml"})
_MARK = "#image="
_SLIDE = re.compile(r"ppt/slides/_rels/slide(\d{1,6})\.xml\.rels")
_TARGET = re.compile(rb"Target=\"\.\./(media/[^\"]{1,200})\"")


@dataclass(frozen=True)
class ContainedPicture:
    """A picture within a file, decoded only when it is needed: an :class:`~smart_retrieval.pictures.ImageSource`.

    Args:
        path: The file.
        name: Its place there: the part of an archive, the number and file name of an e-mail's part (in a mailbox,
            behind the number of the message), or its number among those that are part of a text, in Base64.
        slide: The slide of a presentation that shows it first.
        record: The number of a mailbox's message.
    """

    path: Path
    name: str
    slide: int | None = None
    record: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", settled(self.path))

    def load(self) -> Image:
        """The picture, RGB.

        Raises:
            UnreadableFileError: The file or the picture cannot be read, or there is none of this name.
        """
        with _parts(self.path, self.name) as (parts, _, _):
            if self.name not in parts:
                raise UnreadableFileError(self.path, "no such picture in it", self.name)
            data = parts[self.name]()
        return load_image(data)


def contained_pictures(
    path: Path, *, checked: Callable[[], bool] = lambda: True
) -> tuple[list[ContainedPicture], list[tuple[str, str]]]:
    """The pictures within a file, each content once, and why others are left out: the reason, and their names.

    `checked`, asked if there are any, says whether to leave out those that are damaged or small, which needs Pillow.

    Raises:
        UnreadableFileError: The file cannot be read.
    """
    found: list[ContainedPicture] = []
    left_out: list[tuple[str, str]] = []
    seen: set[int] = set()
    with _parts(path) as (parts, slides, record_of):
        for name, read in parts.items():
            if PurePosixPath(name).suffix.lower() in _DRAWINGS:
                left_out.append((OTHER_FORMAT, name))
                continue
            try:
                data = read()
                width, height = image_size(data) if checked() else (_FEW_PIXELS, 1)
            except UnreadableFileError as error:
                left_out.append((f"pictures within files: {error.reason}", name))
                continue
            if width * height < _FEW_PIXELS:
                left_out.append((SMALL, name))
            elif (content := hash(data)) not in seen:
                seen.add(content)
                found.append(ContainedPicture(path, name, slides.get(name), record_of(name)))
    return found, left_out


def pictures_beyond(most: int, pictures: Sequence[ContainedPicture]) -> list[tuple[str, str]]:
    """Why pictures after so many of one file are left out, and which."""
    return [(f"pictures within a file, beyond its first {most:,}", one.name) for one in pictures[most:]]


def contained_id(source: str, name: str) -> str:
    """The id of a picture within a file.

    Example:
        >>> contained_id("report.docx", "word/media/image1.png")
        'report.docx#image=word/media/image1.png'
    """
    return f"{source}{_MARK}{name}"


def load_again(path: Path, id: str) -> Image:
    """The picture of a document with this id: its file, or one within it.

    Raises:
        UnreadableFileError: It cannot be read.
    """
    _, mark, name = id.rpartition(_MARK)
    return ContainedPicture(path, name).load() if mark else load_image(path)


@contextmanager
def _parts(path: Path, wanted: str | None = None) -> Iterator[tuple[Pictures, Mapping[str, int], Callable[[str], str]]]:
    """What reads each picture of a file, or at least the one wanted, by name; slides that show them; their records."""
    with open_local(path) as file:
        try:
            if file.peek(4)[:4] != b"PK\x03\x04":
                data = file.read(MAX_IMAGE_BYTES)
                yield pictures_in_text(path, data, wanted), {}, partial(record_of, data)
                return
            with zipfile.ZipFile(file) as archive:
                found: Pictures = {
                    one.filename: partial(_unpacked, path, archive, one)
                    for one in archive.infolist()
                    if PurePosixPath(one.filename).suffix.lower() in IMAGE_SUFFIXES | _DRAWINGS
                    and not one.filename.startswith("docProps/")  # a picture of the first page
                }
                for one in archive.infolist():
                    if PurePosixPath(one.filename).suffix.lower() in _PAGES:
                        within = embedded(path, _unpacked(path, archive, one))
                        found |= {f"{one.filename}/{name}": read for name, read in within.items()}
                yield found, _slides(path, archive), lambda _: ""
        except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError, OSError) as error:
            raise UnreadableFileError(path, "not a readable archive", str(error)) from error


def _unpacked(path: Path, archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bytes:
    if part.file_size > MAX_IMAGE_BYTES:
        raise too_large(path, MAX_IMAGE_BYTES)
    try:
        return archive.read(part)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, ValueError) as error:
        raise UnreadableFileError(path, "a damaged picture", str(error)) from error


def _slides(path: Path, archive: zipfile.ZipFile) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in archive.infolist():
        if (match := _SLIDE.fullmatch(part.filename)) and part.file_size < 2**20:
            for target in _TARGET.findall(_unpacked(path, archive, part)):
                name, slide = f"ppt/{target.decode('utf-8', 'replace')}", int(match[1])
                found[name] = min(slide, found.get(name, slide))
    return found
