"""A folder of files into an index: only what changed, in batches across files, safe to kill at any moment."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from ...documents.walk import scan
from ...errors import IndexMismatchError, MediaError, MissingExtraError, SmartError
from ...files import FoundFile, Skipped, content_hash
from ...progress import progress
from ..store.manifest import Manifest
from ..store.records import FileEntry
from ..store.store import Store
from .file_batches import FileBatches
from .file_reader import FileReader
from .report import IngestReport
from .writer import IndexWriter

_NOT_READ = "not a type that is read"
_KIB = 1024


def index_folder(
    writer: IndexWriter,
    reader: FileReader,
    root: str | Path,
    include: Sequence[str],
    exclude: Sequence[str],
    *,
    hidden: bool,
    sync: bool,
    batch: int,
    bar: bool | None,
) -> IngestReport:
    """See :meth:`~smart_retrieval.SmartIndex.index_folder`."""
    started = time.perf_counter()
    report = IngestReport(str(root))
    store = writer.store
    own = store.path.resolve()  # which may lie in the folder
    files = scan(root, include, exclude, hidden=hidden, skipped=report.skipped)
    found = [file for file in files if not file.path.absolute().is_relative_to(own)]
    known = store.files.all()
    _claim_root(store, Path(root), found, known, sync=sync)
    if sync and Path(root).is_dir():  # a single file says nothing about the others
        _remove_missing(store, report, {file.relative for file in found}, known)
    changed = _changed(found, known, reader, report)
    if changed:
        total = sum(file.size for file in changed)
        with progress(f"Indexing {len(changed):,} files, KiB", total // _KIB, bar) as show:
            done = shown = 0

            def advance(size: int) -> None:
                nonlocal done, shown
                done += size
                show(done // _KIB - shown)
                shown = done // _KIB

            batches = FileBatches(writer, report, advance, batch)
            for file in changed:
                _read(batches, report, file, known.get(file.relative), reader)
            batches.flush()
    report.seconds = time.perf_counter() - started
    return report


def _claim_root(
    store: Store, root: Path, found: Sequence[FoundFile], known: Mapping[str, FileEntry], *, sync: bool
) -> None:
    """Note the folder whose files the index holds, or check that this is the one.

    Ids and sources are paths relative to the folder. Those of a second folder would replace the first one's where names
    agree, and ``sync`` would delete the rest. A folder that was moved or copied is recognised by its files: most of
    them are known by the same path and size.

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
    """Whether most files are known under the same path and size: of the whole index, or of the smaller of the two."""
    entries = [(file, known.get(file.relative)) for file in found if file.size]
    same = sum(entry is not None and entry.size == file.size for file, entry in entries)
    total = len(known) if whole else min(len(known), len(entries))
    return total > 0 and 2 * same >= total


def _remove_missing(store: Store, report: IngestReport, found: Collection[str], known: Mapping[str, FileEntry]) -> None:
    """Delete the passages of files that are not there any more, and what a killed run left of such files."""
    with store.reading() as connection:
        # A library user's documents may have sources, too; only ids made of them are ours.
        rows = connection.execute(
            "SELECT DISTINCT source FROM documents WHERE source IS NOT NULL AND source NOT IN (SELECT path FROM files) "
            "AND substr(id, 1, length(source) + 1) = source || '#'"
        )
        indexed = [*known, *(path for (path,) in rows)]
    # What the walk could not look into may well be there.
    unseen = {record.path.rstrip("/") for record in report.skipped if record.failed}
    inside = tuple(f"{path}/" for path in unseen)
    missing = [path for path in indexed if path not in found and path not in unseen and not path.startswith(inside)]
    if missing and not found:
        raise SmartError(
            f"sync: found no files at all at {report.root!r}, and passages of {len(missing)} files in the index; is "
            "the folder mounted? To empty the index, use delete"
        )
    for path in missing:
        report.passages_removed += store.files.drop(path)
        report.removed += path in known


def _changed(
    found: Sequence[FoundFile], known: Mapping[str, FileEntry], reader: FileReader, report: IngestReport
) -> list[FoundFile]:
    """Files of a known type whose size or time differ from what the index has."""
    changed = []
    for file in found:
        if not reader.knows(file):
            report.skipped.add(Skipped(file.relative, _NOT_READ, file.path.suffix or "no suffix"))
            continue
        report.seen += 1
        entry = known.get(file.relative)
        if entry is not None and (entry.size, entry.mtime_ns) == (file.size, file.mtime_ns):
            report.unchanged += 1
        else:
            changed.append(file)
    return changed


def _read(
    batches: FileBatches, report: IngestReport, file: FoundFile, before: FileEntry | None, reader: FileReader
) -> None:
    """Read one file and hand its documents on; whatever is wrong with it is recorded."""
    batches.begin(file.relative, known=before is not None)
    notes: list[str] = []
    try:
        # Before it is read: should it change meanwhile, the next run sees that.
        entry = FileEntry(file.relative, file.size, file.mtime_ns, content_hash(file.path))
    except MediaError as error:
        _fail(batches, report, file, error)
        return
    if before is not None and before.sha256 == entry.sha256:
        report.unchanged += 1
        batches.touch(entry)
        return
    left = file.size
    with closing(reader.documents(file, notes, report.skipped)) as documents:
        while True:
            try:
                document = next(documents, None)
            except Exception as error:  # a fault in one file's parser must not cost the others
                _fail(batches, report, file, error)
                report.note(file.relative, notes)
                return
            if document is None:
                break
            size = min(left, len(document.item.text))
            left -= size
            batches.add(document, size)
    report.note(file.relative, notes)
    batches.end(entry)


def _fail(batches: FileBatches, report: IngestReport, file: FoundFile, error: Exception) -> None:
    if isinstance(error, SmartError) and not isinstance(error, MediaError | MissingExtraError):
        report.skipped.add(Skipped(file.relative, "cannot be stored", str(error), failed=True))
    else:
        report.skipped.add(Skipped.from_error(file.relative, error))
    batches.abandon(file.size)
