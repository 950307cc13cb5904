"""Files read into batches of documents that are encoded and committed together."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ...documents.read import NO_TEXT
from ...errors import MediaError, MissingExtraError, SmartError
from ...files import FoundFile, SkipLog, Skipped, UnreadableFileError, content_hash
from ..store.records import FileEntry
from .file_reader import FileReader
from .new_documents import NewDocument


@dataclass(eq=False)
class IngestFile:
    """A file on its way into the index, and what became of its documents so far."""

    path: str
    known: bool  # whether the index held it whole before
    dropped: bool = False  # whether what the index held of it is deleted
    encoded: int = 0
    failed: int = 0


@dataclass(eq=False)
class FilePart:
    """Documents of a file in one batch, the last of them where there is an entry, or where it is broken."""

    file: IngestFile
    documents: list[NewDocument] = field(default_factory=list)
    entry: FileEntry | None = None  # once it is read whole
    broken: bool = False  # whether it could not be read on
    textless: bool = False  # whether it was read whole and has no text

    @property
    def weight(self) -> int:
        """What its documents count in the batch."""
        return sum(document.weight for document in self.documents)

    @property
    def whole(self) -> bool:
        """Whether it is read whole, and not every one of its documents failed to be encoded."""
        return self.entry is not None and (self.file.encoded > 0 or not self.file.failed)


@dataclass(eq=False)
class ReadBatch:
    """What is stored together, and what was noted on the way there."""

    parts: list[FilePart] = field(default_factory=list)
    touched: list[FileEntry] = field(default_factory=list)  # of files that changed in nothing but their time
    skipped: SkipLog = field(default_factory=SkipLog)
    notes: list[tuple[str, list[str]]] = field(default_factory=list)
    done: int = 0  # bytes of files read so far in the whole run


@dataclass(eq=False)
class _Reading:
    """The batch that grows, of documents that weigh ``most``; ``stop`` is set once nobody wants another."""

    reader: FileReader
    most: int
    stop: threading.Event
    batch: ReadBatch = field(default_factory=ReadBatch)
    bytes: int = 0

    def taken(self) -> ReadBatch:
        """The batch as it is, and a new one begun."""
        batch, self.batch = self.batch, ReadBatch()
        batch.done = self.bytes
        return batch

    def read(self, found: FoundFile, before: FileEntry | None) -> Iterator[ReadBatch]:
        """Read a file, whose entry in the index is ``before``; whatever is wrong with it is recorded."""
        end = self.bytes + found.size
        try:
            self.reader.check_size(found)
            # Before it is read: should it change meanwhile, the next run sees that.
            entry = FileEntry(found.relative, found.size, found.mtime_ns, content_hash(found.path))
        except MediaError as error:
            self.batch.skipped.add(Skipped.from_error(found.relative, error))
        else:
            if before is not None and before.sha256 == entry.sha256:
                self.batch.touched.append(entry)
            else:
                yield from self._documents(found, IngestFile(found.relative, before is not None), entry, end)
        self.bytes = end
        full = sum(part.weight for part in self.batch.parts) >= self.most
        if full or len(self.batch.parts) + len(self.batch.touched) >= 4 * self.most:
            yield self.taken()

    def _documents(self, found: FoundFile, file: IngestFile, entry: FileEntry, end: int) -> Iterator[ReadBatch]:
        """Add a file's documents; a batch wherever those of this file alone fill one."""
        part, begun = FilePart(file), False
        notes: list[str] = []
        skipped = SkipLog()
        documents = self.reader.documents(found, notes, skipped)
        try:
            for document in documents:
                if self.stop.is_set():
                    return
                part.documents.append(document)
                self.bytes = min(end, self.bytes + len(document.item.text))
                if part.weight >= self.most:
                    self.batch.parts.append(part)
                    yield self.taken()
                    part, begun = FilePart(file), True
            part.entry = entry
        except Exception as error:  # a fault in one file's parser must not cost the others
            part = FilePart(file, broken=True)
            # It was read whole, and what the index holds of it is not in it any more.
            part.textless = isinstance(error, UnreadableFileError) and error.reason == NO_TEXT
            record = Skipped.from_error(file.path, error)
            if isinstance(error, SmartError) and not isinstance(error, MediaError | MissingExtraError):
                record = Skipped(file.path, "cannot be stored", str(error), failed=True)
            skipped.add(record)
        finally:
            documents.close()
        if part.entry is not None or begun or part.textless:
            self.batch.parts.append(part)
        self.batch.skipped.update(skipped)
        self.batch.notes.append((file.path, notes))


def read_batches(
    reader: FileReader,
    files: Iterable[FoundFile],
    known: Mapping[str, FileEntry],
    most: int,
    stop: threading.Event,
) -> Generator[ReadBatch, None, None]:
    """Documents of files in batches that weigh ``most`` or somewhat more; the last one may hold none."""
    reading = _Reading(reader, most, stop)
    for found in files:
        if stop.is_set():
            return
        yield from reading.read(found, known.get(found.relative))
    yield reading.taken()
