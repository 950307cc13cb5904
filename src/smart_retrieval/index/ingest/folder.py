"""A folder of files into an index: only what changed, in batches across files, safe to kill at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from ...documents.walk import scan
from ...embeddings import SmartEmbeddings
from ...errors import IndexMismatchError, SmartError
from ...files import FoundFile, Skipped, settled
from ...progress import progress
from ...types import counted_elsewhere
from ..store.manifest import Manifest
from ..store.records import FileEntry
from ..store.store import Store
from .ahead import ahead
from .allocator import give_back_memory
from .file_reader import FileReader
from .new_documents import NewDocument
from .reading import FilePart, IngestFile, ReadBatch, read_batches
from .report import IngestReport
from .writer import IndexWriter


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
    report, root = IngestReport(str(root)), settled(root)
    store = writer.store
    if "shard" in store.manifest.limits:
        raise IndexMismatchError(
            f"index {str(store.path)!r}: found a shard of an index, which files are not indexed into; index the folder "
            "into the whole index and split that, or add to a ShardedIndex"
        )
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
        with progress(f"Indexing {len(changed):,} files, KiB", total // 1024, bar) as show:
            batches = FileBatches(writer, report, show)
            with closing(ahead(partial(read_batches, reader, changed, known, batch))) as read:
                for one in read:
                    batches.store(one)
    report.seconds = time.perf_counter() - started
    return report


def _claim_root(
    store: Store, root: Path, found: Sequence[FoundFile], known: Mapping[str, FileEntry], *, sync: bool
) -> None:
    """Note the folder whose files the index holds, or check that this is the one.

    Ids and sources are paths relative to the folder. Those of a second folder would replace the first one's where names
    agree, and ``sync`` would delete the rest. A folder that was moved or copied is recognised by its files: most of
    them are known by the same path and size.
    """
    if not found:
        return  # nothing that could replace anything; sync itself refuses to empty an index
    with store.reading() as connection:
        owner = Manifest.read(connection).root
    home = str((root if root.is_dir() else root.parent).resolve())
    if owner == home:
        return
    if owner and known and not _same_files(found, known, whole=sync):
        advice = (
            "index that folder, with include for this part of it"
            if Path(home).is_relative_to(owner)
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
        reason, detail = reader.why_not(file)
        if reason:
            report.skipped.add(Skipped(file.relative, reason, detail))
            continue
        report.seen += 1
        entry = known.get(file.relative)
        if entry is not None and (entry.size, entry.mtime_ns) == (file.size, file.mtime_ns):
            report.unchanged += 1
        else:
            changed.append(file)
    return changed


class FileBatches:
    """Encodes documents of files together and stores them, one commit a batch.

    A file of up to a batch's documents is replaced by one commit. A larger one begins with the commit that deletes its
    old documents and its entry, and ends with the one that writes its entry; a run killed in between leaves documents
    without an entry, and the next run deletes them before it reads the file again.

    A picture that cannot be decoded is named in the report and left out; a file of which nothing could be encoded
    counts as not read: what the index held of it stays, and the next run tries again.

    ``show`` is called with the KiB of files done since.
    """

    def __init__(self, writer: IndexWriter, report: IngestReport, show: Callable[[int], None]) -> None:
        self._writer = writer
        self._report = report
        self._show = show
        self._shown = 0  # KiB

    def store(self, batch: ReadBatch) -> None:
        """Store a batch, and note what was noted in reading it."""
        report = self._report
        report.skipped.update(batch.skipped)
        for path, notes in batch.notes:
            report.note(path, notes)
        report.unchanged += len(batch.touched)
        if batch.parts or batch.touched:
            self._store(batch)
        kib = batch.done // 1024
        self._show(kib - self._shown)
        self._shown = kib

    def _store(self, batch: ReadBatch) -> None:
        documents, encoded = self._encode(batch.parts)
        store, report = self._writer.store, self._report
        whole = [part for part in batch.parts if part.whole]
        with store.transaction():
            for part in batch.parts:
                file = part.file
                if part.broken:
                    if file.dropped or part.textless:  # otherwise what the index held of it stays
                        report.passages_removed += store.files.drop(file.path)
                # Not before something of it is there to take the place of what is deleted.
                elif not file.dropped and (file.encoded or part.whole):
                    report.passages_removed += store.files.drop(file.path)
                    file.dropped = True
            if encoded is not None and documents:
                # "replace": another run over the same folder may have stored them since.
                self._writer.add_encoded(documents, encoded, "replace", fit=False)
            for entry in [part.entry for part in whole if part.entry is not None] + batch.touched:
                store.files.put(entry)
        # After the transaction: fitting takes long, and other writers wait for the lock.
        self._writer.fit_if_due()
        report.passages += len(documents)
        kinds = [document.picture.kind for document in documents if document.picture is not None]
        report.pictures += sum(kind != "audio" for kind in kinds)
        report.tokens += int(encoded.offsets[-1]) if encoded is not None else 0
        report.added += sum(not part.file.known for part in whole)
        report.updated += sum(part.file.known for part in whole)

    def _encode(self, parts: Sequence[FilePart]) -> tuple[list[NewDocument], SmartEmbeddings | None]:
        """The documents of a batch, without those whose pictures cannot be read, and their encodings."""
        waiting = [(part.file, document) for part in parts for document in part.documents]
        if not waiting:
            return [], None
        with counted_elsewhere():
            encoder = self._writer.encoder
            items = [encoder.folded(document.item) for _, document in waiting]
            encoded = encoder.document_model().encode_document(items, show_progress=False, on_error="skip")
        give_back_memory()
        self._report.truncated += encoded.report.truncated_tokens
        reasons = dict(encoded.report.failures)
        kept = []
        for position, (file, document) in enumerate(waiting):
            if position in reasons:
                file.failed += 1
                self._report.skipped.add(_failure(file, document, reasons[position]))
            else:
                file.encoded += 1
                kept.append(document)
        return kept, encoded


def _failure(file: IngestFile, document: NewDocument, reason: str) -> Skipped:
    """The record of a picture that could not be decoded, under the reason that others of its kind have, too."""
    if document.picture is not None and document.picture.error is not None:
        return Skipped.from_error(file.path, document.picture.error)
    return Skipped(file.path, "cannot be read", reason, failed=True)
