"""New codes for old, and a smaller file: the two long jobs, each safe to kill at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress
from dataclasses import replace
from sqlite3 import Connection, OperationalError
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...errors import IndexBusyError, IndexMismatchError, SmartError
from .checksums import blob_checksum, checksum
from .connections import Handle
from .lock import file_lock
from .manifest import Manifest
from .records import Vectors
from .schema import codes_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .store import Store

KEPT_COMMITS = 1000  # derived files of any of these can still be caught up instead of written anew
Encode: TypeAlias = Callable[[Vectors], tuple[NDArray[Any], NDArray[Any]]]


@contextmanager
def _one_at_a_time(store: Store) -> Iterator[None]:
    with file_lock(store.path / "optimize.lock", 0) as held:
        if not held:
            raise IndexBusyError(f"index {str(store.path)!r}: another process is optimizing it; wait until it is done")
        yield


def recode(
    store: Store,
    codec: bytes,
    encode: Encode,
    *,
    codec_name: str,
    code_width: int,
    batch: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Encode every document's codes anew and change the codec with them.

    The new codes grow in a table of their own, one transaction a batch, while searches and writers go on with the old
    ones. The last transaction encodes what was added meanwhile and swaps: before it everything is old, after it
    everything is new, and a run that is killed leaves the old index and a table that the next run drops.
    """
    with _one_at_a_time(store):
        with store.transaction() as handle:
            handle.connection.execute("DROP TABLE IF EXISTS codes_next")
            handle.connection.execute(codes_table("codes_next"))
        last, done = 0, 0
        while len((vectors := store.read_after(last, batch)).rowids):
            rows = _encoded(store, vectors, encode, code_width)
            with store.transaction() as handle:
                _insert(handle.connection, rows)
            last, done = int(vectors.rowids[-1]), done + len(vectors.rowids)
            if progress is not None:
                progress(done, max(done, store.count()))
        with store.transaction() as handle:
            while len((vectors := store.read_after(last, batch)).rowids):
                _insert(handle.connection, _encoded(store, vectors, encode, code_width))
                last = int(vectors.rowids[-1])
            _swap(store, handle, codec, codec_name, code_width)
        store.reload()


def _encoded(store: Store, vectors: Vectors, encode: Encode, code_width: int) -> list[tuple[Any, ...]]:
    codes, offsets = encode(vectors)
    if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != code_width:
        raise IndexMismatchError(
            f"found {codes.dtype} codes of shape {codes.shape}, expected uint8 of {code_width} bytes a token"
        )
    if len(offsets) != len(vectors.rowids) + 1 or offsets[-1] != len(codes):
        raise IndexMismatchError(f"found offsets for {len(offsets) - 1} documents, expected {len(vectors.rowids)}")
    ids = store.ids_of(vectors.rowids)
    rows = []
    for index, (rowid, id) in enumerate(zip(vectors.rowids.tolist(), ids, strict=True)):
        if id is None:
            continue  # deleted since it was read
        blob = codes[offsets[index] : offsets[index + 1]].tobytes()
        count = int(offsets[index + 1] - offsets[index])
        rows.append((rowid, count, blob, blob_checksum(rowid, id, count, blob)))
    return rows


def _insert(connection: Connection, rows: Iterable[tuple[Any, ...]]) -> None:
    # A document may have been deleted since it was read.
    connection.executemany(
        "INSERT INTO codes_next SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM documents WHERE rowid = ?1)", rows
    )


def _swap(store: Store, handle: Handle, codec: bytes, codec_name: str, code_width: int) -> None:
    connection, state = handle.connection, handle.state
    assert state is not None
    count, tokens = connection.execute("SELECT count(*), ifnull(sum(n_tokens), 0) FROM codes_next").fetchone()
    if count != state.documents:
        raise SmartError(f"found new codes for {count} of {state.documents} documents; the old ones stay")
    connection.execute("DROP TABLE codes")
    connection.execute("ALTER TABLE codes_next RENAME TO codes")
    state.tokens, state.generation = tokens, state.generation + 1
    write_codec(connection, state.generation, codec)
    # Read anew: another process may have noted something since this one opened the index.
    replace(Manifest.read(connection), codec=codec_name, code_width=code_width).write(connection)
    handle.dirty = True


def write_codec(connection: Connection, generation: int, codec: bytes) -> None:
    """Store the codec's bytes in place of any other."""
    connection.execute("DELETE FROM codec")
    connection.execute("INSERT INTO codec VALUES (?, ?, ?)", (generation, codec, checksum(generation, codec)))


def compact(store: Store) -> None:
    """Give deleted rows' space back, forget the older part of the log of deletes, and merge the full-text index.

    Needs as much free disk as the index is large, for a moment.
    """
    with _one_at_a_time(store):
        with store.transaction() as handle:
            handle.connection.execute("DROP TABLE IF EXISTS codes_next")
            if handle.state is not None:
                oldest = handle.state.number - KEPT_COMMITS
                handle.connection.execute("DELETE FROM tombstones WHERE deleted <= ?", (oldest,))
                handle.connection.execute("DELETE FROM commits WHERE number < ?", (oldest,))
            handle.dirty = True
            if store.manifest.lexical:
                handle.connection.execute("INSERT INTO lexical (lexical) VALUES ('optimize')")
        with store.connections.alone() as connection:
            connection.execute("PRAGMA optimize")
            connection.execute("VACUUM")
            connection.execute("PRAGMA busy_timeout = 1000")
            # Readers that hold on to an older commit keep the WAL from being emptied; the next checkpoint will.
            with suppress(OperationalError):
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.execute(f"PRAGMA busy_timeout = {int(store.connections.timeout * 1000)}")
