"""Pictures beside documents: what each shows, a thumbnail of it, and where it is among the token vectors.

The ``media`` table is made when the first picture is stored, so an index without pictures is what it always was, and
one that was made before pictures could be stored takes them too. The thumbnail is the last column and has a checksum of
its own: everything else is read without its pages.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ...core.roles import MEDIA_ROLES
from ...embeddings import Grid
from ...errors import IndexDamagedError
from ...types import Array
from .schema import RawText, checksum

MOST_TOKENS = 1 << 22  # of one picture or video, which is far more than any model takes
VISUAL = tuple(sorted(MEDIA_ROLES))


@dataclass(frozen=True)
class PlacedGrid:
    """One picture's grid of t frames (1 for an image) of h x w visual tokens, and which token vectors these are.

    ``runs`` are the token vectors that belong to it, frame by frame and row by row: (first, how many) of each stretch.
    There are several where a template writes something between frames.

    Example:
        >>> PlacedGrid("image", 1, 1, 3, ((5, 3),)).positions().tolist()
        [5, 6, 7]
    """

    kind: str  # "image", "video" or "audio"
    t: int
    h: int
    w: int
    runs: tuple[tuple[int, int], ...]

    def positions(self) -> Array:
        """Positions among the document's token vectors, ``[t * h * w]`` int64."""
        return np.concatenate([np.zeros(0, np.int64), *(np.arange(first, first + count) for first, count in self.runs)])

    def to_list(self) -> list[Any]:
        """JSON-able."""
        return [self.kind, self.t, self.h, self.w, [list(run) for run in self.runs]]

    @classmethod
    def from_list(cls, value: Any) -> PlacedGrid:
        """The inverse of :meth:`to_list`."""
        try:
            kind, t, h, w, runs = value
            grid = cls(str(kind), int(t), int(h), int(w), tuple((int(first), int(count)) for first, count in runs))
            if min(grid.t, grid.h, grid.w) < 1 or sum(count for _, count in grid.runs) != grid.t * grid.h * grid.w:
                raise ValueError("its runs do not add up")
            if min((first, count) for first, count in grid.runs)[0] < 0 or sum(c for _, c in grid.runs) > MOST_TOKENS:
                raise ValueError("its runs cannot be")
        except (TypeError, ValueError, OverflowError) as error:
            raise IndexDamagedError(f"found {str(value)[:60]!r}, expected the grid of a picture") from error
        return grid


def place_grids(grids: Iterable[Grid], roles: Sequence[int] | Array) -> tuple[PlacedGrid, ...]:
    """Find an item's grids, in the order of its visual tokens, among its token vectors of certain roles ``[T]``.

    What a model's length limit cut off is left out. None are found where there are more visual tokens than the grids
    account for, since then it is unknown which is which.

    Example:
        >>> place_grids([Grid("image", 1, 1, 2)], [1, 4, 4, 3])[0].runs
        ((1, 2),)
    """
    visual = np.flatnonzero(np.isin(np.asarray(roles), VISUAL))
    given = list(grids)
    if sum(grid.tokens for grid in given) < len(visual):
        return ()
    placed: list[PlacedGrid] = []
    done = 0
    for grid in given:
        own = visual[done : done + grid.tokens]
        if len(own) < grid.tokens:
            break
        done += len(own)
        placed.append(PlacedGrid(str(grid.kind), int(grid.t), int(grid.h), int(grid.w), _runs(own)))
    return tuple(placed)


def _runs(positions: Array) -> tuple[tuple[int, int], ...]:
    pieces = np.split(positions, np.flatnonzero(np.diff(positions) != 1) + 1)
    return tuple((int(piece[0]), len(piece)) for piece in pieces if len(piece))


@dataclass(frozen=True)
class Media:
    """The picture a document is, or begins with.

    Args:
        kind: ``"image"``, ``"page"`` (of a PDF), ``"video"`` or ``"audio"``.
        width: In pixels, as the model was given it; None where that is not known.
        height: Likewise.
        times: Of a video, the second each frame was taken at; of sound, its first and last second in the recording.
        grids: Its visual tokens; empty where tokens were pooled.
        preview: The thumbnail's bytes (a WebP or JPEG file) where they are at hand; :meth:`thumbnail` fetches them.
        load: Reads the thumbnail from the index.

    Example:
        >>> Media("page", 600, 800).to_dict()
        {'kind': 'page', 'width': 600, 'height': 800, 'times': []}
    """

    kind: str
    width: int | None = None
    height: int | None = None
    times: tuple[float, ...] = ()
    grids: tuple[PlacedGrid, ...] = ()
    preview: bytes = field(default=b"", repr=False)
    load: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """Pickled with its thumbnail, and without the index that it is read from."""
        return {**self.__dict__, "preview": self.thumbnail(), "load": None}

    def thumbnail(self) -> bytes:
        """A small picture, as the bytes of an image file; empty if none was kept or the document is gone.

        Raises:
            SmartError: The index it comes from was closed.
            IndexDamagedError: It does not match its checksum.
        """
        return self.preview or (self.load() if self.load is not None else b"")

    def to_dict(self, *, thumbnail: bool = False) -> dict[str, Any]:
        """JSON-able.

        Args:
            thumbnail: Add the thumbnail, in Base64.
        """
        found: dict[str, Any] = {
            "kind": self.kind,
            "width": self.width,
            "height": self.height,
            "times": list(self.times),
        }
        if thumbnail:
            from base64 import b64encode

            found["thumbnail"] = b64encode(self.thumbnail()).decode() or None
        return found


# -- rows of the media table -------------------------------------------------------------------------------------------

TABLE = """
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
_FACTS = "m.kind, m.width, m.height, m.times, m.grids, m.checksum"


def exists(connection: sqlite3.Connection) -> bool:
    """Whether a picture was ever stored."""
    row = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'media'").fetchone()
    return row is not None


def insert(connection: sqlite3.Connection, rows: Iterable[tuple[int, str, Media | None]]) -> None:
    """Store the pictures of documents: rowid, id, picture."""
    values = []
    for rowid, id, media in rows:
        if media is not None:
            times = json.dumps([float(time) for time in media.times])
            grids = json.dumps([grid.to_list() for grid in media.grids], separators=(",", ":"))
            facts = (media.kind, media.width, media.height, times, grids)
            thumbnail = media.thumbnail()
            sums = (checksum(rowid, id, *facts), checksum(rowid, id, len(thumbnail), thumbnail))
            values.append((rowid, *facts, *sums, thumbnail))
    if values:
        connection.execute(TABLE)
        connection.executemany("INSERT INTO media VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)


def _select(
    connection: sqlite3.Connection, columns: str, condition: str = "", *parameters: Any
) -> Iterator[tuple[Any, ...]]:
    """Rowid, id and these columns of pictures."""
    if exists(connection):
        query = f"SELECT m.rowid, d.id, {columns} FROM media AS m JOIN documents AS d USING (rowid) {condition}"
        yield from connection.execute(query, parameters)


def of_rows(connection: sqlite3.Connection, rowids: str, load: Callable[[int], bytes]) -> dict[int, Media]:
    """Pictures by rowid, of a JSON list of rowids; ``load`` reads the thumbnail of a rowid later."""
    found: dict[int, Media] = {}
    listed = "WHERE m.rowid IN (SELECT value FROM json_each(?))"
    for rowid, id, *facts, stored in _select(connection, _FACTS, listed, rowids):
        if checksum(rowid, id, *facts) != stored:
            raise _damaged(rowid, id)
        try:
            found[rowid] = Media(*_parsed(*facts), load=partial(load, rowid))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise _damaged(rowid, id) from error
    return found


def _parsed(
    kind: Any, width: Any, height: Any, times: Any, grids: Any
) -> tuple[Any, Any, Any, tuple[float, ...], tuple[PlacedGrid, ...]]:
    seconds = tuple(float(time) for time in json.loads(times))
    placed = tuple(PlacedGrid.from_list(grid) for grid in json.loads(grids))
    sizes = all(size is None or isinstance(size, int) for size in (width, height))
    if not (isinstance(kind, str | RawText) and sizes and all(map(math.isfinite, seconds))):
        raise ValueError("found values of other types")
    return kind, width, height, seconds, placed


def thumbnail_of(connection: sqlite3.Connection, rowid: int) -> bytes:
    """One thumbnail; empty if there is none."""
    for _, id, thumbnail, stored in _select(
        connection, "m.thumbnail, m.thumbnail_checksum", "WHERE m.rowid = ?", rowid
    ):
        if not isinstance(thumbnail, bytes) or checksum(rowid, id, len(thumbnail), thumbnail) != stored:
            raise _damaged(rowid, id)
        return thumbnail
    return b""


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Documents that are pictures, by kind."""
    if not exists(connection):
        return {}
    return dict(connection.execute("SELECT CAST(kind AS TEXT), count(*) FROM media GROUP BY 1 ORDER BY 1"))


def damaged_rows(connection: sqlite3.Connection) -> Iterator[tuple[int, Any]]:
    """Rowid and id of every row that is not what was written; the connection gives TEXT as bytes."""
    columns = f"{_FACTS}, m.thumbnail_checksum, m.thumbnail"
    for rowid, id, *facts, stored, thumbnail_stored, thumbnail in _select(connection, columns):
        try:
            sound = checksum(rowid, id, *facts) == stored
            sound = sound and checksum(rowid, id, len(thumbnail), thumbnail) == thumbnail_stored
            sound = sound and not isinstance(thumbnail, RawText)
            _parsed(*facts)
        except (TypeError, ValueError, OverflowError, RecursionError, IndexDamagedError):  # of other types or sizes
            sound = False
        if not sound:
            yield rowid, id


def _damaged(rowid: int, id: object) -> IndexDamagedError:
    return IndexDamagedError(
        f"the picture of document {id!r} (row {rowid}) does not match its checksum; run verify, then index its file "
        "again or restore a copy"
    )
