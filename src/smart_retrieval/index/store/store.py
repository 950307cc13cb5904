"""The store: one SQLite database that holds the truth about an index."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from ...errors import (
    IndexDamagedError,
    IndexFullError,
    IndexMismatchError,
    IndexReadOnlyError,
    SmartError,
    UnknownIdError,
    one_of,
)
from ...files import settled, typed_name
from ...types import Array
from . import folder, maintenance, pictures, rows
from .connections import Connections, Handle
from .lexical import KEEP_FROM, Commit, FullText, KeptWords, WordCounts
from .manifest import Manifest
from .pages import checkpoint, wrong_pages
from .records import MOST_ID, Added, Document, FileEntry, Record, Vectors
from .schema import State, checksum
from .verify import VerifyReport, verify, verify_lexical
from .where import Exists, Expression, OfKinds, as_written, compile_where, keys_of, parse, paths_of

Missing = Literal["error", "skip"]
Rowids = Sequence[int] | Array
MOST_ROWID = 2**63 - 1
Filter: TypeAlias = "str | Expression | OfKinds | None"


class Store:
    """Documents, anchors, token codes, codec, IDF table and manifest of one index.

    Made by :meth:`create` or :meth:`open`. Safe to use from several threads (each gets its own connection) and from
    several processes. Every method is one transaction; :meth:`reading` and :meth:`transaction` join several.

    Example:
        >>> import tempfile
        >>> manifest = Manifest(model={"name": "minilm"}, codec="int8", anchor_dim=2, code_width=1)
        >>> with Store.create(Path(tempfile.mkdtemp()) / "a.smart", manifest, b"codec") as store:
        ...     record = Record("a", np.ones(2), np.zeros((3, 1), np.uint8), np.arange(3), metadata={"year": 2024})
        ...     added = store.add([record])
        ...     store.count(), store.select("year > 2020").tolist(), store.delete(ids=["a"])
        (1, [1], 1)
    """

    def __init__(self, path: Path, connections: Connections) -> None:
        self.path = path
        self.connections = connections
        self.files = FileRegistry(self)
        self._idf: tuple[int, tuple[int, Array, Array]] | None = None
        self._words: KeptWords | None = None
        self._without_words: tuple[Commit | None, int] = (None, 0)  # passages scored without them, of a commit
        self.reload()

    # -- opening and closing -----------------------------------------------------------------------------------

    @classmethod
    def create(cls, path: str | Path, manifest: Manifest, codec: bytes = b"", *, timeout: float = 30.0) -> Store:
        """Make an index in a folder that holds none, and open it for writing.

        It appears under its name only when it is whole.
        """
        path = settled(path)
        folder.create(path, manifest, codec)
        return cls.open(path, "w", timeout=timeout)

    @classmethod
    def open(cls, path: str | Path, mode: Literal["r", "w"] = "r", *, timeout: float = 30.0) -> Store:
        """Open an index to read, also from a folder that cannot be written to, or to read and write.

        A write waits ``timeout`` seconds for other writers.
        """
        if mode not in ("r", "w"):
            raise SmartError(f"mode: {one_of(mode, ('r', 'w'))}")
        path = settled(path)
        connections = folder.connect_to(path, writable=mode == "w", timeout=timeout)
        try:
            return cls(path, connections)
        except BaseException:
            connections.close()
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, it is its path and mode: whoever unpickles it opens it again."""
        return _opened, (type(self), self.path, "w" if self.connections.writable else "r", self.connections.timeout)

    def close(self) -> None:
        """Close all connections; the last process to close removes the write-ahead log."""
        self.connections.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def reload(self) -> None:
        """Read manifest and codec generation again, after ``optimize`` changed them in another process."""
        with self.reading() as connection:
            self.manifest = Manifest.read(connection)
            self.generation = State.read(connection).generation

    # -- transactions ------------------------------------------------------------------------------------------

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """Everything this thread reads inside sees one and the same commit."""
        return self.connections.reading()

    def transaction(self) -> AbstractContextManager[Handle]:
        """Everything this thread writes inside becomes one commit, or none when an error leaves the block."""
        return self.connections.writing()

    def newest_manifest(self) -> Manifest:
        """The manifest of the newest commit."""
        with self.reading() as connection:
            return Manifest.read(connection)

    def state(self) -> State:
        """Commit number and sums of the newest commit; reads one row, once within :meth:`reading`."""
        return self.connections.state()

    # -- reading -----------------------------------------------------------------------------------------------

    def codec(self) -> bytes:
        """The codec's bytes."""
        with self.reading() as connection:
            row = connection.execute("SELECT generation, data, checksum FROM codec").fetchone()
        if row is None or checksum(*row[:2]) != row[2] or not isinstance(row[1], bytes):
            raise IndexDamagedError(f"index {str(self.path)!r}: its codec does not match its checksum; restore a copy")
        return row[1]

    def count(self) -> int:
        """Documents in the index."""
        return self.state().documents

    def ids(self, where: Filter = None, *, limit: int | None = None) -> list[str]:
        """Ids of the documents that a filter chooses, sorted; the first of them."""
        most = -1 if limit is None else limit
        with self.reading() as connection:
            sql, parameters = compile_where(where, pictures=pictures.exists(connection))
            found = connection.execute(f"SELECT id FROM documents WHERE {sql} ORDER BY id LIMIT ?", [*parameters, most])
            return [str(row[0]) for row in found]

    def fields(self, where: Filter = None, *, most: int = 2000) -> dict[str, list[str]]:
        """Metadata fields of the first documents that a filter chooses, and the JSON types of their values.

        They are as filters write them, up to 100 of those within objects included: ``author.name``.
        """
        fields: dict[tuple[str, ...], set[str]] = {}
        with self.reading() as connection:
            sql, parameters = compile_where(where, pictures=pictures.exists(connection))
            query = f"SELECT DISTINCT json(metadata) FROM (SELECT metadata FROM documents WHERE {sql} LIMIT ?)"
            for (metadata,) in connection.execute(query, [*parameters, most]):
                for path, kind in paths_of(metadata):
                    fields.setdefault(path, set()).add(kind)
        paths = sorted(fields, key=len)
        shown = paths[: 100 + sum(len(path) == 1 for path in paths)]
        return {name: sorted(fields[path]) for name, path in sorted((as_written(path), path) for path in shown)}

    def select(self, where: Filter = None, after: int = 0, last: int = MOST_ROWID) -> Array:
        """Rowids of the documents that a filter chooses, ``[n]`` int64 ascending; of those from ``after`` to ``last``.

        The row ``after`` itself is left out.
        """
        with self.reading() as connection:
            sql, parameters = compile_where(where, pictures=pictures.exists(connection))
            if after > 0 or last < MOST_ROWID:
                sql, parameters = f"rowid > ? AND rowid <= ? AND {sql}", [after, last, *parameters]
            return np.sort(_first(connection.execute(f"SELECT rowid FROM documents WHERE {sql}", parameters)))

    def unknown_keys(self, where: str | Expression | OfKinds) -> list[str]:
        """Metadata keys of a filter that no document has, as they are written in it."""
        with self.reading() as connection:
            found = []
            for field in dict.fromkeys(keys_of(parse(where) if isinstance(where, str) else where)):
                sql, parameters = compile_where(Exists(field))
                if not connection.execute(f"SELECT 1 FROM documents WHERE {sql} LIMIT 1", parameters).fetchone():
                    found.append(".".join(field.path))
            return found

    def rowids(self, ids: Sequence[str], *, missing: Missing = "error") -> Array:
        """Rowids of documents by id, in the order given, ``[n]`` int64."""
        with self.reading() as connection:
            ids = [typed_name(str(id)) for id in ids]
            known = rows.existing(connection, ids)
            known |= rows.equivalent(connection, [id for id in ids if id not in known])
        absent = [id for id in ids if id not in known]
        if absent and missing == "error":
            more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
            raise UnknownIdError(f"index {str(self.path)!r}: found no document {absent[0]!r}{more}")
        return np.array([known[id] for id in ids if id in known], np.int64)

    def ids_of(self, rowids: Rowids) -> list[str | None]:
        """Ids by rowid, in the order given; ``None`` where the row is gone."""
        with self.reading() as connection:
            return rows.ids_of(connection, rowids)

    def get(
        self, ids: Sequence[str] | None = None, *, rowids: Rowids | None = None, missing: Missing = "error"
    ) -> list[Document]:
        """Documents by id or by rowid, in the order given."""
        with self.reading() as connection:
            if rowids is None:
                rowids = self.rowids(ids or [], missing=missing)
            found = rows.documents_of(connection, rowids, self.thumbnail)
        if missing == "error":
            self._require_all(len(found), len(rowids))
        return found

    def thumbnail(self, rowid: int) -> bytes:
        """The thumbnail of a document that is a picture; empty if it is none, or gone."""
        with self.reading() as connection:
            return pictures.thumbnail_of(connection, rowid)

    def read_vectors(self, rowids: Rowids) -> Vectors:
        """Vectors of rows, in the order given."""
        with self.reading() as connection:
            found = rows.vectors_of(connection, self.manifest, rowids)
        self._require_all(len(found.rowids), len(rowids))
        return found

    def _require_all(self, found: int, wanted: int) -> None:
        if found < wanted:
            raise UnknownIdError(f"index {str(self.path)!r}: found {found} of {wanted} rows asked for")

    def iterate(self, batch: int = 1000, *, after: int = 0) -> Iterator[Vectors]:
        """Stream the vectors of all rows above a rowid, in order.

        Each batch is one read; wrap the loop in :meth:`reading` to see one commit throughout.
        """
        return rows.iterate(self.connections, self.manifest, after, batch)

    def deleted_since(self, commit: int) -> Array:
        """Rowids deleted after a commit, ``[n]`` int64; complete as long as :meth:`commit_token` knows that commit."""
        with self.reading() as connection:
            return _first(connection.execute("SELECT rowid FROM tombstones WHERE deleted > ?", (commit,)))

    def commit_token(self, commit: int) -> int | None:
        """The random token of a commit; ``None`` if it is unknown or ``optimize`` has forgotten it."""
        with self.reading() as connection:
            row = connection.execute("SELECT token FROM commits WHERE number = ?", (commit,)).fetchone()
            return row[0] if row is not None and isinstance(row[0], int) else None

    def idf(self) -> tuple[int, Array, Array]:
        """N, vocabulary ids ``[n]`` int64 ascending and the documents that hold each ``[n]`` int64."""
        with self.reading() as connection:
            state = State.read(connection)
            kept = self._idf
            if kept is None or kept[0] != state.number:
                pairs = connection.execute("SELECT token, df FROM idf ORDER BY token")
                table = _numbers(part for pair in pairs for part in pair).reshape(-1, 2)
                if len(table) and (
                    table.min() < 0 or table[:, 0].max() > MOST_ID or table[:, 1].max() > state.documents
                ):
                    raise IndexDamagedError(f"index {str(self.path)!r}: its IDF table is damaged; restore a copy")
                kept = self._idf = (state.number, (state.documents, table[:, 0].copy(), table[:, 1].copy()))
            return kept[1]

    def bm25_scores(self, query_text: str, counts: WordCounts | None = None) -> tuple[Array, Array]:
        """BM25 of all passages with a word of any text: rowids ``[n]`` int64 ascending, scores ``[n]`` float64 > 0.

        With ``counts``, as in a collection of which this store is a part.
        """
        with self.reading() as connection:
            full_text, commit = self._full_text(connection)
            if counts is not None:
                return full_text.bm25_scores(connection, query_text, self._words_of(connection, commit), counts)
            kept = self._kept_words(connection, commit)
            found = full_text.bm25_scores(connection, query_text, kept)
            if kept is None:
                before = self._without_words
                self._without_words = (commit, len(found[0]) + (before[1] if before[0] == commit else 0))
            return found

    def word_counts(self, query_text: str) -> WordCounts:
        """What BM25 counts here for a query, to be summed with that of other parts of a collection."""
        with self.reading() as connection:
            full_text, commit = self._full_text(connection)
            return full_text.word_counts(connection, query_text, self._words_of(connection, commit))

    def _full_text(self, connection: sqlite3.Connection) -> tuple[FullText, Commit]:
        # Read again: another process may have found out the language since this one opened the index.
        full_text = FullText.of(Manifest.read(connection))
        if full_text is None:
            raise SmartError(
                f"index {str(self.path)!r}: it was created with lexical=False; index again to search words"
            )
        number = State.read(connection).number
        return full_text, (number, self.commit_token(number))

    def _kept_words(self, connection: sqlite3.Connection, commit: Commit) -> KeptWords | None:
        """What is kept of words, once FTS5 has scored so many passages since the commit that it pays."""
        known, scored = self._without_words
        documents = State.read(connection).documents
        pays = known == commit and documents >= KEEP_FROM and scored >= documents // 4
        kept = self._words is not None and self._words.commit == commit
        return self._words_of(connection, commit) if pays or kept else None

    def _words_of(self, connection: sqlite3.Connection, commit: Commit) -> KeptWords:
        if (kept := self._words) is None or kept.commit != commit:
            kept = self._words = KeptWords(connection, commit)
        return kept

    # -- writing -----------------------------------------------------------------------------------------------

    def add(self, batch: Iterable[Record], on_duplicate: Literal["error", "replace", "skip"] = "error") -> Added:
        """Add documents in one atomic commit; it is on the disk when this returns."""
        if on_duplicate not in ("error", "replace", "skip"):
            raise SmartError(f"on_duplicate: {one_of(on_duplicate, ('error', 'replace', 'skip'))}")
        packed = [rows.pack(record, self.manifest) for record in batch]
        with self.transaction() as handle:
            if handle.state.generation != self.generation:
                raise IndexMismatchError(
                    f"index {str(self.path)!r}: another process changed its codec; reload() it and encode again"
                )
            full_text = FullText.of(self.manifest)
            added = rows.add_rows(handle, packed, on_duplicate, full_text)
            if full_text is not None and full_text.language == "auto" and any(row.record.text for row in packed):
                self._settle_language(handle.connection)
        return added

    def keep_calibration(self, calibration: Mapping[str, Any], *, again: bool) -> None:
        """Keep a calibration, unless there is one by now and it is not ``again``: the first one counts."""
        with self.transaction() as handle:
            if again or not Manifest.read(handle.connection).calibration:
                Manifest.put(handle.connection, "calibration", dict(calibration))
                handle.dirty = True  # a commit, which other processes notice
        self.reload()

    def _settle_language(self, connection: sqlite3.Connection) -> None:
        """Note the language of the passages once there are enough of them to tell."""
        full_text = FullText.of(Manifest.read(connection))  # again, since another process may have noted it
        if full_text is not None and (language := full_text.settled(connection)) != "auto":
            Manifest.put(connection, "language", language)

    def delete(
        self,
        *,
        ids: Sequence[str] | None = None,
        rowids: Rowids | None = None,
        where: str | None = None,
        missing: Missing = "error",
    ) -> int:
        """Delete documents by id, rowid or filter (exactly one of them) in one atomic commit; returns how many."""
        if sum(given is not None for given in (ids, rowids, where)) != 1:
            raise SmartError("delete: expected exactly one of ids=, rowids= and where=")
        with self.transaction() as handle:
            if where is not None:
                rowids = self.select(where)
            elif ids is not None:
                rowids = self.rowids(ids, missing=missing)
            numbers = np.unique(np.asarray(rowids, np.int64)).tolist()
            return rows.delete_rows(handle, numbers, FullText.of(self.manifest))

    # -- maintenance -------------------------------------------------------------------------------------------

    def recode(
        self, codec: bytes, encode: maintenance.Encode, *, codec_name: str, code_width: int, batch: int = 1000
    ) -> None:
        """Change the codec and re-encode every document, safely; searches and writers go on meanwhile.

        Args:
            codec: The new codec's bytes.
            encode: Called with some rows' :class:`Vectors`; returns their new codes ``[sum T, B]`` uint8 and offsets.
            codec_name: Its name.
            code_width: B.
            batch: Rows a call.
        """
        maintenance.recode(
            self.connections, self.manifest, codec, encode, codec_name=codec_name, code_width=code_width, batch=batch
        )
        self.reload()

    def backup(self, path: str | Path) -> None:
        """Copy the newest commit into another folder, while others read and write."""
        folder.copy(self.connections, settled(path))

    def optimize(self) -> None:
        """Give the space of deleted documents back and merge the full-text index."""
        maintenance.compact(self.connections, with_lexical=self.manifest.lexical)

    def verify(self) -> VerifyReport:
        """Recompute every checksum and every sum; finds every flipped byte of documents, vectors and codes."""
        with self.reading() as connection:
            report = verify(connection)
        self._verify_pages(report)
        if not self.manifest.lexical:
            return report
        if not self.connections.writable:
            report.notes.append("the full-text index was not checked: that needs mode='w'")
            return report
        try:
            with self.transaction() as handle:
                verify_lexical(handle, report)
        except (IndexReadOnlyError, IndexFullError):
            report.notes.append("the full-text index was not checked: that needs room and permission to write")
        return report

    def _verify_pages(self, report: VerifyReport) -> None:
        file = self.connections.file
        problems: list[str] = []
        notes: list[str] = []
        writable = self.connections.writable
        if writable:
            try:
                with self.connections.alone() as connection:
                    checkpoint(connection, file)
                    problems, notes = wrong_pages(file)
            except (IndexReadOnlyError, IndexFullError):
                writable = False
            except IndexDamagedError as error:
                problems = [str(error)]
        if not writable:
            if _size(Path(f"{file}-wal")):
                notes = ["unused bytes of the database were not checked: that needs room and permission to write"]
            else:
                problems, notes = wrong_pages(file)
        report.problems.extend(problems)
        report.notes.extend(notes)

    def info(self) -> dict[str, Any]:
        """Counts, sizes in bytes and settings, without reading any document."""
        with self.reading() as connection:
            state, manifest = State.read(connection), Manifest.read(connection)
            files, free, page, version = (
                connection.execute(query).fetchone()[0]
                for query in (
                    "SELECT count(*) FROM files",
                    "PRAGMA freelist_count",
                    "PRAGMA page_size",
                    "PRAGMA user_version",
                )
            )
            kinds = pictures.counts(connection)
        derived = self.path / "derived"
        return {
            "path": str(self.path),
            "format": version,
            "uuid": manifest.uuid,
            "documents": state.documents,
            "pictures": kinds,
            "tokens": state.tokens,
            "files": files,
            "commit": state.number,
            "codec": manifest.codec,
            "codec_generation": state.generation,
            "code_width": manifest.code_width,
            "anchor_dim": manifest.anchor_dim,
            "anchors": manifest.anchors,
            "model": dict(manifest.model),
            "lexical": manifest.lexical,
            "language": manifest.language,
            "created": manifest.created,
            "updated": state.updated,
            "bytes": {
                "database": _size(self.path / folder.FILE),
                "wal": _size(self.path / f"{folder.FILE}-wal"),
                "free": free * page,
                "derived": sum(file.stat().st_size for file in derived.iterdir()) if derived.is_dir() else 0,
                "disk_free": shutil.disk_usage(self.path).free,
            },
        }


_FILES = "SELECT path, size, mtime_ns, sha256, checksum FROM files"


def _file_entry(row: tuple[Any, ...]) -> FileEntry:
    if checksum(*row[:4]) != row[4] or not isinstance(row[0], str):
        raise IndexDamagedError(f"the entry of file {str(row[0])[:200]!r} does not match its checksum; restore a copy")
    return FileEntry(*row[:4])


class FileRegistry:
    """Which files are in the index, so that a second run touches only what changed.

    A file's passages carry its path as their ``source``; its entry says that all are there. Write the entry in the
    transaction of the file's last passages: a run that is interrupted before leaves passages without an entry, which
    :meth:`drop` deletes before the file is read again.
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
            found = connection.execute(f"{_FILES} WHERE path = ?", (path,)).fetchall()
        return _file_entry(found[0]) if found else None

    def all(self) -> dict[str, FileEntry]:
        """Every entry by path."""
        with self._store.reading() as connection:
            found = connection.execute(f"{_FILES} ORDER BY path").fetchall()
        return {row[0]: _file_entry(row) for row in found}

    def drop(self, path: str) -> int:
        """Delete a file's passages and its entry in one commit; returns how many passages."""
        with self._store.transaction() as handle:
            found = handle.connection.execute("SELECT rowid FROM documents WHERE source = ?", (path,))
            deleted = self._store.delete(rowids=_first(found))
            if handle.connection.execute("DELETE FROM files WHERE path = ?", (path,)).rowcount:
                handle.dirty = True
            return deleted


def _opened(kind: type[Store], path: Path, mode: Literal["r", "w"], timeout: float) -> Store:
    return kind.open(path, mode, timeout=timeout)


def _first(found: Iterable[tuple[Any, ...]]) -> Array:
    return _numbers(row[0] for row in found)


def _numbers(found: Iterable[Any]) -> Array:
    """Whole numbers, whatever a damaged database holds in their place."""
    try:
        return np.fromiter(found, np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise IndexDamagedError(
            f"found something else than a number in the database ({error}); restore a copy"
        ) from error


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0
