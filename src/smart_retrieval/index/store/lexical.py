"""BM25 over the passages, in SQLite's FTS5, in the same transactions as everything else.

The full-text index holds no text of its own; it points at ``documents`` (external content). Its tokenizer is
``porter unicode61 remove_diacritics 2``: words of any script, case and accents folded, English endings stripped, which
is what BM25 baselines usually do. Languages written without spaces become one token a run; the vectors serve them.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

from ...errors import SmartError
from ...types import Array
from .schema import json_list

TOKENIZER = "porter unicode61 remove_diacritics 2"
MAX_TERMS = 512
# Punctuation, blanks, symbols and controls separate words. Everything else is left to FTS5, whose table of characters
# is of another Unicode version than Python's: what it splits further becomes a phrase, what it does not stays whole.
_SEPARATORS = ("P", "Z", "S")


def create(connection: sqlite3.Connection) -> None:
    """Create the full-text index."""
    try:
        connection.execute(
            f"CREATE VIRTUAL TABLE lexical USING fts5(text, content='documents', content_rowid='rowid', "
            f"tokenize='{TOKENIZER}')"
        )
    except sqlite3.OperationalError as error:
        if "no such module" not in str(error):
            raise
        raise SmartError("this Python's SQLite has no FTS5; create the index with lexical=False") from error


def add(connection: sqlite3.Connection, rows: Iterable[tuple[int, str]]) -> None:
    """Index the text of new rows, (rowid, text) each."""
    connection.executemany("INSERT INTO lexical (rowid, text) VALUES (?, ?)", rows)


def remove(connection: sqlite3.Connection, rows: Iterable[tuple[int, str]]) -> None:
    """Take rows out; the text must be the one that was added, since FTS5 finds its entries by it."""
    connection.executemany("INSERT INTO lexical (lexical, rowid, text) VALUES ('delete', ?, ?)", rows)


def match_query(text: str) -> str:
    """Turn any text into an FTS5 query that matches passages with at least one of its words.

    Every word is quoted, so nothing in the text is read as FTS5 syntax. Words that repeat count once, and only the
    first 512 count. Empty when the text holds no word.

    Example:
        >>> match_query('rotate the logs" OR NEAR(')
        '"rotate" OR "the" OR "logs" OR "or" OR "near"'
    """
    normal = unicodedata.normalize("NFC", text)
    words = dict.fromkeys(_words(normal.lower()))
    # As it is written, too, where FTS5's table of characters may be too old to fold it; elsewhere it would count twice.
    if normal != text or any(unicodedata.ucd_3_2_0.category(character) == "Cn" for character in text + text.lower()):
        words |= dict.fromkeys(word for word in _words(text) if not word.isascii())
    return " OR ".join(f'"{word}"' for word in list(words)[:MAX_TERMS])


def _words(text: str) -> list[str]:
    return "".join(" " if _separates_words(character) else character for character in text).split()


def _separates_words(character: str) -> bool:
    # In an old table and in today's: FTS5's lies between, and takes a symbol it does not know for a letter.
    categories = (unicodedata.ucd_3_2_0.category(character), unicodedata.category(character))
    return all(category[0] in _SEPARATORS or category in ("Cc", "Cs") for category in categories)


def bm25_scores(
    connection: sqlite3.Connection, query_text: str, limit: int, rowids: Sequence[int] | Array | None = None
) -> tuple[Array, Array]:
    """The best passages by BM25 (k1 = 1.2, b = 0.75, statistics of the whole index), of all rows or of those given.

    Returns:
        Rowids ``[n]`` int64 and scores ``[n]`` float64, above 0 and best first; ties by rowid.
    """
    query = match_query(query_text)
    if not query or limit < 1 or (rowids is not None and not len(rowids)):
        return np.zeros(0, np.int64), np.zeros(0, np.float64)
    chosen, parameters = "", [query]
    if rowids is not None:
        # The unary plus keeps SQLite from running the full-text query once for every rowid.
        chosen = "AND +rowid IN (SELECT value FROM json_each(?))"
        parameters.append(json_list(rowids))
    found = connection.execute(
        f"SELECT rowid, -bm25(lexical) AS score FROM lexical WHERE lexical MATCH ? {chosen} "
        "ORDER BY score DESC, rowid LIMIT ?",
        (*parameters, limit),
    ).fetchall()
    pairs = np.array(found, np.float64).reshape(-1, 2)
    return pairs[:, 0].astype(np.int64), pairs[:, 1]
