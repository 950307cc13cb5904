"""The indexes of a server by name: opened when they are asked for, closed when nobody used them for a while."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ...errors import UnknownIndexError, one_of
from ...index.shards.sharded_index import open_index
from ...index.shards.split import shard_folders
from ...index.store.folder import FILE
from ..stored import AnyIndex


class _Opened:
    def __init__(self, index: AnyIndex, files: list[Path], inodes: list[int]) -> None:
        self.index, self.files, self.inodes = index, files, inodes
        self.users, self.used, self.retired = 0, time.monotonic(), False


class Catalog:
    """Indexes by name.

    Args:
        paths: Their folders.
        read_only: They are opened to read.
        model: Their model, if it was moved since.
        idle_s: Seconds after which one that nobody used is closed, unless it is the last that was used.
    """

    def __init__(self, paths: Mapping[str, Path], *, read_only: bool, model: str | None, idle_s: float) -> None:
        self.paths = dict(paths)
        self._read_only, self._model, self._idle_s = read_only, model, idle_s
        self._opened: dict[str, _Opened] = {}
        self._lock = threading.Lock()

    @property
    def open_names(self) -> list[str]:
        """Names of the indexes that are open."""
        return list(self._opened)

    def require(self, name: str) -> None:
        """Refuse a name that is not one of them.

        Raises:
            UnknownIndexError: It is not.
        """
        if name not in self.paths:
            raise UnknownIndexError(f"index: {one_of(name, self.paths)}")

    def missing(self) -> list[str]:
        """Names of indexes of which a database is gone."""
        opened = dict(self._opened)
        return [
            name
            for name, path in self.paths.items()
            if not all(map(_inode, opened[name].files if name in opened else _databases(path)))
        ]

    @contextmanager
    def use(self, name: str) -> Iterator[AnyIndex]:
        """An index, which stays open meanwhile.

        Raises:
            UnknownIndexError: There is none of this name.
        """
        self.require(name)
        with self._lock:
            opened = self._current(name)
            opened.users += 1
        try:
            yield opened.index
        finally:
            with self._lock:
                opened.users -= 1
                opened.used = time.monotonic()
                if opened.retired and not opened.users:
                    opened.index.close()

    def _current(self, name: str) -> _Opened:
        opened = self._opened.get(name)
        # Another may have been put in its place, as from a backup.
        if opened is not None and opened.inodes != [_inode(file) for file in opened.files]:
            self._retire(name)
            opened = None
        if opened is None:
            files = _databases(self.paths[name])
            inodes = [_inode(file) for file in files]
            index = open_index(self.paths[name], self._model, mode="r" if self._read_only else "w")
            opened = self._opened[name] = _Opened(index, files, inodes)
        if len(self._opened) > 1 and opened.index.encoder.loaded is None:
            for other in self._opened.values():
                opened.index.encoder.adopt(other.index.encoder)
        return opened

    def _retire(self, name: str) -> None:
        opened = self._opened.pop(name)
        opened.retired = True
        if not opened.users:
            opened.index.close()

    def sweep(self) -> bool:
        """Close what nobody uses any more; whether there was something."""
        with self._lock:
            before = len(self._opened)
            last = max(self._opened, key=lambda name: self._opened[name].used, default=None)
            for name, opened in list(self._opened.items()):
                if name != last and not opened.users and time.monotonic() - opened.used > self._idle_s:
                    self._retire(name)
            return len(self._opened) < before

    def close(self) -> None:
        """Close all."""
        with self._lock:
            for name in list(self._opened):
                self._retire(name)


def _databases(path: Path) -> list[Path]:
    """The database of an index, or those of its shards."""
    return [folder / FILE for folder in shard_folders(path) or [path]]


def _inode(file: Path) -> int:
    """What tells a file from one in its place; 0 where there is none."""
    with suppress(OSError):
        return os.stat(file).st_ino
    return 0
