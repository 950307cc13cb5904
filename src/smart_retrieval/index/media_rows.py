"""Pictures beside documents: what each shows, a thumbnail of it, and where it is among the token vectors.

The ``media`` table is made when the first picture is stored, so an index without pictures is what it always was, and
one that was made before pictures could be stored takes them too. The thumbnail is the last column and has a checksum of
its own: everything else is read without its pages.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..errors import IndexDamagedError
from .grids import PlacedGrid
from .media import Media
from .records import checksum

_TABLE = """
CREATE TABLE IF NOT EXISTS media (
    rowid INTEGER PRIMARY KEY REFERENCES documents ON DELETE CASCADE,
    kind TEXT NOT NULL,
    width INTEGER,
    height INTEGER,
    times TEXT NOT NULL,
    grids TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    thumbnail_checksum INTEGER NOT NULL,
    thumbnail BLOB NOT NULL
)
"""
_FACTS = "m.rowid, d.id, m.kind, m.width, m.height, m.times, m.grids, m.checksum"


def exists(connection: sqlite3.Connection) -> bool:
    """Whether a picture was ever stored."""
    row = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'media'").fetchone()
    return row is not None


def insert(connection: sqlite3.Connection, rows: Iterable[tuple[int, str, Media | None]]) -> None:
    """Store the pictures of documents: rowid, id, picture."""
    values = []
    for rowid, id, media in rows:
        if media is None:
            continue
        facts = media.values()
        thumbnail = media.thumbnail()
        values.append(
            (rowid, *facts, checksum(rowid, id, *facts), checksum(rowid, id, len(thumbnail), thumbnail), thumbnail)
        )
    if values:
        connection.execute(_TABLE)
        connection.executemany("INSERT INTO media VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)


def of_rows(
    connection: sqlite3.Connection, rowids: str, load: Callable[[int], bytes] | None = None
) -> dict[int, Media]:
    """Pictures by rowid, without their thumbnails.

    Args:
        connection: Within a read transaction.
        rowids: A JSON list of them.
        load: Reads the thumbnail of a rowid.

    Raises:
        IndexDamagedError: A row does not match its checksum.
    """
    if not exists(connection):
        return {}
    query = (
        f"SELECT {_FACTS} FROM json_each(?) AS j CROSS JOIN media AS m ON m.rowid = j.value "
        "JOIN documents AS d ON d.rowid = m.rowid"
    )
    found: dict[int, Media] = {}
    for rowid, id, *facts, stored in connection.execute(query, (rowids,)):
        if checksum(rowid, id, *facts) != stored:
            raise _damaged(rowid, id)
        media = _unpacked(facts)
        found[rowid] = media if load is None else replace(media, load=_loader(load, rowid))
    return found


def thumbnail_of(connection: sqlite3.Connection, rowid: int) -> bytes:
    """One thumbnail; empty if there is none.

    Raises:
        IndexDamagedError: It does not match its checksum.
    """
    if not exists(connection):
        return b""
    row = connection.execute(
        "SELECT d.id, m.thumbnail, m.thumbnail_checksum FROM media AS m JOIN documents AS d ON d.rowid = m.rowid "
        "WHERE m.rowid = ?",
        (rowid,),
    ).fetchone()
    if row is None:
        return b""
    id, thumbnail, stored = row
    if checksum(rowid, id, len(thumbnail), thumbnail) != stored:
        raise _damaged(rowid, id)
    return bytes(thumbnail)


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Documents that are pictures, by kind."""
    if not exists(connection):
        return {}
    return dict(connection.execute("SELECT kind, count(*) FROM media GROUP BY kind ORDER BY kind"))


def damaged_rows(connection: sqlite3.Connection) -> Iterator[tuple[int, Any]]:
    """Rowid and id of every row that is not what was written; reads all of them.

    Args:
        connection: Gives TEXT as bytes, since damaged text may be no UTF-8.
    """
    if not exists(connection):
        return
    query = f"SELECT {_FACTS}, m.thumbnail_checksum, m.thumbnail FROM media AS m JOIN documents AS d USING (rowid)"
    for rowid, id, *facts, stored, thumbnail_stored, thumbnail in connection.execute(query):
        try:
            sound = checksum(rowid, id, *facts) == stored
            sound = sound and checksum(rowid, id, len(thumbnail), thumbnail) == thumbnail_stored
        except TypeError:  # a value of another type
            sound = False
        if not sound:
            yield rowid, id


def _unpacked(facts: Sequence[Any]) -> Media:
    kind, width, height, times, grids = facts
    return Media(
        kind,
        width,
        height,
        tuple(float(time) for time in json.loads(times)),
        tuple(PlacedGrid.from_list(grid) for grid in json.loads(grids)),
    )


def _loader(load: Callable[[int], bytes], rowid: int) -> Callable[[], bytes]:
    return lambda: load(rowid)


def _damaged(rowid: int, id: object) -> IndexDamagedError:
    return IndexDamagedError(
        f"the picture of document {id!r} (row {rowid}) does not match its checksum; run verify, then index its file "
        "again or restore a copy"
    )
