"""New codes for old, and a smaller file: the two long jobs, each safe to kill at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from sqlite3 import Connection, OperationalError
from typing import Any, TypeAlias

import numpy as np

from ...errors import IndexBusyError, IndexMismatchError, SmartError
from ...types import Array
from .connections import Connections, Handle
from .lock import file_lock
from .manifest import Manifest
from .pages import checkpoint
from .records import Vectors
from .rows import ids_of, iterate
from .schema import blob_checksum, codes_table, write_codec

KEPT_COMMITS = 1000  # mapped files of any of these can still be caught up instead of rewritten
Encode: TypeAlias = Callable[[Vectors], tuple[Array, Array]]


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    with file_lock(folder / "optimize.lock", 0) as held:
        if not held:
            raise IndexBusyError(f"index {str(folder)!r}: another process is optimizing it; wait until it is done")
        yield


def recode(
    connections: Connections,
    manifest: Manifest,
    codec: bytes,
    encode: Encode,
    *,
    codec_name: str,
    code_width: int,
    batch: int,
) -> None:
    """Re-encode every document and change the codec with the codes.

    The new codes grow in a table of their own, one transaction a batch, while searches and writers go on with the old
    ones. The last transaction encodes what was added meanwhile and swaps: before it everything is old, after it
    everything is new, and a run that is killed leaves the old index and a table that the next run drops.
    """
    with _one_at_a_time(connections.file.parent):
        with connections.writing() as handle:
            handle.connection.execute("DROP TABLE IF EXISTS codes_next")
            handle.connection.execute(codes_table("codes_next"))
        last = 0
        for vectors in iterate(connections, manifest, 0, batch):
            rows = _encoded(connections, vectors, encode, code_width)
            with connections.writing() as handle:
                _insert(handle.connection, rows)
            last = int(vectors.rowids[-1])
        with connections.writing() as handle:
            for vectors in iterate(connections, manifest, last, batch):
                _insert(handle.connection, _encoded(connections, vectors, encode, code_width))
            _swap(handle, codec, codec_name, code_width)


def _encoded(connections: Connections, vectors: Vectors, encode: Encode, code_width: int) -> list[tuple[Any, ...]]:
    codes, offsets = encode(vectors)
    if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != code_width:
        raise IndexMismatchError(
            f"found {codes.dtype} codes of shape {codes.shape}, expected uint8 of {code_width} bytes a token"
        )
    if len(offsets) != len(vectors.rowids) + 1 or offsets[-1] != len(codes):
        raise IndexMismatchError(f"found offsets for {len(offsets) - 1} documents, expected {len(vectors.rowids)}")
    with connections.reading() as connection:
        ids = ids_of(connection, vectors.rowids)
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


def _swap(handle: Handle, codec: bytes, codec_name: str, code_width: int) -> None:
    connection, state = handle.connection, handle.state
    count, tokens = connection.execute("SELECT count(*), ifnull(sum(n_tokens), 0) FROM codes_next").fetchone()
    if count != state.documents:
        raise SmartError(f"found new codes for {count} of {state.documents} documents; the old ones stay")
    connection.execute("DROP TABLE codes")
    connection.execute("ALTER TABLE codes_next RENAME TO codes")
    state.tokens, state.generation = tokens, state.generation + 1
    write_codec(connection, state.generation, codec)
    # Read again: another process may have noted something since this one opened the index.
    replace(Manifest.read(connection), codec=codec_name, code_width=code_width).write(connection)
    handle.dirty = True


def compact(connections: Connections, *, with_lexical: bool) -> None:
    """Give deleted rows' space back, forget the older part of the log of deletes, and merge the full-text index.

    Needs as much free disk as the index is large, for a moment.
    """
    with _one_at_a_time(connections.file.parent):
        with connections.writing() as handle:
            oldest = handle.state.number - KEPT_COMMITS
            handle.connection.execute("DROP TABLE IF EXISTS codes_next")
            handle.connection.execute("DELETE FROM tombstones WHERE deleted <= ?", (oldest,))
            handle.connection.execute("DELETE FROM commits WHERE number < ?", (oldest,))
            if with_lexical:
                handle.connection.execute("INSERT INTO lexical (lexical) VALUES ('optimize')")
            handle.dirty = True
        with connections.alone() as connection:
            connection.execute("PRAGMA optimize")
            connection.execute("VACUUM")
            connection.execute("PRAGMA busy_timeout = 1000")
            # Readers that hold on to an older commit keep the WAL from being emptied; the next checkpoint will.
            with suppress(OperationalError):
                checkpoint(connection, connections.file, "TRUNCATE")
            connection.execute(f"PRAGMA busy_timeout = {int(connections.timeout * 1000)}")
