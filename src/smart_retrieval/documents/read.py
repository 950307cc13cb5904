"""Which reader reads which file, and how a run over many files survives a broken one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import MissingExtraError, SmartError, one_of
from ..files import OF_THE_SYSTEM, FoundFile, SkipLog, Skipped, UnreadableFileError, open_local
from ..pictures.contained import CONTAINERS
from ..pictures.sources import IMAGE_SUFFIXES
from .readers import archives, code, html, jsonl, mail, markdown, pdf, picture, rst, tables, text
from .readers.jsonl import JsonlFields as JsonlFields
from .readers.ocr import NOTHING_FOUND, OCR_MODES
from .readers.ocr import OcrMode as OcrMode
from .sections import Document, Section


@dataclass(frozen=True)
class ReadOptions:
    """How files are read.

    Attributes:
        max_bytes: Larger files are refused (JSON Lines read with `stream_file`: larger lines are).
        max_pages: PDFs with more pages are refused.
        jsonl: Which fields of a JSON Lines record mean what.
        formats: Format by lower-case suffix, on top of `SUFFIXES`: ``{".conf": "text"}``; ``""`` as the format turns a
            suffix off.
        encoding: Encoding of the files' text, by any name that browsers know ("windows-1251", "shift_jis"); empty:
            what a file's byte-order mark or the file itself says, UTF-8, or a guess, which is noted.
        ocr: Which pages of PDFs, and pictures, are read by OCR (extra ``ocr``; Latin letters, Chinese, Japanese):
            ``"auto"``: pages without text or whose text cannot be read, and pictures, those within Office documents,
            books, e-mail, web pages, Markdown and notebooks too; ``"always"``: all pages, whatever text they have;
            ``"never"``: none, pictures are no type that is read.
        max_ocr_pages: Most pages of one file, or pictures within it, that OCR reads; a page takes 2 to 5 seconds of
            processor time.

    Raises:
        SmartError: There is no such encoding or `ocr`, or no page is allowed.
    """

    max_bytes: int = 64 * 2**20
    max_pages: int = 10_000
    jsonl: JsonlFields = field(default_factory=JsonlFields)
    formats: Mapping[str, str] = field(default_factory=dict)
    encoding: str = ""
    ocr: OcrMode = "auto"
    max_ocr_pages: int = 500

    def __post_init__(self) -> None:
        if self.ocr not in OCR_MODES:
            raise SmartError(f"ocr: {one_of(self.ocr, OCR_MODES)}")
        if self.max_ocr_pages < 1:
            raise SmartError(f"max_ocr_pages: found {self.max_ocr_pages}, expected 1 or more")
        if self.encoding:
            text.checked_encoding(self.encoding)


#: Format name -> what reads it.
READERS: Mapping[str, Callable[[Path, ReadOptions], Document]] = {
    "text": lambda path, options: text.read(path, options.max_bytes, options.encoding),
    "markdown": lambda path, options: markdown.read(path, options.max_bytes, options.encoding),
    "html": lambda path, options: html.read(path, options.max_bytes, options.encoding),
    "rst": lambda path, options: rst.read(path, options.max_bytes, options.encoding),
    "jsonl": lambda path, options: jsonl.read(path, options.max_bytes, options.jsonl, options.encoding),
    "pdf": lambda path, options: pdf.read(
        path, options.max_bytes, options.max_pages, options.ocr, options.max_ocr_pages
    ),
    "picture": lambda path, options: picture.read(path, options.max_ocr_pages),
    "docx": lambda path, options: archives.read_docx(path, options.max_bytes),
    "pptx": lambda path, options: archives.read_pptx(path, options.max_bytes),
    "xlsx": lambda path, options: archives.read_xlsx(path, options.max_bytes),
    "epub": lambda path, options: archives.read_epub(path, options.max_bytes),
    "csv": lambda path, options: tables.read(path, options.max_bytes, options.encoding),
    "notebook": lambda path, options: code.read_notebook(path, options.max_bytes),
    "email": lambda path, options: mail.read(path, options.max_bytes),
    "mailbox": lambda path, options: mail.read_mailbox(path, options.max_bytes),
    "code": lambda path, options: code.read(path, options.max_bytes, options.encoding),
}

#: Lower-case suffix -> format name.
SUFFIXES: Mapping[str, str] = {
    **dict.fromkeys((".txt", ".text"), "text"),
    **dict.fromkeys((".md", ".markdown", ".mkd", ".mdown", ".mdwn"), "markdown"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **dict.fromkeys((".rst", ".rest"), "rst"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    ".pdf": "pdf",
    **dict.fromkeys(sorted(IMAGE_SUFFIXES), "picture"),
    **dict.fromkeys((".docx", ".docm"), "docx"),
    **dict.fromkeys((".pptx", ".pptm", ".ppsx"), "pptx"),
    **dict.fromkeys((".xlsx", ".xlsm"), "xlsx"),
    ".epub": "epub",
    **dict.fromkeys((".csv", ".tsv"), "csv"),
    ".ipynb": "notebook",
    ".eml": "email",
    ".mbox": "mailbox",
    # Languages that people write, not data or what programs write for programs (.json, .css, .svg).
    **dict.fromkeys(
        """.py .pyi .pyw .js .mjs .cjs .jsx .ts .tsx .java .kt .kts .scala .groovy .c .h .cc .cpp .cxx .hh .hpp .cs .fs
        .go .rs .swift .m .mm .rb .php .pl .pm .lua .r .jl .hs .ml .ex .exs .erl .clj .dart .zig .sh .bash .zsh .ps1
        .sql
        """.split(),  # noqa: SIM905
        "code",
    ),
}
#: Why a file counts as not read that is not empty, and of which no text is left.
NO_TEXT = "holds no text that can be read"
#: Why one without any content is not, if its format needs some.
EMPTY = "empty, which its format does not allow"
#: Why a file is left out, with its suffix as the detail.
UNKNOWN_TYPE = "not a type that is read"
# Files without a suffix that are plain text by convention.
_NAMES = frozenset(
    {"readme", "license", "licence", "copying", "authors", "changelog", "changes", "news", "install", "todo"}
)


def format_of(path: Path, options: ReadOptions | None = None) -> str:
    """The format a file is read as; empty if it is of no known type.

    Example:
        >>> format_of(Path("Notes.MD")), format_of(Path("README")), format_of(Path("a.exe"))
        ('markdown', 'text', '')
    """
    suffix = path.suffix.lower()
    formats = options.formats if options else {}
    known = formats.get(suffix, SUFFIXES.get(suffix, ""))
    if known == "picture" and options and options.ocr == "never":
        return ""
    return known or ("text" if not suffix and path.name.lower() in _NAMES else "")


def read_file(path: str | Path, options: ReadOptions | None = None) -> Document:
    """Read one file.

    Args:
        path: The file.
        options: Limits, and fields of JSON Lines.

    Returns:
        Its sections, its metadata, and notes on what was guessed or skipped ("encoding guessed: cp1251": what happened,
        a colon, details). An empty file has no sections.

    Raises:
        UnreadableFileError: The file cannot be read; the message (a `MediaError`) names it and says why. Whatever a
            parser raises becomes this error. So does a file with content and no text: a page of scripts, a Markdown
            file of nothing but front matter.
        MissingExtraError: A package for this format is not installed.

    Example:
        >>> read_file("notes.xyz")
        Traceback (most recent call last):
        smart_retrieval.files.UnreadableFileError: cannot read notes.xyz: not a type that is read (.xyz)
    """
    path = Path(path)
    return _with_text(path, _read(path, options or ReadOptions()))


def _read(path: Path, options: ReadOptions) -> Document:
    name = format_of(path, options)
    if not name:
        raise UnreadableFileError(path, UNKNOWN_TYPE, path.suffix or "no suffix")
    if name not in READERS:
        raise UnreadableFileError(path, f"no reader for the format {name!r}", f"expected one of {', '.join(READERS)}")
    try:
        document = READERS[name](path, options)
        if name in CONTAINERS and options.ocr != "never":
            return picture.with_contained(path, document, options.max_ocr_pages)
        return document
    except MissingExtraError:
        raise
    except UnreadableFileError as error:
        if error.reason == OF_THE_SYSTEM or not path.is_file() or path.stat().st_size:
            raise
        raise UnreadableFileError(path, EMPTY) from error
    except Exception as error:  # a bug in a parser must not stop a run over a million files
        raise _parser_error(path, error) from error


def _with_text(path: Path, document: Document) -> Document:
    """The document, if it has text, or its file is one that need not have any."""
    if not document.sections and NOTHING_FOUND not in document.notes and _has_content(path):
        why = Counter(reason.partition(":")[0] for reason, _ in document.left_out)
        raise UnreadableFileError(path, NO_TEXT, "; ".join(f"{count:,} × {reason}" for reason, count in why.items()))
    return document


def stream_file(
    path: str | Path,
    notes: list[str],
    options: ReadOptions | None = None,
    *,
    skipped: SkipLog | None = None,
    relative: str = "",
) -> Iterator[Section]:
    """Read one file section by section, its metadata in each; JSON Lines of any size in constant memory.

    Args:
        path: The file.
        notes: Receives the notes; complete when the iterator is.
        options: Limits, and fields of JSON Lines.
        skipped: Receives a record for each page that was left out.
        relative: The file's name in these records; its path when empty.

    Raises:
        UnreadableFileError, MissingExtraError: As `read_file`; for JSON Lines possibly after some sections.
    """
    path, options = Path(path), options or ReadOptions()
    if format_of(path, options) == "jsonl":
        try:
            sections = jsonl.iter_jsonl(
                path, options.jsonl, notes, max_line_bytes=options.max_bytes, encoding=options.encoding
            )
            yield from sections
        except UnreadableFileError:
            raise
        except (ValueError, OSError, RecursionError) as error:
            raise _parser_error(path, error) from error
        return
    document = _read(path, options)
    notes += document.notes
    _count_left_out(document, skipped, relative or str(path))
    _with_text(path, document)
    for section in document.sections:
        yield replace(section, metadata={**document.metadata, **section.metadata})


def read_files(
    found: Iterable[FoundFile], skipped: SkipLog, options: ReadOptions | None = None
) -> Iterator[tuple[FoundFile, Document]]:
    """Read many files; those that cannot be read are counted and the run goes on.

    Args:
        found: What `scan` found.
        skipped: Receives a record for each file skipped: of a type that is not read, too large, broken, or in
            need of a missing extra (one reason however many files).
        options: Limits, and fields of JSON Lines.

    Yields:
        Each file with what it holds.

    Example:
        >>> log = SkipLog()
        >>> list(read_files([FoundFile(Path("a.xyz"), "a.xyz", 5, 0)], log)), log.counts
        ([], Counter({'not a type that is read': 1}))
    """
    options = options or ReadOptions()
    for file in found:
        try:
            document = _read(file.path, options)
            _count_left_out(document, skipped, file.relative)
            _with_text(file.path, document)
        except (UnreadableFileError, MissingExtraError) as error:
            # A picture among the notes is no failure.
            name = format_of(file.path, options)
            failed = bool(name) and not (name == "picture" and isinstance(error, MissingExtraError))
            skipped.add(Skipped.from_error(file.relative, error, failed=failed))
            continue
        yield file, document


def _count_left_out(document: Document, skipped: SkipLog | None, name: str) -> None:
    for reason, detail in document.left_out:
        if skipped is not None:
            skipped.add(Skipped(name, reason, detail))


def _has_content(path: Path) -> bool:
    """Whether a file holds more than white space and byte-order marks."""
    with open_local(path) as file:
        while piece := file.read(65_536):
            if piece.strip(b" \t\r\n\f\v\x00\xef\xbb\xbf\xff\xfe"):
                return True
    return False


def _parser_error(path: Path, error: Exception) -> UnreadableFileError:
    return UnreadableFileError(path, "its reader failed", f"{type(error).__name__}: {error}")
