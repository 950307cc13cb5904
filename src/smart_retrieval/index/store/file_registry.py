"""Which files are in the index, so that a second run touches only what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...types import Array
from .checksums import checksum
from .records import FileEntry

if TYPE_CHECKING:
    from .store import Store


class FileRegistry:
    """The files table. A file's passages carry its path as their ``source``; its entry says that all are there.

    Write the entry in the transaction of the file's last passages: a run that is interrupted before leaves passages
    without an entry, which :meth:`drop` clears away before the file is read again.

    Args:
        store: The store it belongs to.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, entry: FileEntry) -> None:
        """Note a file as whole, in place of any earlier entry of its path."""
        values = (entry.path, entry.size, entry.mtime_ns, entry.sha256)
        with self._store.transaction() as handle:
            handle.connection.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", (*values, checksum(*values))
            )
            handle.dirty = True

    def get(self, path: str) -> FileEntry | None:
        """The entry of a path."""
        with self._store.reading() as connection:
            row = connection.execute(
                "SELECT path, size, mtime_ns, sha256 FROM files WHERE path = ?", (path,)
            ).fetchone()
        return None if row is None else FileEntry(*row)

    def all(self) -> dict[str, FileEntry]:
        """Every entry by path."""
        with self._store.reading() as connection:
            rows = connection.execute("SELECT path, size, mtime_ns, sha256 FROM files ORDER BY path").fetchall()
        return {row[0]: FileEntry(*row) for row in rows}

    def rowids(self, path: str) -> Array:
        """Rowids of the passages of a file, ``[n]`` int64 ascending."""
        with self._store.reading() as connection:
            rows = connection.execute("SELECT rowid FROM documents WHERE source = ? ORDER BY rowid", (path,))
            return np.fromiter((row[0] for row in rows), np.int64)

    def drop(self, path: str) -> int:
        """Delete a file's passages and its entry in one commit.

        Returns:
            Passages deleted.
        """
        with self._store.transaction() as handle:
            deleted = self._store.delete(rowids=self.rowids(path))
            if handle.connection.execute("DELETE FROM files WHERE path = ?", (path,)).rowcount:
                handle.dirty = True
            return deleted
