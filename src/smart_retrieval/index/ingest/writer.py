"""Passages and pictures of many files into few commits, each file whole or marked as not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...embeddings import SmartEmbeddings
from ...errors import SmartWarning
from ...files import Skipped
from ..store.records import FileEntry
from .pictures import Watched
from .report import IngestReport
from .rows import row_weight

if TYPE_CHECKING:
    from ..smart_index import SmartIndex

BATCH_PASSAGES = 256


@dataclass(eq=False)
class _File:
    """A file on its way: its rows that wait, and what became of those before."""

    path: str
    known: bool = False  # whether the index held it whole before
    rows: list[dict[str, Any]] = field(default_factory=list)
    weight: int = 0
    dropped: bool = False  # whether what the index held of it is deleted
    encoded: int = 0
    failed: int = 0
    entry: FileEntry | None = None

    @property
    def lost(self) -> bool:
        """Whether not one of its rows could be encoded."""
        return bool(self.failed) and not self.encoded


class FileWriter:
    """Collects rows across files, encodes them together and stores them, one commit a batch.

    A file of up to a batch's rows is replaced by one commit. A larger one begins with the commit that deletes its
    old rows and its entry, and ends with the one that writes its entry; a run killed in between leaves rows without an
    entry, and the next run deletes them before it reads the file again.

    A picture that cannot be decoded is named in the report and left out; a file of which nothing could be encoded
    counts as not read: what the index held of it stays, and the next run tries again.

    Args:
        index: The index.
        report: Where files, rows and tokens are counted.
        advance: Called with bytes of files done.
        batch: Weight of rows from which on a batch is stored: passages weigh 1, pictures 16.
    """

    def __init__(
        self, index: SmartIndex, report: IngestReport, advance: Callable[[int], None], batch: int = BATCH_PASSAGES
    ) -> None:
        self._index = index
        self._report = report
        self._advance = advance
        self._batch = batch
        self._rows: list[dict[str, Any]] = []
        self._owners: list[_File] = []  # of the rows, one each
        self._weight = 0
        self._files: list[_File] = []  # in this batch, the one being read perhaps among them
        self._notes: list[FileEntry] = []
        self._bytes = 0
        self._file = _File("")
        self._shown = 0  # bytes of the current file that the bar has been told of

    def begin(self, path: str, *, known: bool = False) -> None:
        """A file begins; whatever the index holds of it will be replaced.

        Args:
            path: The file.
            known: Whether the index holds it whole, if of other content.
        """
        self._file = _File(path, known)
        self._shown = 0

    def add(self, row: dict[str, Any], size: int) -> None:
        """The next row of the file that began, and how many of the file's bytes it stands for at least."""
        self._file.rows.append(row)
        self._file.weight += row_weight(row)
        self._shown += size
        self._bytes += size
        if self._file.weight >= self._batch:
            self._take()
            self._store()

    def end(self, entry: FileEntry) -> None:
        """The file is read whole."""
        self._take()
        self._file.entry = entry
        self._bytes += entry.size - self._shown
        self._store_if_full()

    def abandon(self, size: int) -> None:
        """The file cannot be read on. What the index held of it stays, unless some of it is replaced already."""
        self._bytes += size - self._shown
        if self._file.dropped:
            self._report.passages_removed += self._index.store.files.drop(self._file.path)

    def note(self, entry: FileEntry) -> None:
        """A file is as it was but for its time; remember that."""
        self._notes.append(entry)
        self._bytes += entry.size
        self._store_if_full()

    def flush(self) -> None:
        """Store everything that waits."""
        if self._files or self._notes:
            self._store()
        self._tell()

    def _take(self) -> None:
        """Put the current file's rows with those that go next."""
        file = self._file
        if file not in self._files[-1:]:
            self._files.append(file)
        self._rows += file.rows
        self._owners += [file] * len(file.rows)
        self._weight += file.weight
        file.rows, file.weight = [], 0

    def _store_if_full(self) -> None:
        if self._weight >= self._batch or len(self._files) + len(self._notes) >= 4 * self._batch:
            self._store()

    def _store(self) -> None:
        rows, encoded = self._encoded()
        removed = 0
        store = self._index.store
        whole = [file for file in self._files if file.entry is not None and not file.lost]
        with store.transaction():
            for file in self._files:
                # Not before something of it is there to take the place of what is deleted.
                if not file.dropped and (file.encoded or file in whole):
                    removed += store.files.drop(file.path)
                    file.dropped = True
            if encoded is not None and rows:
                # "replace": another run over the same folder may have stored them since.
                self._index.add_encoded(rows, encoded, on_duplicate="replace", fit=False)
            for entry in [file.entry for file in whole if file.entry is not None] + self._notes:
                store.files.put(entry)
        # Behind the transaction: fitting takes long, and other writers wait for the lock.
        self._index.fit_if_due()
        self._count(rows, encoded, removed, whole)
        self._rows, self._owners, self._weight, self._files, self._notes = [], [], 0, [], []
        self._tell()

    def _count(
        self, rows: list[dict[str, Any]], encoded: SmartEmbeddings | None, removed: int, whole: list[_File]
    ) -> None:
        self._report.passages += len(rows)
        self._report.pictures += sum(row.get("media") is not None for row in rows)
        self._report.passages_removed += removed
        self._report.tokens += int(encoded.offsets[-1]) if encoded is not None else 0
        self._report.added += sum(not file.known for file in whole)
        self._report.updated += sum(file.known for file in whole)

    def _encoded(self) -> tuple[list[dict[str, Any]], SmartEmbeddings | None]:
        """The rows that wait, without those whose pictures cannot be read, and their encodings."""
        if not self._rows:
            return [], None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SmartWarning)  # counted in the report instead
            encoded = self._index.model.encode_document(
                [row.get("item", row["text"]) for row in self._rows], show_progress=False, on_error="skip"
            )
        self._report.truncated += encoded.report.truncated_tokens
        reasons = dict(encoded.report.failures)
        kept = []
        for position, (row, file) in enumerate(zip(self._rows, self._owners, strict=True)):
            if position in reasons:
                file.failed += 1
                self._report.skipped.add(_failure(row, reasons[position]))
            else:
                file.encoded += 1
                kept.append(row)
        return kept, encoded

    def _tell(self) -> None:
        self._advance(self._bytes)
        self._bytes = 0


def _failure(row: dict[str, Any], reason: str) -> Skipped:
    """The record of a picture that could not be decoded, under the reason that others of its kind have, too."""
    name = str(row["source"])
    watched = row.get("media")
    if isinstance(watched, Watched) and watched.error is not None:
        return Skipped.from_error(name, watched.error)
    return Skipped(name, "cannot be read", reason, failed=True)
