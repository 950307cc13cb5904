"""A checksum for every page of ``index.sqlite``, in a file beside it: of free pages and unused bytes, too.

The database's own checksums are of rows. These are of the file, as it was after a checkpoint that left nothing in the
write-ahead log; a checkpoint rewrites those of the pages that it wrote. They belong to one commit. For any other, such
as that of a copy that was put back, they say nothing.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ...checksums import signed, unsigned
from ...files import atomic_file
from ...types import Array

FORMAT = "smart-pages/1"
_WAL_HEADER, _FRAME_HEADER = 32, 24
_CHANGE_COUNTER, _VALID_FOR = slice(24, 28), slice(92, 96)


def sums_path(file: Path) -> Path:
    """Where the checksums of a database's pages lie."""
    return file.with_name(f"{file.name}-pages")


def checkpoint(connection: sqlite3.Connection, file: Path, mode: str = "PASSIVE") -> None:
    """Move what was committed from the write-ahead log into the file, and bring the checksums of its pages up to date.

    To be called under the writers' lock. Readers of an older commit may keep part of it in the log; the next
    checkpoint then goes on.
    """
    before = _Sums.read(file)
    if before is not None and before.about["commit"] != _commit_of(file):
        before = None
    written = _pages_in_log(file)
    busy, pages, moved = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    # Where nothing was written, only optimize vouches for what it finds: it has written every page.
    if busy or pages != moved or (not written.size and (before is not None or mode == "PASSIVE")):
        return
    _Sums.of_file(file, before, written).write(file)


def wrong_pages(file: Path) -> tuple[list[str], list[str]]:
    """Compare all pages with their checksums, while nothing moves into the file: problems and notes, in words."""
    path = sums_path(file)
    try:
        sums = _Sums.read(file, strict=True)
    except (OSError, ValueError) as error:
        return [f"{path.name} is damaged ({error}); the next write makes it anew"], []
    if sums is None:
        return [], ["unused bytes of the database were not checked: they have no checksums yet; optimize makes them"]
    header, found = _header(file), _Sums.of_file(file, None, np.zeros(0, np.int64))
    same_size = found.about["pages"] == sums.about["pages"]
    wrong = np.flatnonzero(found.values != sums.values) + 1 if same_size else np.zeros(0, np.int64)
    changed = header[_CHANGE_COUNTER].hex() != sums.about["change_counter"]
    # A commit writes several pages: where one alone differs, it is the commit's own row that is damaged.
    other = sums.about["commit"] != found.about["commit"] and len(wrong) != 1
    if header[_CHANGE_COUNTER] == header[_VALID_FOR] and (changed or other):
        return [], ["unused bytes of the database were not checked: their checksums are of another commit"]
    if not same_size:
        return [f"found {found.about['pages']} pages in {file.name}, expected {sums.about['pages']}"], []
    shown = ", ".join(map(str, wrong[:10].tolist())) + (", ..." if len(wrong) > 10 else "")
    return [f"{len(wrong)} pages of {file.name} are not what was written: {shown}"] if len(wrong) else [], []


class _Sums:
    def __init__(self, about: dict[str, Any], values: Array) -> None:
        self.about, self.values = about, values

    @classmethod
    def read(cls, file: Path, *, strict: bool = False) -> _Sums | None:
        """What is recorded; None if nothing is, or (unless ``strict``) nothing that can be read."""
        try:
            head, _, data = sums_path(file).read_bytes().partition(b"\n")
            about = unsigned(json.loads(head))
            if about["format"] != FORMAT or zlib.crc32(data) != about["crc32"]:
                raise ValueError("it does not match its checksum")
            return cls(about, np.frombuffer(data, "<u4"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError):
            if strict:
                raise
            return None

    @classmethod
    def of_file(cls, file: Path, before: _Sums | None, written: Array) -> _Sums:
        """Of the file as it is; only pages that were ``written`` are read where the others are known."""
        header = _header(file)
        size = int.from_bytes(header[16:18], "big")
        size = 65536 if size == 1 else size
        total = file.stat().st_size
        pages = total // max(size, 512)
        values = np.zeros(pages, "<u4")
        todo: Iterable[int] = range(pages)
        if before is not None:
            kept = min(pages, len(before.values))
            values[:kept] = before.values[:kept]
            todo = np.unique(np.concatenate([written - 1, np.arange(kept, pages)])).tolist()
        with file.open("rb", buffering=0) as opened:  # mapped, a failing disk would end the process
            for page in todo:
                if 0 <= page < pages:
                    opened.seek(page * size)
                    values[page] = zlib.crc32(opened.read(size))
        about = {
            "format": FORMAT,
            "commit": _commit_of(file),
            "change_counter": header[_CHANGE_COUNTER].hex(),
            "pages": [pages, total % max(size, 512)],
        }
        return cls(about, values)

    def write(self, file: Path) -> None:
        data = self.values.tobytes()
        head = json.dumps(signed({**self.about, "crc32": zlib.crc32(data)}))
        with suppress(OSError), atomic_file(sums_path(file)) as partial:
            partial.write_bytes(head.encode() + b"\n" + data)


def _header(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(100).ljust(100, b"\0")


def _commit_of(file: Path) -> list[Any] | None:
    """Number and token of the newest commit in the file itself, whatever the write-ahead log holds."""
    query = "SELECT number, token FROM commits ORDER BY number DESC LIMIT 1"
    with suppress(sqlite3.Error, OSError):
        uri = f"{file.absolute().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            row = connection.execute(query).fetchone()
            return [part if isinstance(part, int) else repr(part) for part in row or ()]
    return None


def _pages_in_log(file: Path) -> Array:
    """Numbers of the pages in the write-ahead log, ``[n]`` int64; some may be left from before it was last emptied."""
    log = Path(f"{file}-wal")
    try:
        size = log.stat().st_size
        with log.open("rb") as opened:
            step = _FRAME_HEADER + int.from_bytes(opened.read(12)[8:], "big")
    except OSError:
        return np.zeros(0, np.int64)
    frames = (size - _WAL_HEADER) // step if size > _WAL_HEADER and step > _FRAME_HEADER else 0
    if not frames:
        return np.zeros(0, np.int64)
    whole = np.memmap(log, np.uint8, "r", _WAL_HEADER, shape=(frames, step))
    return np.unique(np.ascontiguousarray(whole[:, :4]).view(">u4")[:, 0]).astype(np.int64)
