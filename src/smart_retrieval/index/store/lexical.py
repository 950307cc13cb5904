"""BM25 over the passages, in SQLite's FTS5, in the same transactions as everything else.

The full-text index holds no text of its own; it points at the passages (external content): at ``documents``, or at a
view of them with compatibility forms folded. Its tokenizer is unicode61 with diacritics
removed, words of any script with case and accents folded; where the language is English, porter strips the endings.
Languages written without spaces become one token a run; the vectors serve them.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ...errors import SmartError
from ...types import Array
from ..text.folding import fold
from ..text.language import Language, language_of, without_stop_words
from .manifest import Manifest

MAX_TERMS = 512
# Punctuation, blanks, symbols and controls separate words. Everything else is left to FTS5, whose table of characters
# is of another Unicode version than Python's: what it splits further becomes a phrase, what it does not stays whole.
_SEPARATORS = ("P", "Z", "S")
# Of the bytes, since a damaged text may be no UTF-8.
_FOLDED = "CREATE VIEW folded AS SELECT rowid, smart_fold(CAST(text AS BLOB)) AS text FROM documents"


def add_functions(connection: sqlite3.Connection) -> None:
    """Give a connection the SQL function that the full-text index reads texts through."""
    connection.create_function("smart_fold", 1, lambda text: fold(text.decode(errors="replace")), deterministic=True)


@dataclass(frozen=True)
class FullText:
    """The full-text index of one store: how it reads texts, and the statements that keep it."""

    language: Language = "english"  # "auto", not known yet, is taken for English
    folding: bool = True

    @classmethod
    def of(cls, manifest: Manifest) -> FullText | None:
        """The one that an index was made with; None if it has none."""
        return cls(manifest.language, manifest.folding) if manifest.lexical else None

    @property
    def tokenizer(self) -> str:
        """FTS5's name for how texts become words."""
        return f"{'' if self.language == 'other' else 'porter '}unicode61 remove_diacritics 2"

    def create(self, connection: sqlite3.Connection) -> None:
        """Create it, empty."""
        if self.folding:
            connection.execute(_FOLDED)
        self._create_table(connection)

    @property
    def _content(self) -> str:
        return "folded" if self.folding else "documents"

    def _create_table(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute(
                f"CREATE VIRTUAL TABLE lexical USING fts5(text, content='{self._content}', content_rowid='rowid', "
                f"tokenize='{self.tokenizer}')"
            )
        except sqlite3.OperationalError as error:
            if "no such module" not in str(error):
                raise
            raise SmartError("this Python's SQLite has no FTS5; create the index with lexical=False") from error

    def add(self, connection: sqlite3.Connection, texts: Mapping[int, str]) -> None:
        """Index the texts of rows that have just been stored, by rowid."""
        rows = ((rowid, fold(text) if self.folding else text) for rowid, text in texts.items())
        connection.executemany("INSERT INTO lexical (rowid, text) VALUES (?, ?)", rows)

    def remove(self, connection: sqlite3.Connection, rowids: str) -> None:
        """Take out rows, a JSON list, that are still stored."""
        # FTS5 finds its entries by the very text that was added.
        connection.execute(
            f"INSERT INTO lexical (lexical, rowid, text) SELECT 'delete', rowid, text FROM {self._content} "
            "WHERE rowid IN (SELECT value FROM json_each(?))",
            (rowids,),
        )

    def settled(self, connection: sqlite3.Connection) -> Language:
        """The language, found from the passages if it is not known; what is indexed already is then indexed again."""
        if self.language != "auto":
            return self.language
        texts = connection.execute("SELECT CAST(text AS TEXT) FROM documents WHERE text <> '' ORDER BY rowid")
        language = language_of(row[0] for row in texts)
        if language == "other":
            connection.execute("DROP TABLE lexical")
            FullText(language, self.folding)._create_table(connection)
            connection.execute("INSERT INTO lexical (lexical) VALUES ('rebuild')")
        return language

    def query_words(self, text: str) -> Mapping[str, int]:
        """The words of any text that count in a search, and how often each occurs; only the first 512 words.

        Example:
            >>> dict(FullText().query_words('rotate the logs" OR NEAR( logs'))
            {'rotate': 1, 'logs': 2, 'near': 1}
        """
        text = fold(text) if self.folding else text
        normal = unicodedata.normalize("NFC", text)
        words = Counter(_words(normal.lower()))
        # As it is written, too, where FTS5's table may be too old to fold it; elsewhere it would count twice.
        if normal != text or any(
            unicodedata.ucd_3_2_0.category(character) == "Cn" for character in text + text.lower()
        ):
            words |= Counter(word for word in _words(text) if not word.isascii())
        telling = words if self.language == "other" else without_stop_words(words)
        return dict(islice(telling.items(), MAX_TERMS))

    def bm25_scores(self, connection: sqlite3.Connection, query_text: str) -> tuple[Array, Array]:
        """BM25 (k1 = 1.2, b = 0.75) of every passage with a word of the query; a word counts as often as it is there.

        Returns:
            Rowids ``[n]`` int64 ascending and scores ``[n]`` float64 above 0.
        """
        # FTS5 weighs no words, but a score is the sum over them: those that occur equally often are asked for together.
        groups = defaultdict(list)
        for word, count in self.query_words(query_text).items():
            groups[count].append(f'"{word}"')  # quoted, nothing is read as FTS5's syntax
        parts = []
        for count, words in sorted(groups.items()):
            found = connection.execute(
                "SELECT rowid, -bm25(lexical) FROM lexical WHERE lexical MATCH ?", (" OR ".join(words),)
            )
            part = np.array(found.fetchall(), np.float64).reshape(-1, 2)
            parts.append(part * (1, count))
        pairs = np.concatenate([np.zeros((0, 2)), *parts])
        rowids, places = np.unique(pairs[:, 0].astype(np.int64), return_inverse=True)
        return rowids, np.bincount(places, pairs[:, 1], len(rowids))


def _words(text: str) -> list[str]:
    return "".join(" " if _separates_words(character) else character for character in text).split()


def _separates_words(character: str) -> bool:
    # In an old table and in today's: FTS5's lies between, and takes a symbol it does not know for a letter.
    categories = (unicodedata.ucd_3_2_0.category(character), unicodedata.category(character))
    return all(category[0] in _SEPARATORS or category in ("Cc", "Cs") for category in categories)
