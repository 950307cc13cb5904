"""Documents of many files into few commits, each file whole or marked as not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

from ...embeddings import SmartEmbeddings
from ...errors import SmartWarning
from ...files import Skipped
from ..store.records import FileEntry
from .new_documents import NewDocument
from .report import IngestReport
from .writer import IndexWriter


@dataclass(eq=False)
class _File:
    """A file on its way: its documents that wait, and what became of those before."""

    path: str
    known: bool = False  # whether the index held it whole before
    waiting: list[NewDocument] = field(default_factory=list)
    dropped: bool = False  # whether what the index held of it is deleted
    encoded: int = 0
    failed: int = 0
    entry: FileEntry | None = None  # once it is read whole

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

    ``advance`` is called with bytes of files done; a batch is stored once its documents weigh ``batch``.
    """

    def __init__(self, writer: IndexWriter, report: IngestReport, advance: Callable[[int], None], batch: int) -> None:
        self._writer = writer
        self._report = report
        self._advance = advance
        self._batch = batch
        self._waiting: list[tuple[_File, NewDocument]] = []
        self._files: list[_File] = []  # in this batch, the one being read perhaps among them
        self._touched: list[FileEntry] = []  # of files that changed in nothing but their time
        self._bytes = 0
        self._file = _File("")
        self._counted = 0  # bytes of the current file that are counted as done

    def begin(self, path: str, *, known: bool) -> None:
        """A file begins; whatever the index holds of it (whole, if it is known) will be replaced."""
        self._file = _File(path, known)
        self._counted = 0

    def add(self, document: NewDocument, size: int) -> None:
        """The next document of the file that began, and how many of the file's bytes it stands for at least."""
        self._file.waiting.append(document)
        self._counted += size
        self._bytes += size
        if _weight(self._file.waiting) >= self._batch:
            self._take()
            self._store()

    def end(self, entry: FileEntry) -> None:
        """The file is read whole."""
        self._take()
        self._file.entry = entry
        self._bytes += entry.size - self._counted
        self._store_if_full()

    def abandon(self, size: int) -> None:
        """The file cannot be read on. What the index held of it stays, unless some of it is replaced already."""
        self._bytes += size - self._counted
        if self._file.dropped:
            self._report.passages_removed += self._writer.store.files.drop(self._file.path)

    def touch(self, entry: FileEntry) -> None:
        """A file is as it was but for its time; remember that."""
        self._touched.append(entry)
        self._bytes += entry.size
        self._store_if_full()

    def flush(self) -> None:
        """Store everything that waits."""
        if self._files or self._touched:
            self._store()
        self._show_progress()

    def _take(self) -> None:
        """Put the current file's documents with those that go next."""
        file = self._file
        if file not in self._files[-1:]:
            self._files.append(file)
        self._waiting += [(file, document) for document in file.waiting]
        file.waiting = []

    def _store_if_full(self) -> None:
        full = _weight([document for _, document in self._waiting]) >= self._batch
        if full or len(self._files) + len(self._touched) >= 4 * self._batch:
            self._store()

    def _store(self) -> None:
        documents, encoded = self._encode()
        removed = 0
        store = self._writer.store
        whole = [file for file in self._files if file.whole]
        with store.transaction():
            for file in self._files:
                # Not before something of it is there to take the place of what is deleted.
                if not file.dropped and (file.encoded or file in whole):
                    removed += store.files.drop(file.path)
                    file.dropped = True
            if encoded is not None and documents:
                # "replace": another run over the same folder may have stored them since.
                self._writer.add_encoded(documents, encoded, "replace", fit=False)
            for entry in [file.entry for file in whole if file.entry is not None] + self._touched:
                store.files.put(entry)
        # After the transaction: fitting takes long, and other writers wait for the lock.
        self._writer.fit_if_due()
        report = self._report
        report.passages += len(documents)
        report.pictures += sum(document.picture is not None for document in documents)
        report.passages_removed += removed
        report.tokens += int(encoded.offsets[-1]) if encoded is not None else 0
        report.added += sum(not file.known for file in whole)
        report.updated += sum(file.known for file in whole)
        self._waiting, self._files, self._touched = [], [], []
        self._show_progress()

    def _encode(self) -> tuple[list[NewDocument], SmartEmbeddings | None]:
        """The documents that wait, without those whose pictures cannot be read, and their encodings."""
        if not self._waiting:
            return [], None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SmartWarning)  # counted in the report instead
            encoded = self._writer.model.get().encode_document(
                [document.item for _, document in self._waiting], show_progress=False, on_error="skip"
            )
        self._report.truncated += encoded.report.truncated_tokens
        reasons = dict(encoded.report.failures)
        kept = []
        for position, (file, document) in enumerate(self._waiting):
            if position in reasons:
                file.failed += 1
                self._report.skipped.add(_failure(file, document, reasons[position]))
            else:
                file.encoded += 1
                kept.append(document)
        return kept, encoded

    def _show_progress(self) -> None:
        self._advance(self._bytes)
        self._bytes = 0


def _weight(documents: list[NewDocument]) -> int:
    return sum(document.weight for document in documents)


def _failure(file: _File, document: NewDocument, reason: str) -> Skipped:
    """The record of a picture that could not be decoded, under the reason that others of its kind have, too."""
    if document.picture is not None and document.picture.error is not None:
        return Skipped.from_error(file.path, document.picture.error)
    return Skipped(file.path, "cannot be read", reason, failed=True)
