"""SQLite connections of one index: one a thread, whole transactions only, errors by name.

Writers hold a lock file around every transaction *and* every checkpoint. SQLite's own lock would do for the
transaction, but SQLite before 3.51.3 may lose commits when a checkpoint runs while another connection restarts the
WAL (sqlite.org/wal.html#walresetbug); with automatic checkpoints off and ours under the writers' lock, that cannot be.

No connection is open while the process forks: SQLite would take its locks for the child's, too, and use the file
without them. So a fork waits for transactions of other threads, and both processes connect anew.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from ...errors import IndexBusyError, IndexDamagedError, IndexFullError, IndexReadOnlyError, SmartError
from ...locks import ForkGate, ForkLock
from . import lexical, where
from .lock import file_lock
from .pages import checkpoint
from .schema import State

CHECKPOINT_BYTES = 32 << 20
CACHE_KIB = 32 << 10
# Steps of SQLite's machine for one reading: far more than a scan of all rows takes, and an end to a damaged or hostile
# database whose pages lead around in circles.
STEPS_AT_ONCE, STEPS, STEPS_A_PAGE = 1_000_000, 500_000_000, 500_000


class _Steps:
    """Stops a statement, by returning true, when too many steps were taken."""

    left = most = STEPS

    def __call__(self) -> bool:
        self.left -= STEPS_AT_ONCE
        return self.left < 0


class Handle:
    """One thread's connection; closed with its thread or with the store, whichever ends first."""

    def __init__(self, connection: sqlite3.Connection, stamp: object = None) -> None:
        self.connection = connection
        self.stamp = stamp  # of the file, where it is read without locks
        self.depth = 0  # of nested transactions
        self.writing = False
        self.state = State()  # of the write transaction that runs
        self.seen: State | None = None  # by the reading that runs, once it was asked for
        self.dirty = False  # whether it changed anything
        self.closed = False
        self.pid = os.getpid()
        self.steps = _Steps()
        connection.set_progress_handler(self.steps, STEPS_AT_ONCE)

    def limit(self) -> None:
        """Begin to count the steps of a reading."""
        if not self.depth:
            self.steps.most = STEPS + STEPS_A_PAGE * self.connection.execute("PRAGMA page_count").fetchone()[0]
        self.steps.left = self.steps.most

    def close(self) -> None:
        """Close the connection, unless it came through a fork, of a thread in a transaction."""
        if self.pid == os.getpid():
            self.closed = True
            with suppress(sqlite3.Error):
                self.connection.close()

    def __del__(self) -> None:
        self.close()


class _Nested(AbstractContextManager[sqlite3.Connection]):
    """A reading inside of another of its thread, of which a search has a dozen."""

    __slots__ = ("_file", "_handle")

    def __init__(self, handle: Handle, file: Path) -> None:
        self._handle, self._file = handle, file

    def __enter__(self) -> sqlite3.Connection:
        self._handle.limit()
        self._handle.depth += 1
        return self._handle.connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.depth -= 1
        if not self._handle.depth:  # a generator that outlived the other
            self._handle.connection.rollback()
        if error is not None and not isinstance(error, SmartError):
            with translated(self._file):
                raise error


class Connections:
    """Transactions on ``index.sqlite`` from any number of threads; a writer waits ``timeout`` seconds for its turn."""

    def __init__(self, file: Path, *, writable: bool, timeout: float) -> None:
        self.file = file
        self.writable = writable
        self.timeout = timeout
        self._closed = False
        self._pid = os.getpid()
        self._inherited: list[object] = []
        self._copying = ForkLock()
        self._copy: tuple[tuple[int, ...], tempfile.TemporaryDirectory[str]] | None = None
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self._local = threading.local()
        self._handles: weakref.WeakSet[Handle] = weakref.WeakSet()

    # -- connections -------------------------------------------------------------------------------------------

    def _handle(self) -> Handle:
        if self._closed:
            raise SmartError(f"index {str(self.file.parent)!r}: it was closed; open it again")
        if self._pid != os.getpid():
            # Of a thread in a transaction, the parent's connection is kept from being closed here, not used.
            self._inherited.append((self._local, list(self._handles)))
            self._pid = os.getpid()
            self._reset()
        handle: Handle | None = getattr(self._local, "handle", None)
        if handle is not None and not handle.depth and handle.stamp is not None and handle.stamp != self._stamp():
            handle.close()  # an unlocked reader, and the file was written: start over
        if handle is None or handle.closed:
            handle = self._local.handle = self._open()
            self._handles.add(handle)
        return handle

    def _open(self) -> Handle:
        uri = self.file.absolute().as_uri()
        if self.writable:
            handle = Handle(connect(f"{uri}?mode=rw", self.timeout))
            handle.connection.execute("PRAGMA wal_autocheckpoint = 0")
            handle.connection.execute("PRAGMA journal_size_limit = 0")
            return handle
        try:
            return Handle(connect(f"{uri}?mode=ro", self.timeout))
        except sqlite3.OperationalError as error:
            # A folder that cannot be written to, or a full disk, has no room for WAL's shared memory, and so no writer
            # either. Without a WAL the file holds everything and is read without locks; else a copy of both is read.
            # The stamp of the file is compared before every transaction.
            refused = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
            if not refused and error.sqlite_errorcode != sqlite3.SQLITE_IOERR_SHMSIZE:
                raise
            stamp = self._stamp()
            if stamp[-1]:
                return Handle(connect(f"{self._copied(stamp).as_uri()}?mode=ro", self.timeout), stamp)
            return Handle(connect(f"{uri}?mode=ro&immutable=1", self.timeout), stamp)

    def _copied(self, stamp: tuple[int, ...]) -> Path:
        """A private copy of the file and its WAL, for all threads until they change; removed with this object."""
        with self._copying.held:
            if self._copy is None or self._copy[0] != stamp:
                folder = tempfile.TemporaryDirectory(prefix="smart-index-", ignore_cleanup_errors=True)
                for name in (self.file.name, f"{self.file.name}-wal"):
                    shutil.copyfile(self.file.with_name(name), Path(folder.name) / name)
                self._copy = stamp, folder
            return Path(self._copy[1].name) / self.file.name

    def _stamp(self) -> tuple[int, ...]:
        found = os.stat(self.file)
        with suppress(OSError):
            return (found.st_ino, found.st_size, found.st_mtime_ns, os.stat(f"{self.file}-wal").st_size)
        return (found.st_ino, found.st_size, found.st_mtime_ns, 0)

    def close(self) -> None:
        """Close every thread's connection; the last to close finds nothing in the write-ahead log any more."""
        handle = getattr(self._local, "handle", None)
        free = self.writable and not self._closed and self._pid == os.getpid() and not (handle and handle.depth)
        if free and os.path.exists(f"{self.file}-wal"):
            # Before SQLite does, which keeps no checksums of pages. Whoever holds the lock will do so in turn.
            with suppress(SmartError, OSError, sqlite3.Error), file_lock(self.file.with_name("write.lock"), 0) as held:
                if held:
                    checkpoint((handle or self._handle()).connection, self.file)
        self._closed = True
        for handle in list(self._handles):
            handle.close()

    def disconnect(self) -> None:
        """Close the connections that are in no transaction; each thread connects again when it needs to."""
        for handle in list(self._handles):
            if not handle.depth:
                handle.close()

    # -- transactions ------------------------------------------------------------------------------------------

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """One read transaction: everything inside sees the same commit. Nested ones join the outermost."""
        handle: Handle | None = getattr(self._local, "handle", None)
        if handle is not None and handle.depth and not self._closed and self._pid == os.getpid():
            return _Nested(handle, self.file)
        return self._outermost()

    @contextmanager
    def _outermost(self) -> Iterator[sqlite3.Connection]:
        with GATE.passing(), translated(self.file):
            handle = self._handle()
            if not handle.depth:
                handle.connection.execute("BEGIN")
                handle.seen = None
            handle.limit()
            handle.depth += 1
            try:
                yield handle.connection
            finally:
                handle.depth -= 1
                if not handle.depth:
                    handle.connection.rollback()

    def state(self) -> State:
        """The state of the newest commit, or of the one that this thread reads; not to be changed."""
        with self.reading() as connection:
            handle: Handle = self._local.handle
            if handle.writing:
                return State.read(connection)
            if handle.seen is None:
                handle.seen = State.read(connection)
            return handle.seen

    @contextmanager
    def writing(self) -> Iterator[Handle]:
        """One write transaction; it commits on leaving, or rolls back on any error. Nested ones join the outermost."""
        if not self.writable:
            raise SmartError(f"index {str(self.file.parent)!r}: it is open for reading; open it with mode='w'")
        with GATE.passing(), translated(self.file):
            handle = self._handle()
            if handle.writing:
                with _nested(handle):
                    yield handle
                return
            if handle.depth:
                raise SmartError("found a write inside reading(); a snapshot cannot be written to")
            with self._only_writer():
                handle.connection.execute("BEGIN IMMEDIATE")
                try:
                    handle.limit()
                    handle.state, handle.depth = State.read(handle.connection), 1
                    handle.state.number += 1
                    handle.writing, handle.dirty = True, False
                    yield handle
                    if handle.dirty:
                        handle.state.write(handle.connection)
                    handle.connection.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):
                        handle.connection.rollback()
                    raise
                finally:
                    handle.writing, handle.depth = False, 0
                self._checkpoint(handle.connection)

    @contextmanager
    def alone(self) -> Iterator[sqlite3.Connection]:
        """A connection outside any transaction while no other writer runs: for VACUUM and checkpoints."""
        with GATE.passing(), translated(self.file):
            handle = self._handle()
            if handle.depth:
                raise SmartError("found a transaction of this thread under way; finish it first")
            with self._only_writer():
                handle.limit()
                yield handle.connection

    @contextmanager
    def _only_writer(self) -> Iterator[None]:
        with file_lock(self.file.with_name("write.lock"), self.timeout) as held:
            if not held:
                raise IndexBusyError(
                    f"index {str(self.file.parent)!r}: another process is writing and did not finish within "
                    f"{self.timeout:g} s; try again, or open with a longer timeout"
                )
            yield

    def in_transaction(self) -> bool:
        """Whether this thread is inside :meth:`reading` or :meth:`writing`."""
        handle: Handle | None = getattr(self._local, "handle", None)
        return handle is not None and self._pid == os.getpid() and bool(handle.depth)

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        # What was committed stays in the WAL if this fails, and the next commit tries again.
        with suppress(OSError, sqlite3.Error):
            if os.stat(f"{self.file}-wal").st_size > CHECKPOINT_BYTES:
                checkpoint(connection, self.file)


_all: weakref.WeakSet[Connections] = weakref.WeakSet()


def _disconnect_all() -> None:
    for connections in list(_all):
        connections.disconnect()


#: Whatever uses SQLite is inside.
GATE = ForkGate(_disconnect_all)


@contextmanager
def _nested(handle: Handle) -> Iterator[None]:
    """A part of a write transaction that is undone alone when it fails, should the caller catch its error."""
    state = replace(handle.state)
    handle.connection.execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):  # a full disk has undone the whole transaction already
            handle.connection.execute("ROLLBACK TO part")
            handle.connection.execute("RELEASE part")
        handle.state = state
        raise
    handle.connection.execute("RELEASE part")


def connect(uri: str, timeout: float) -> sqlite3.Connection:
    """A connection with explicit transactions and the settings of this index."""
    # The thread check is off only so that close() may close other threads' connections.
    connection = sqlite3.connect(uri, timeout=timeout, isolation_level=None, check_same_thread=False, uri=True)
    try:
        connection.execute("PRAGMA user_version").fetchone()  # which opens the file, if it can be opened
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = FAST")  # Debian's default would write every freed page once more
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA temp_store = MEMORY")
        lexical.add_functions(connection)
        where.add_functions(connection)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def translated(file: Path) -> Iterator[None]:
    """Turn SQLite's and the system's errors into named ones."""
    where = f"index {str(file.parent)!r}"
    try:
        yield
    except sqlite3.Error as error:
        # An extended code keeps its family in the low byte; errors of the Python module itself have none.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _no_space(file)):
            raise IndexFullError(
                f"{where}: the disk is full ({error}); what was stored before is intact, free some space and try again"
            ) from error
        if code == sqlite3.SQLITE_IOERR:
            raise _io_error(where, error) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise IndexBusyError(f"{where}: another process holds it ({error}); try again") from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "decode to UTF-8" in str(error):
            raise IndexDamagedError(
                f"{where}: the database is damaged ({error}); run verify, then restore a copy or index again"
            ) from error
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            raise IndexReadOnlyError(
                f"{where}: cannot be opened or written ({error}); check the folder's permissions"
            ) from error
        if code == sqlite3.SQLITE_INTERRUPT:
            raise IndexDamagedError(
                f"{where}: reading it takes more steps than an index of its size can need; restore a copy"
            ) from error
        if isinstance(error, _OF_DATA) and code not in _OF_THE_SYSTEM:
            raise IndexDamagedError(f"{where}: the database is not as it was made ({error}); restore a copy") from error
        raise
    except OverflowError as error:  # a count that has grown past what the database holds
        raise IndexDamagedError(f"{where}: found a number out of range ({error}); restore a copy") from error
    except UnicodeDecodeError as error:  # in the words of an error of SQLite, for one
        raise IndexDamagedError(f"{where}: found text that is not UTF-8 ({error}); restore a copy") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise IndexFullError(f"{where}: the disk is full ({error}); free some space and try again") from error
        if error.errno == errno.EIO:
            raise IndexDamagedError(f"{where}: the disk fails ({error}); check it, then restore a copy") from error
        if error.errno in (errno.EPERM, errno.EACCES, errno.EROFS):
            raise IndexReadOnlyError(
                f"{where}: cannot be opened or written ({error}); check the folder's permissions"
            ) from error
        raise


_OF_DATA = (sqlite3.OperationalError, sqlite3.DataError, sqlite3.IntegrityError)
_OF_THE_SYSTEM = (sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL, 0)

_OF_WRITING = {
    sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE, sqlite3.SQLITE_IOERR_SHMSIZE,
}  # fmt: skip


def _io_error(where: str, error: sqlite3.Error) -> SmartError:
    if error.sqlite_errorcode in _OF_WRITING:
        return IndexFullError(
            f"{where}: cannot be written ({error}): a quota or a limit of a file's size is reached, or the disk fails; "
            "what was stored before is intact"
        )
    return IndexDamagedError(f"{where}: cannot be read ({error}); check the disk, then restore a copy")


def _no_space(file: Path) -> bool:
    try:
        return shutil.disk_usage(file.parent).free < 1 << 20
    except OSError:
        return False
