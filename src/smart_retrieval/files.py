"""Files: opened safely, hashed, replaced atomically, and the record of those that were skipped or cannot be read."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from .errors import MediaError, MissingExtraError, SmartError

NOT_REGULAR = "not a regular file"
OF_THE_SYSTEM = "of the system (as under /proc), not of a disk"
_LEAST_READ = 64 * 2**20
_STRAY_BYTE = re.compile("[\udc80-\udcff]")  # a byte that is no UTF-8, as ``os.fsdecode`` has it
_ESCAPED_BYTE = re.compile(r"\\(?=x(?:5c|[89a-f][0-9a-f]))")
_ESCAPE = re.compile(r"\\x(5c|[89a-f][0-9a-f])")


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


def valid_name(name: str) -> str:
    r"""A name of a file as Unicode text: bytes that are no UTF-8 as ``\xNN``; different names stay different.

    Python shows such bytes as halves of characters, which no database takes. A name that spells ``\xNN`` itself gets a
    second ``\x5c``.

    Example:
        >>> valid_name(os.fsdecode(b"caf\xe9.txt")), valid_name("café.txt")
        ('caf\\xe9.txt', 'café.txt')
    """
    name = _ESCAPED_BYTE.sub(r"\\x5c", name)
    name = _STRAY_BYTE.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", name)
    return name.encode("utf-8", "backslashreplace").decode()  # halves of characters, which Windows allows


def typed_name(name: str) -> str:
    """A name or id that a user gave: as :func:`valid_name` has it where it holds bytes that are no UTF-8."""
    return valid_name(name) if _STRAY_BYTE.search(name) else name


def path_on_disk(folder: str | Path, name: str) -> Path:
    """The path that opens a file of a folder, whose name there is as :func:`valid_name` has it."""
    real = _ESCAPE.sub(lambda found: "\\" if found[1] == "5c" else chr(0xDC00 + int(found[1], 16)), name)
    # A source that a user gave to an index is in nobody's notation.
    return Path(folder) / (real if real != name and (Path(folder) / real).exists() else name)


def settled(path: str | Path) -> Path:
    """The path as it is meant now: absolute and without ``~``, whatever the working directory or the home are later."""
    return Path(os.path.expanduser(path)).absolute()


def user_cache() -> Path:
    """This user's cache folder: ``$SMART_CACHE``, else ``$XDG_CACHE_HOME/smart-retrieval``, else below ``~/.cache``.

    An empty variable counts as not set.
    """
    own, base = os.environ.get("SMART_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return settled(Path(own) if own else Path(base or "~/.cache") / "smart-retrieval")


def os_error(path: str | Path, error: OSError) -> UnreadableFileError:
    """An error of the operating system, phrased like all others ("cannot read a.txt: permission denied")."""
    return UnreadableFileError(path, (error.strerror or type(error).__name__).lower())


def open_local(path: str | Path) -> BufferedReader:
    """Open a regular file of an ordinary file system for reading bytes; the caller closes it.

    Pipes, sockets and devices are refused before they are opened, and so are the files of /proc, /sys and their like:
    some wait for ever, some never end. Of a file that grows meanwhile no more is read than it holds now, or 64 MiB.
    """
    try:
        # Before it is opened, as that alone may rewind a tape or wake the writer of a pipe.
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            raise UnreadableFileError(path, "is a directory" if stat.S_ISDIR(mode) else NOT_REGULAR)
        raw = _UpToItsSize(path, "rb", opener=_open_without_waiting)
        try:
            status = os.fstat(raw.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableFileError(path, NOT_REGULAR)
            if is_of_the_system(raw.fileno()):
                raise UnreadableFileError(path, OF_THE_SYSTEM)
            # Some network file systems do not know how much there is.
            raw.most = max(status.st_size, _LEAST_READ)
            return BufferedReader(raw)
        except BaseException:
            raw.close()
            raise
    except OSError as error:
        raise os_error(path, error) from error
    except ValueError as error:  # a NUL character in the name
        raise UnreadableFileError(path, "not the name of a file", str(error)) from error


def _open_without_waiting(path: str, flags: int) -> int:
    # It may have become a named pipe since, whose opening would wait for a writer for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


class _UpToItsSize(FileIO):
    """A file that ends where it ended when it was opened, however fast it grows."""

    most = 0

    def readinto(self, buffer: Any) -> int:
        left = max(0, self.most - self.tell())
        view = memoryview(buffer).cast("B")
        return super().readinto(view[:left]) or 0

    def readall(self) -> bytes:
        pieces = []
        while piece := self.read(min(2**20, max(0, self.most - self.tell()))):
            pieces.append(piece)
        return b"".join(pieces)


# Of Linux, in statfs(2) and the kernel's magic.h: file systems whose files are made up as they are read.
_SYSTEM_KINDS = frozenset(
    {0x9FA0, 0x62656572, 0x64626720, 0x74726163, 0x27E0EB, 0x63677270, 0x73636673, 0x62656570, 0xCAFE4A11}  # proc, sys
    | {0x6165676C, 0xDE5E81E4, 0x19800202, 0x1CD1, 0xF97CFF8C, 0x43415D53, 0x5A3C69F0, 0x42494E4D, 0x6E736673}
)


def is_of_the_system(file: int | Path) -> bool:
    """Whether an open file, or a folder, is one of /proc, /sys and the like: made up as it is read, perhaps endless."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    found = (ctypes.c_long * 64)()  # larger than any struct statfs, which begins with the kind
    failed = _libc().fstatfs(file, found) if isinstance(file, int) else _libc().statfs(os.fsencode(file), found)
    return not failed and found[0] & 0xFFFFFFFF in _SYSTEM_KINDS


@cache
def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None)


def read_bytes(path: str | Path, max_bytes: int) -> bytes:
    """Read a regular file whole, never more than a limit."""
    with open_local(path) as file:
        try:
            if os.fstat(file.fileno()).st_size > max_bytes:
                raise too_large(path, max_bytes)
            # One more than allowed: it may grow meanwhile.
            data = file.read(max_bytes + 1)
        except OSError as error:
            raise os_error(path, error) from error
    if len(data) > max_bytes:
        raise too_large(path, max_bytes)
    return data


def too_large(path: str | Path, max_bytes: int) -> UnreadableFileError:
    """The error of a file with more bytes than are read."""
    return UnreadableFileError(path, f"larger than the limit of {max_bytes:,} bytes")


def content_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, read piece by piece.

    Returns:
        64 hexadecimal digits.

    Raises:
        MediaError: The file cannot be read.

    Example:
        >>> content_hash(os.devnull)[:8] if Path(os.devnull).is_file() else "e3b0c442"
        'e3b0c442'
    """
    with open_local(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise os_error(path, error) from error


@contextmanager
def atomic_file(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """A new file beside ``path`` to write into; it replaces ``path`` when the block ends, and is removed if that fails.

    The folder is made if missing. ``durable`` syncs file and folder, so that the replacement survives a power failure.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Two writers of one file must not share a partial file.
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with naming(target):
            yield partial
            if durable:
                with partial.open("rb+") as written:
                    os.fsync(written.fileno())
            os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    if durable:
        sync_folder(target.parent)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """An error of the system tells of this path where it tells of none, as on a disk that is full."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or os.fspath(path)
        raise


def write_text(text: str | bytes, file: Path, error: type[SmartError] = SmartError) -> None:
    """Write a file that a user named, with line ends as they are; an `OSError` becomes an error of the given class."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Not replaced as a whole: it may be a pipe or a link.
        file.write_bytes(text.encode("utf-8", errors="backslashreplace") if isinstance(text, str) else text)
    except OSError as reason:
        raise error(f"cannot write {file} ({reason.strerror or reason}): name another file") from reason


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


@dataclass(frozen=True, slots=True)
class FoundFile:
    r"""A regular file that a scan of a folder found.

    Attributes:
        path: Where it can be opened.
        relative: Its path relative to the root, ``/`` between folders; ids are made of it. Bytes that are not UTF-8
            are written as ``\xNN``.
        size: In bytes.
        mtime_ns: Time of last change, in nanoseconds since 1970.
        outside: Whether a symbolic link led out of the root to it.
    """

    path: Path
    relative: str
    size: int
    mtime_ns: int
    outside: bool = False


@dataclass(frozen=True, slots=True)
class Skipped:
    """One thing skipped, for the run's summary.

    Attributes:
        path: What was skipped, as shown to the user.
        reason: A short phrase shared by everything skipped for this cause; runs count by it.
        detail: What is particular to this one; may be empty.
        failed: True if something is wrong with the file, False if it was left out on purpose (hidden, ignored,
            excluded, of a type that is not read).
    """

    path: str
    reason: str
    detail: str = ""
    failed: bool = False

    @classmethod
    def from_error(cls, path: str | Path, error: Exception, *, failed: bool = True) -> Skipped:
        """Turn the error one file raised into a record; a missing extra is the same reason for all files.

        Example:
            >>> Skipped.from_error("a.pdf", UnreadableFileError("a.pdf", "no pages")).reason
            'no pages'
        """
        if isinstance(error, MissingExtraError):
            return cls(str(path), str(error), failed=failed)
        if isinstance(error, OSError):
            error = os_error(path, error)
        if isinstance(error, UnreadableFileError):
            return cls(str(path), error.reason, error.detail, failed)
        return cls(str(path), "cannot be read", f"{type(error).__name__}: {error}", failed)


class SkipLog:
    """Counts everything skipped in a run, and keeps the first records of each reason.

    Args:
        keep: Most records kept for each reason, as a tree may hold a million ignored files; all are counted.

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

    def update(self, other: SkipLog) -> None:
        """Count what another has counted."""
        self.counts.update(other.counts)
        self.failed += other.failed
        for reason in other.counts:
            kept = self._records.setdefault(reason, [])
            kept += other.records(reason)[: max(0, self.keep - len(kept))]

    def records(self, reason: str) -> list[Skipped]:
        """The records kept for one reason, in the order they came."""
        return list(self._records.get(reason, ()))

    def __iter__(self) -> Iterator[Skipped]:
        """All kept records, reason by reason."""
        for kept in self._records.values():
            yield from kept

    def __len__(self) -> int:
        """How many were skipped, kept or not."""
        return self.counts.total()
