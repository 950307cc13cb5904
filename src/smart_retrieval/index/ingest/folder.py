"""A folder of files into an index: only what changed, in batches across files, safe to kill at any moment.

What an index makes of files is settled when it is created (``files_as``) and does not change from run to run.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...documents.read import ReadOptions, format_of
from ...documents.readers.jsonl import JsonlFields
from ...documents.walk import scan
from ...errors import CodecError, IndexMismatchError, MediaError, MissingExtraError, SmartError
from ...files import FoundFile, SkipLog, Skipped, content_hash
from ...progress import progress
from ..codec.names import parse_codec
from ..model_binding import VISUAL_LIMITS, load_model
from ..smart_index import DEFAULT_CODEC, SmartIndex
from ..store.folder import FILE
from ..store.manifest import Manifest
from ..store.records import FileEntry
from .passages import PassageCutter
from .pictures import VisualFiles, picture_rows
from .report import IngestReport
from .writer import BATCH_PASSAGES, FileWriter

if TYPE_CHECKING:
    from ..smart_index import SmartIndex
    from ..store.store import Store


def claim_root(
    store: Store, root: Path, found: Sequence[FoundFile], known: Mapping[str, FileEntry], *, sync: bool
) -> None:
    """Note the folder whose files the index holds, or check that this is the one.

    Ids and sources are paths relative to the folder. Those of a second folder would replace the first one's where names
    agree, and ``sync`` would delete the rest. A folder that was moved or copied is recognised by its files: most of
    them are known by the same path and size.

    Args:
        store: The index's store.
        root: What is about to be indexed: a folder, or a file in it.
        found: Files found there.
        known: Files the index holds.
        sync: Whether files that are not found are about to be deleted.

    Raises:
        IndexMismatchError: The index belongs to another folder.
    """
    if not found:
        return  # nothing that could replace anything; sync itself refuses to empty an index
    with store.reading() as connection:
        owner = Manifest.read(connection).root
    home = str((root if root.is_dir() else root.parent).resolve())
    if owner == home:
        return
    if owner and known and not _same_files(found, known, whole=sync):
        inside = Path(home).is_relative_to(owner)
        advice = (
            "index that folder, with include for this part of it"
            if inside
            else "index this one into an index of its own, or put both under one folder and index that"
        )
        raise IndexMismatchError(
            f"index {str(store.path)!r}: found the files of {owner!r}, asked to index {home!r}; an index belongs to "
            f"one folder: {advice}"
        )
    with store.transaction() as handle:
        # Not a commit of its own: no document changes.
        Manifest.put(handle.connection, "root", home)
    store.reload()


def _same_files(found: Sequence[FoundFile], known: Mapping[str, FileEntry], *, whole: bool) -> bool:
    """Whether most of the files are known under the same path and size.

    Args:
        found: Files of a folder.
        known: Files of the index.
        whole: Of all that are known; else the folder may be a part, or the index may.
    """
    entries = [(file, known.get(file.relative)) for file in found if file.size]
    same = sum(entry is not None and entry.size == file.size for file, entry in entries)
    total = len(known) if whole else min(len(known), len(entries))
    return total > 0 and 2 * same >= total


DEFAULT_MODEL = "minilm"


def open_or_create(
    path: str | Path,
    model: str | None = None,
    *,
    codec: str | None = None,
    pooling: float | None = None,
    files_as: Literal["auto", "text", "pages"] = "auto",
    max_visual_tokens: int | None = None,
    max_frames: int | None = None,
) -> SmartIndex:
    """Open an index for writing; make it if there is none.

    Args:
        path: The index's folder.
        model: The model's name; ``minilm`` for a new index when None, the recorded one otherwise.
        codec: How token vectors are kept; the usual one for a new index when None.
        pooling: Token pooling factor; 1 for a new index when None.
        files_as: What is made of files, see :meth:`~smart_retrieval.index.smart_index.SmartIndex.create`; ``"auto"``
            leaves it to an index that is there.
        max_visual_tokens: Most visual tokens of a picture; the model's own limit for a new index when None.
        max_frames: Most frames of a video; likewise.

    Raises:
        IndexMismatchError: There is an index, made with another model, pooling, limit, or for files as something else.
        CodecError: There is an index with another codec, or no such codec.
        IndexFormatError: There is an index of another format.
    """
    if not (Path(path) / FILE).exists():
        limits = {"max_visual_tokens": max_visual_tokens, "max_frames": max_frames}
        return SmartIndex.create(
            path,
            load_model(model or DEFAULT_MODEL, options=limits),
            codec=codec or DEFAULT_CODEC,
            pooling=1 if pooling is None else pooling,
            files_as=files_as,
        )
    index = SmartIndex.open(path, model)
    try:
        info = index.info()
        wanted = info["codec_wanted"]
        if codec is not None and parse_codec(codec).name != wanted:
            raise CodecError(
                f"index {str(path)!r}: found codec {wanted!r}, asked for {codec!r}; leave --codec out, or index into a "
                "new one"
            )
        made_with: dict[str, Any] = {name: info["model"].get(name) for name in VISUAL_LIMITS}
        made_with["pooling"] = info["pooling"]
        asked: dict[str, Any] = {"pooling": pooling, "max_visual_tokens": max_visual_tokens, "max_frames": max_frames}
        differing = [name for name, value in asked.items() if value is not None and value != made_with[name]]
        if files_as not in ("auto", info["files_as"]):
            made_with["as"], asked["as"] = info["files_as"], files_as
            differing.append("as")
        if differing:
            name, words = differing[0], differing[0].replace("_", " ")
            option = f"--{name.replace('_', '-')}"
            raise IndexMismatchError(
                f"index {str(path)!r}: found {words} {_shown(made_with[name])}, asked for {_shown(asked[name])}; leave "
                f"{option} out, or index into a new one"
            )
    except BaseException:
        index.close()
        raise
    return index


def _shown(value: float | str | None) -> str:
    return "the model's own" if value is None else value if isinstance(value, str) else f"{value:g}"


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
