"""Passages of many files into few commits, each file whole or marked as not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import SmartWarning
from .ingest_report import IngestReport
from .records import FileEntry

if TYPE_CHECKING:
    from .smart_index import SmartIndex

BATCH_PASSAGES = 256


@dataclass
class _File:
    """The file that is being read: its passages that wait, and whether some are stored already."""

    path: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    stored: bool = False


class FileWriter:
    """Collects passages across files, encodes them together and stores them, one commit a batch.

    A file of up to a batch's passages is replaced by one commit. A larger one begins with the commit that deletes its
    old passages and its entry, and ends with the one that writes its entry; a run killed in between leaves passages
    without an entry, and the next run deletes them before it reads the file again.

    Args:
        index: The index.
        report: Where passages and tokens are counted.
        advance: Called with bytes of files done.
        batch: Passages from which on a batch is stored.
    """

    def __init__(
        self, index: SmartIndex, report: IngestReport, advance: Callable[[int], None], batch: int = BATCH_PASSAGES
    ) -> None:
        self._index = index
        self._report = report
        self._advance = advance
        self._batch = batch
        self._rows: list[dict[str, Any]] = []
        self._replaced: list[str] = []
        self._entries: list[FileEntry] = []
        self._bytes = 0
        self._file = _File("")
        self._shown = 0  # bytes of the current file that the bar has been told of

    def begin(self, path: str) -> None:
        """A file begins; whatever the index holds of it will be replaced."""
        self._file = _File(path)
        self._shown = 0

    def add(self, row: dict[str, Any], size: int) -> None:
        """The next passage of the file that began, and how many of the file's bytes it stands for at least."""
        self._file.rows.append(row)
        self._shown += size
        self._bytes += size
        if len(self._file.rows) >= self._batch:
            self._take()
            self._store()

    def end(self, entry: FileEntry) -> None:
        """The file is read whole."""
        self._take()
        self._entries.append(entry)
        self._bytes += entry.size - self._shown
        self._store_if_full()

    def abandon(self, size: int) -> None:
        """The file cannot be read on. What the index held of it stays, unless some of it is replaced already."""
        self._bytes += size - self._shown
        if self._file.stored:
            self._report.passages_removed += self._index.store.files.drop(self._file.path)

    def note(self, entry: FileEntry) -> None:
        """A file is as it was but for its time; remember that."""
        self._entries.append(entry)
        self._bytes += entry.size
        self._store_if_full()

    def flush(self) -> None:
        """Store everything that waits."""
        if self._rows or self._replaced or self._entries:
            self._store()
        self._tell()

    def _take(self) -> None:
        """Put the current file's passages with those that go next."""
        file = self._file
        if not file.stored:
            self._replaced.append(file.path)
            file.stored = True
        self._rows += file.rows
        file.rows = []

    def _store_if_full(self) -> None:
        if len(self._rows) >= self._batch or len(self._entries) >= 4 * self._batch:
            self._store()

    def _store(self) -> None:
        encoded = self._encoded([row["text"] for row in self._rows]) if self._rows else None
        removed = 0
        store = self._index.store
        with store.transaction():
            for path in self._replaced:
                removed += store.files.drop(path)
            if encoded is not None:
                # "replace": another run over the same folder may have stored them since.
                self._index.add_encoded(self._rows, encoded, on_duplicate="replace", fit=False)
            for entry in self._entries:
                store.files.put(entry)
        # Behind the transaction: fitting takes long, and other writers wait for the lock.
        self._index.fit_if_due()
        self._report.passages += len(self._rows)
        self._report.passages_removed += removed
        if encoded is not None:
            self._report.tokens += int(encoded.offsets[-1])
        self._rows, self._replaced, self._entries = [], [], []
        self._tell()

    def _encoded(self, texts: list[str]) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SmartWarning)  # counted in the report instead
            encoded = self._index.model.encode_document(texts, show_progress=False)
        self._report.truncated += encoded.report.truncated_tokens
        return encoded

    def _tell(self) -> None:
        self._advance(self._bytes)
        self._bytes = 0
