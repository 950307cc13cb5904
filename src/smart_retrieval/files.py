"""Files: opened safely, replaced whole, and the record of those that cannot be read."""

from __future__ import annotations

import os
import secrets
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from .errors import MediaError, MissingExtraError


def open_local(path: str | Path) -> BufferedReader:
    """Open a regular file for reading bytes; the caller closes it.

    Raises:
        UnreadableFileError: It is missing, not permitted, or not a regular file.

    Example:
        >>> open_local("no/such/file")
        Traceback (most recent call last):
        smart_retrieval.files.UnreadableFileError: cannot read no/such/file: no such file or directory
    """
    try:
        # Opening a named pipe would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise os_error(path, error) from error
    except ValueError as error:  # a NUL character in the name
        raise UnreadableFileError(path, "not the name of a file", str(error)) from error
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        file = os.fdopen(descriptor, "rb")
    except OSError as error:  # a folder
        os.close(descriptor)
        raise os_error(path, error) from error
    if not regular:
        file.close()
        raise UnreadableFileError(path, "not a regular file")
    return file


@contextmanager
def atomic_file(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """A new file beside ``path`` to write into; it replaces ``path`` when the block ends, and is removed if that fails.

    Args:
        path: The file to replace; its folder is made if missing.
        durable: Sync the file and its folder, so that the replacement survives a power failure.

    Example:
        >>> with atomic_file("result.json") as partial:  # doctest: +SKIP
        ...     partial.write_text("{}")
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Two writers of one file must not share a partial file.
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield partial
        if durable:
            with partial.open("rb+") as written:
                os.fsync(written.fileno())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    if durable:
        sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable, where the system allows it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows does not open folders
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse
        pass
    finally:
        os.close(descriptor)


class UnreadableFileError(MediaError):
    """One file cannot be read; a `MediaError` that also keeps its parts, so that a run can count reasons.

    Attributes:
        path: The file.
        reason: A short phrase shared by all files with this fault ("encrypted, needs a password").
        detail: What is particular to this file, often what the parser said; may be empty.

    Example:
        >>> print(UnreadableFileError("a.pdf", "not a readable PDF", "no trailer"))
        cannot read a.pdf: not a readable PDF (no trailer)
    """

    def __init__(self, path: str | Path, reason: str, detail: str = "") -> None:
        super().__init__(f"cannot read {path}: {reason}" + (f" ({detail})" if detail else ""))
        self.path = str(path)
        self.reason = reason
        self.detail = detail


def os_error(path: str | Path, error: OSError) -> UnreadableFileError:
    """Phrase an error of the operating system.

    Example:
        >>> print(os_error("a.txt", PermissionError(13, "Permission denied")))
        cannot read a.txt: permission denied
    """
    return UnreadableFileError(path, (error.strerror or type(error).__name__).lower())


@dataclass(frozen=True, slots=True)
class Skipped:
    """One thing passed over, for the run's summary.

    Attributes:
        path: What was passed over, as shown to the user.
        reason: A short phrase shared by everything passed over for this cause; runs count by it.
        detail: What is particular to this one; may be empty.
        failed: True if something is wrong with the file, False if it was left out on purpose (hidden, ignored,
            excluded, of a type that is not read).
    """

    path: str
    reason: str
    detail: str = ""
    failed: bool = False

    @classmethod
    def from_error(cls, path: str | Path, error: Exception) -> Skipped:
        """Turn the error one file raised into a record; a missing extra is one and the same reason for all files.

        Example:
            >>> Skipped.from_error("a.pdf", UnreadableFileError("a.pdf", "no pages")).reason
            'no pages'
        """
        if isinstance(error, UnreadableFileError):
            return cls(str(path), error.reason, error.detail, failed=True)
        if isinstance(error, MissingExtraError):
            return cls(str(path), str(error), failed=True)
        return cls(str(path), "cannot be read", f"{type(error).__name__}: {error}", failed=True)


class SkipLog:
    """Counts everything passed over in a run, and keeps the first few of each reason.

    Bounded on purpose: a tree may hold a million ignored files.

    Args:
        keep: Most records kept for each reason; all are counted.

    Attributes:
        counts: How often each reason was met.
        failed: How many of them were failures (see `Skipped.failed`).

    Example:
        >>> log = SkipLog()
        >>> log.add(Skipped("a.pdf", "no pages", failed=True))
        >>> log.counts["no pages"], log.failed, [record.path for record in log]
        (1, 1, ['a.pdf'])
    """

    def __init__(self, keep: int = 1000) -> None:
        self.keep = keep
        self.counts: Counter[str] = Counter()
        self.failed = 0
        self._records: dict[str, list[Skipped]] = {}

    def add(self, record: Skipped) -> None:
        """Count one record."""
        self.counts[record.reason] += 1
        self.failed += record.failed
        kept = self._records.setdefault(record.reason, [])
        if len(kept) < self.keep:
            kept.append(record)

    def records(self, reason: str) -> list[Skipped]:
        """The records kept for one reason, in the order they came."""
        return list(self._records.get(reason, ()))

    def __iter__(self) -> Iterator[Skipped]:
        """All kept records, reason by reason."""
        for kept in self._records.values():
            yield from kept

    def __len__(self) -> int:
        """How many were passed over, kept or not."""
        return self.counts.total()
