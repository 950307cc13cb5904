"""A folder of files into an index: only what changed, in batches across files, safe to kill at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from ...documents.read import NO_TEXT
from ...documents.walk import scan
from ...embeddings import SmartEmbeddings
from ...errors import IndexMismatchError, MediaError, MissingExtraError, SmartError
from ...files import FoundFile, Skipped, UnreadableFileError, content_hash, settled
from ...progress import progress
from ...types import counted_elsewhere
from ..store.manifest import Manifest
from ..store.records import FileEntry
from ..store.store import Store
from .file_reader import FileReader
from .new_documents import NewDocument
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
            batches = FileBatches(writer, reader, report, show, batch)
            for file in changed:
                batches.read(file, known.get(file.relative))
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


@dataclass(eq=False)
class _File:
    """A file on its way: its documents that wait, and what became of those before."""

    path: str
    known: bool  # whether the index held it whole before
    waiting: list[NewDocument] = field(default_factory=list)
    broken: bool = False  # whether it could not be read on
    dropped: bool = False  # whether what the index held of it is deleted
    encoded: int = 0
    failed: int = 0
    entry: FileEntry | None = None  # once it is read whole

    @property
    def weight(self) -> int:
        """What its waiting documents count in a batch."""
        return sum(document.weight for document in self.waiting)

    @property
    def whole(self) -> bool:
        """Whether it is read whole, and not every one of its documents failed to be encoded."""
        return self.entry is not None and (self.encoded > 0 or not self.failed)


class FileBatches:
    """Collects documents across files, encodes them together and stores them, one commit a batch.

    A file of up to a batch's documents is replaced by one commit. A larger one begins with the commit that deletes its
    old documents and its entry, and ends with the one that writes its entry; a run killed in between leaves documents
    without an entry, and the next run deletes them before it reads the file again.

    A picture that cannot be decoded is named in the report and left out; a file of which nothing could be encoded
    counts as not read: what the index held of it stays, and the next run tries again.

    ``show`` is called with the KiB of files done since; a batch is stored once its documents weigh ``batch``.
    """

    def __init__(
        self, writer: IndexWriter, reader: FileReader, report: IngestReport, show: Callable[[int], None], batch: int
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._report = report
        self._show = show
        self._batch = batch
        self._files: list[_File] = []  # in this batch
        self._touched: list[FileEntry] = []  # of files that changed in nothing but their time
        self._bytes = self._shown = 0  # bytes of files done; KiB shown as such

    def read(self, found: FoundFile, before: FileEntry | None) -> None:
        """Read a file, whose entry in the index is ``before``; whatever is wrong with it is recorded."""
        file = _File(found.relative, before is not None)
        left = found.size  # bytes that are not counted as done
        try:
            self._reader.check_size(found)
            # Before it is read: should it change meanwhile, the next run sees that.
            entry = FileEntry(found.relative, found.size, found.mtime_ns, content_hash(found.path))
        except MediaError as error:
            self._report.skipped.add(Skipped.from_error(found.relative, error))
            self._bytes += left
            return
        if before is not None and before.sha256 == entry.sha256:
            self._report.unchanged += 1
            self._touched.append(entry)
        else:
            with closing(self._documents(found, file)) as documents:
                for document in documents:
                    file.waiting.append(document)
                    size = min(left, len(document.item.text))
                    left -= size
                    self._bytes += size
                    if file.weight >= self._batch:
                        self._files.append(file)
                        self._store()
            if not file.broken:
                self._files.append(file)
                file.entry = entry
            elif file.dropped:  # otherwise what the index held of it stays
                self._report.passages_removed += self._writer.store.files.drop(file.path)
        self._bytes += left
        full = sum(file.weight for file in self._files) >= self._batch
        if full or len(self._files) + len(self._touched) >= 4 * self._batch:
            self._store()

    def flush(self) -> None:
        """Store everything that waits."""
        if self._files or self._touched:
            self._store()
        self._show_progress()

    def _documents(self, found: FoundFile, file: _File) -> Generator[NewDocument, None, None]:
        """What is read of a file until its end or an error, which is recorded."""
        notes: list[str] = []
        try:
            yield from self._reader.documents(found, notes, self._report.skipped)
        except Exception as error:  # a fault in one file's parser must not cost the others
            file.broken = True
            # It was read whole, and what the index holds of it is not in it any more.
            file.dropped = file.dropped or (isinstance(error, UnreadableFileError) and error.reason == NO_TEXT)
            record = Skipped.from_error(file.path, error)
            if isinstance(error, SmartError) and not isinstance(error, MediaError | MissingExtraError):
                record = Skipped(file.path, "cannot be stored", str(error), failed=True)
            self._report.skipped.add(record)
        self._report.note(file.path, notes)

    def _store(self) -> None:
        documents, encoded = self._encode()
        store, report = self._writer.store, self._report
        whole = [file for file in self._files if file.whole]
        with store.transaction():
            for file in self._files:
                # Not before something of it is there to take the place of what is deleted.
                if not file.dropped and (file.encoded or file in whole):
                    report.passages_removed += store.files.drop(file.path)
                    file.dropped = True
            if encoded is not None and documents:
                # "replace": another run over the same folder may have stored them since.
                self._writer.add_encoded(documents, encoded, "replace", fit=False)
            for entry in [file.entry for file in whole if file.entry is not None] + self._touched:
                store.files.put(entry)
        # After the transaction: fitting takes long, and other writers wait for the lock.
        self._writer.fit_if_due()
        report.passages += len(documents)
        kinds = [document.picture.kind for document in documents if document.picture is not None]
        report.pictures += sum(kind != "audio" for kind in kinds)
        report.tokens += int(encoded.offsets[-1]) if encoded is not None else 0
        report.added += sum(not file.known for file in whole)
        report.updated += sum(file.known for file in whole)
        for file in self._files:
            file.waiting = []
        self._files, self._touched = [], []
        self._show_progress()

    def _encode(self) -> tuple[list[NewDocument], SmartEmbeddings | None]:
        """The documents that wait, without those whose pictures cannot be read, and their encodings."""
        waiting = [(file, document) for file in self._files for document in file.waiting]
        if not waiting:
            return [], None
        with counted_elsewhere():
            encoder = self._writer.encoder
            items = [encoder.folded(document.item) for _, document in waiting]
            encoded = encoder.document_model().encode_document(items, show_progress=False, on_error="skip")
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

    def _show_progress(self) -> None:
        kib = self._bytes // 1024
        self._show(kib - self._shown)
        self._shown = kib


def _failure(file: _File, document: NewDocument, reason: str) -> Skipped:
    """The record of a picture that could not be decoded, under the reason that others of its kind have, too."""
    if document.picture is not None and document.picture.error is not None:
        return Skipped.from_error(file.path, document.picture.error)
    return Skipped(file.path, "cannot be read", reason, failed=True)
