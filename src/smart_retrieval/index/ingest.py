"""A folder of files into an index: only what changed, in batches across files, safe to kill at any moment.

What an index makes of files is settled when it is created (``files_as``) and does not change from run to run.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MediaError, MissingExtraError, SmartError
from ..media import FoundFile, JsonlFields, ReadOptions, SkipLog, Skipped, content_hash, format_of, scan
from ..progress import progress
from .files_as import VisualFiles
from .ingest_passages import PassageCutter
from .ingest_pictures import picture_rows
from .ingest_report import IngestReport
from .ingest_root import claim_root
from .ingest_writer import BATCH_PASSAGES, FileWriter
from .records import FileEntry

if TYPE_CHECKING:
    from .smart_index import SmartIndex

ANY_SUFFIX = "*"
_NOT_READ = "not a type that is read"
_KIB = 1024


def index_folder(
    index: SmartIndex,
    root: str | Path,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    hidden: bool = False,
    sync: bool = False,
    read_as: Mapping[str, str] | None = None,
    jsonl: JsonlFields | None = None,
    max_tokens: int | None = None,
    overlap: int = 0,
    min_tokens: int | None = None,
    batch: int = BATCH_PASSAGES,
    show_progress: bool | None = None,
) -> IngestReport:
    """Index the files of a folder; what the index holds already is not touched.

    A file is unchanged if size and time are, or else if its SHA-256 is. A changed file's passages are replaced. Every
    batch is one atomic commit, so a run that is stopped goes on where it was when it is started again. A file that
    cannot be read costs nothing but itself; what the index held of it stays.

    Paths are kept relative to ``root``, and ids are made of them (``"guide/logs.md#3"``), so an index belongs to one
    folder. It may be moved: it is recognised by its files.

    Args:
        index: The index, open for writing.
        root: A folder, or a single file.
        include: Patterns as in ``.gitignore``; if any, only files that match are read.
        exclude: Such patterns for what is left out.
        hidden: Read files and folders whose names begin with a dot, too.
        sync: Delete passages of files that this run does not find any more (gone, or left out by now).
        read_as: Format by suffix, on top of the known ones: ``{".conf": "text"}``; ``"*"`` stands for every suffix that
            is not known. Goes before pages: with ``{".pdf": "pdf"}`` an index of pages takes the text of PDFs.
        jsonl: Which fields of JSON Lines mean what.
        max_tokens: Most tokens of a passage; the model's limit when None.
        overlap: Tokens of a passage repeated at the beginning of the next.
        min_tokens: Neighbouring sections shorter than this are joined; a little when None.
        batch: Passages that are encoded and committed together; of pictures, a sixteenth as many.
        show_progress: Draw a bar on stderr; None draws it on a terminal.

    Returns:
        What was done, and what was passed over and why.

    Raises:
        MediaError: There is no such folder, or a pattern is malformed.
        IndexMismatchError: The index belongs to another folder.
        SmartError: ``sync`` and nothing was found at all: the folder may not be mounted.

    Example:
        >>> report = index_folder(index, "docs", include=["*.md"])  # doctest: +SKIP
        >>> report.added, report.unchanged  # doctest: +SKIP
        (12, 0)
    """
    started = time.perf_counter()
    report = IngestReport(str(root))
    options = ReadOptions(jsonl=jsonl or JsonlFields())
    visual = VisualFiles.of(index.store.manifest.limits)
    formats = {suffix: name for suffix, name in (read_as or {}).items() if suffix != ANY_SUFFIX}
    found = list(_outside(index.path, scan(root, include, exclude, hidden=hidden, skipped=report.skipped)))
    if read_as and ANY_SUFFIX in read_as:
        unknown = (file.path for file in found if not visual.takes(file.path) and not format_of(file.path, options))
        formats = {**dict.fromkeys((path.suffix.lower() for path in unknown), read_as[ANY_SUFFIX]), **formats}
    options = replace(options, formats=formats)
    known = index.store.files.all()
    claim_root(index.store, Path(root), found, known, sync=sync)
    if sync and Path(root).is_dir():  # a single file says nothing about the others
        _sync(index, report, {file.relative for file in found}, known)
    reader = _Reader(PassageCutter.for_index(index, max_tokens, overlap, min_tokens), options, visual)
    todo = _to_read(found, known, reader, report)
    if todo:
        _read(index, report, todo, known, reader, batch, show_progress)
    report.seconds = time.perf_counter() - started
    return report


@dataclass(frozen=True)
class _Reader:
    """Turns one file into rows, as text or as pictures."""

    cutter: PassageCutter
    options: ReadOptions
    visual: VisualFiles

    def knows(self, file: FoundFile) -> bool:
        return self._shows(file) or bool(format_of(file.path, self.options))

    def rows(self, file: FoundFile, notes: list[str], skipped: SkipLog) -> Generator[dict[str, Any], None, None]:
        if self._shows(file):
            return picture_rows(file, skipped)
        return self.cutter.rows(file, self.options, notes)

    def _shows(self, file: FoundFile) -> bool:
        return file.path.suffix.lower() not in self.options.formats and self.visual.takes(file.path)


def _outside(folder: Path, found: Iterable[FoundFile]) -> Iterable[FoundFile]:
    """Files that are not part of the index itself, which may lie in the folder that is indexed."""
    inner = folder.resolve()
    return (file for file in found if not file.path.absolute().is_relative_to(inner))


def _to_read(
    found: Iterable[FoundFile], known: Mapping[str, FileEntry], reader: _Reader, report: IngestReport
) -> list[FoundFile]:
    """Files of a known type whose size or time differ from what the index has."""
    todo = []
    for file in found:
        if not reader.knows(file):
            report.skipped.add(Skipped(file.relative, _NOT_READ, file.path.suffix or "no suffix"))
            continue
        report.seen += 1
        entry = known.get(file.relative)
        if entry is not None and (entry.size, entry.mtime_ns) == (file.size, file.mtime_ns):
            report.unchanged += 1
        else:
            todo.append(file)
    return todo


def _read(
    index: SmartIndex,
    report: IngestReport,
    todo: list[FoundFile],
    known: Mapping[str, FileEntry],
    reader: _Reader,
    batch: int,
    show_progress: bool | None,
) -> None:
    total = sum(file.size for file in todo)
    with progress(f"Indexing {len(todo):,} files, KiB", total // _KIB, show_progress) as show:
        done = shown = 0

        def advance(size: int) -> None:
            nonlocal done, shown
            done += size
            show(done // _KIB - shown)
            shown = done // _KIB

        writer = FileWriter(index, report, advance, batch)
        for file in todo:
            _one(writer, report, file, known.get(file.relative), reader)
        writer.flush()


def _one(writer: FileWriter, report: IngestReport, file: FoundFile, before: FileEntry | None, reader: _Reader) -> None:
    """Read one file and hand its rows on; whatever is wrong with it is recorded."""
    writer.begin(file.relative, known=before is not None)
    notes: list[str] = []
    try:
        # Before it is read: should it change meanwhile, the next run sees that.
        entry = FileEntry(file.relative, file.size, file.mtime_ns, content_hash(file.path))
    except MediaError as error:
        _failed(writer, report, file, error)
        return
    if before is not None and before.sha256 == entry.sha256:
        report.unchanged += 1
        writer.note(entry)
        return
    left = file.size
    with closing(reader.rows(file, notes, report.skipped)) as rows:
        while True:
            try:
                row = next(rows, None)
            except Exception as error:  # a fault in one file's parser must not cost the others
                _failed(writer, report, file, error)
                report.note(file.relative, notes)
                return
            if row is None:
                break
            size = min(left, len(row["text"]))
            left -= size
            writer.add(row, size)
    report.note(file.relative, notes)
    writer.end(entry)


def _failed(writer: FileWriter, report: IngestReport, file: FoundFile, error: Exception) -> None:
    if isinstance(error, SmartError) and not isinstance(error, MediaError | MissingExtraError):
        report.skipped.add(Skipped(file.relative, "cannot be stored", str(error), failed=True))
    else:
        report.skipped.add(Skipped.from_error(file.relative, error))
    writer.abandon(file.size)


def _sync(index: SmartIndex, report: IngestReport, found: set[str], known: Mapping[str, FileEntry]) -> None:
    """Delete the passages of files that are not there any more, and what a killed run left of such files."""
    gone = [path for path in known if path not in found]
    with index.store.reading() as connection:
        # A library user's documents may have sources, too; only ids made of them are ours.
        rows = connection.execute(
            "SELECT DISTINCT source FROM documents WHERE source IS NOT NULL AND source NOT IN (SELECT path FROM files) "
            "AND substr(id, 1, length(source) + 1) = source || '#'"
        )
        left = [path for (path,) in rows if path not in found]
    # What the walk could not look into may well be there.
    unseen = {record.path.rstrip("/") for record in report.skipped if record.failed}
    beneath = tuple(f"{path}/" for path in unseen)
    doomed = [path for path in gone + left if path not in unseen and not path.startswith(beneath)]
    if doomed and not found:
        raise SmartError(
            f"sync: found no files at all at {report.root!r}, and passages of {len(doomed)} files in the index; is the "
            "folder mounted? To empty the index, use delete"
        )
    for path in doomed:
        report.passages_removed += index.store.files.drop(path)
        report.removed += path in known
