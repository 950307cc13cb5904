"""The index's folder: how it comes to be, and how it is recognised."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

from ...errors import IndexDamagedError, IndexFormatError, SmartError
from ...files import sync_folder
from . import pictures
from .connections import GATE, Connections, connect, translated
from .lexical import FullText, add_functions
from .manifest import LANGUAGES, Manifest
from .pages import checkpoint
from .schema import (
    APPLICATION_ID,
    FORMAT_VERSION,
    PAGE_SIZE,
    READABLE,
    TABLES,
    State,
    check_objects,
    codes_table,
    plain_sql,
    write_codec,
)

FILE = "index.sqlite"
_PAGES_AT_ONCE = 4096


def check_place(folder: Path) -> None:
    """Refuse a place where no folder can be made, which is known before a model is loaded."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise SmartError(f"index {str(folder)!r}: found a file at {str(there)!r}, expected a folder, or none yet")
    if not os.access(there, os.W_OK | os.X_OK):
        raise SmartError(f"index {str(folder)!r}: found no permission to write to {str(there)!r}; take another place")


def create(folder: Path, manifest: Manifest, codec: bytes) -> None:
    """Make an empty index; it appears under its name only when it is whole."""
    with _appearing(folder) as partial:
        _build(partial, manifest, codec)


def copy(connections: Connections, folder: Path) -> None:
    """Copy the newest commit into a folder without an index, while writers go on; it appears when it is whole."""
    with connections.reading() as source, _appearing(folder) as partial:
        source.execute("SELECT 1 FROM sqlite_master").fetchone()  # from here on it sees one commit
        with closing(connect(f"{partial.absolute().as_uri()}?mode=rwc", connections.timeout)) as target:
            source.backup(target, pages=_PAGES_AT_ONCE)
            target.execute("PRAGMA journal_mode = WAL")
    with closing(connect_to(folder, writable=True, timeout=connections.timeout)) as copied, copied.alone() as opened:
        checkpoint(opened, copied.file, "TRUNCATE")  # which keeps checksums of its pages


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A file to be written, which becomes the index of the folder unless there is one."""
    target = folder / FILE
    taken = IndexFormatError(f"found an index at {str(folder)!r} already; open it, or remove the folder first")
    partial = folder / f"{FILE}.new-{secrets.token_hex(8)}"
    with GATE.passing(), translated(target):
        if target.exists():
            raise taken
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            try:
                os.link(partial, target)  # unlike a rename, it fails if another process was faster
            except FileExistsError:
                raise taken from None
            except OSError:
                os.replace(partial, target)  # a file system without hard links
            sync_folder(folder)
        finally:
            for leftover in folder.glob(partial.name + "*"):
                leftover.unlink(missing_ok=True)


def _build(file: Path, manifest: Manifest, codec: bytes) -> None:
    with closing(connect(file.absolute().as_uri(), 5.0)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        for statement in TABLES.split(";")[:-1]:
            connection.execute(statement)
        connection.execute(codes_table("codes"))
        if full_text := FullText.of(manifest):
            full_text.create(connection)
        manifest.write(connection)
        state = State()
        write_codec(connection, state.generation, codec)
        state.write(connection)
        connection.execute("COMMIT")


def connect_to(folder: Path, *, writable: bool, timeout: float) -> Connections:
    """Connect to the index of a folder."""
    file = folder / FILE
    with translated(file):  # a folder that one may not look into
        for ending in ("-wal", "-shm"):
            if Path(f"{file}{ending}").is_symlink():
                raise IndexFormatError(
                    f"found a link at {str(folder)!r} in place of {FILE}{ending}; SQLite would write there"
                )
        found = file.is_file()
    if not found:
        raise IndexFormatError(f"found no index at {str(folder)!r} (no {FILE} there); check the path, or create one")
    connections = Connections(file, writable=writable, timeout=timeout)
    try:
        _check_format(connections)
    except BaseException:
        connections.close()
        raise
    return connections


def _check_format(connections: Connections) -> None:
    where = f"{str(connections.file)!r}"
    try:
        with connections.reading() as connection:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
    except IndexDamagedError as error:
        raise IndexFormatError(f"{where} is no SQLite database ({error}); check the path") from error
    if application != APPLICATION_ID:
        raise IndexFormatError(f"{where} is a database of something else, not an index; check the path")
    if version not in READABLE:
        todo = "upgrade smart-retrieval" if version > FORMAT_VERSION else "index the documents again"
        raise IndexFormatError(f"{where}: found format {version}, this version reads formats 1 and 2; {todo}")
    with connections.reading() as connection:
        check_objects(connection, _objects())


@cache
def _objects() -> dict[str, set[str]]:
    """Everything that an index may hold, and how it is made."""
    allowed: dict[str, set[str]] = {}
    for full_text in (None, *(FullText(language, folding) for language in LANGUAGES for folding in (True, False))):
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.executescript(f"{TABLES};{codes_table('codes')};{codes_table('codes_next')};{pictures.TABLE}")
            add_functions(connection)
            if full_text is not None:
                try:
                    full_text.create(connection)
                except SmartError:  # this SQLite has no FTS5
                    break
            for name, sql in connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"):
                allowed.setdefault(name, set()).add(plain_sql(sql))
    return allowed
