"""BM25 over the passages, in SQLite's FTS5, in the same transactions as everything else.

The full-text index holds no text of its own; it points at the passages (external content): at ``documents``, or at a
view of them with compatibility forms folded. Its tokenizer is unicode61 with diacritics
removed, words of any script with case and accents folded; where the language is English, porter strips the endings.
Languages written without spaces become one token a run; the vectors serve them.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import unicodedata
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np

from ...errors import SmartError
from ...types import Array
from ..text.folding import fold
from ..text.language import Language, language_of, without_stop_words
from .manifest import Manifest

#: Number and token of a commit.
Commit: TypeAlias = tuple[int, int | None]
MAX_TERMS = 512
#: Passages from which on :class:`KeptWords` are worth their reading.
KEEP_FROM = 5000
_K1, _B = 1.2, 0.75  # FTS5's own
_KEPT_BYTES, _MOST_OCCURRENCES = 64 << 20, 20_000_000
# Punctuation, blanks, symbols and controls separate words. Everything else is left to FTS5, whose table of characters
# is of another Unicode version than Python's: what it splits further becomes a phrase, what it does not stays whole.
_SEPARATORS = ("P", "Z", "S")
# Of the bytes, since a damaged text may be no UTF-8.
_FOLDED = "CREATE VIEW folded AS SELECT rowid, smart_fold(CAST(text AS BLOB)) AS text FROM documents"


def add_functions(connection: sqlite3.Connection) -> None:
    """Give a connection the SQL function that the full-text index reads texts through."""
    connection.create_function("smart_fold", 1, lambda text: fold(text.decode(errors="replace")), deterministic=True)


@dataclass(frozen=True)
class WordCounts:
    """What BM25 takes from a collection: passages, their words, and in how many passages each word of a query is."""

    passages: int
    words: int
    holding: Mapping[str, int]

    @classmethod
    def sum(cls, parts: Sequence[WordCounts]) -> WordCounts:
        """Of several collections, none of whose passages is in two."""
        holding = Counter[str]()
        for part in parts:
            holding.update(part.holding)
        return cls(sum(part.passages for part in parts), sum(part.words for part in parts), holding)


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

    def word_counts(self, connection: sqlite3.Connection, query_text: str, kept: KeptWords) -> WordCounts:
        """What :meth:`bm25_scores` counts for a query; ``kept`` is of the commit that is read."""
        return kept.word_counts(connection, self.tokenizer, list(self.query_words(query_text)))

    def bm25_scores(
        self,
        connection: sqlite3.Connection,
        query_text: str,
        kept: KeptWords | None = None,
        counts: WordCounts | None = None,
    ) -> tuple[Array, Array]:
        """BM25 (k1 = 1.2, b = 0.75) of every passage with a word of the query; a word counts as often as it is there.

        ``kept`` is of the commit that is read: with it, scores are the same and come sooner. With ``counts``, which
        need it, they are those of these passages in a collection of which this store is a part.

        Returns:
            Rowids ``[n]`` int64 ascending and scores ``[n]`` float64 above 0.
        """
        # FTS5 weighs no words, but a score is the sum over them: those that occur equally often are asked for together.
        groups = defaultdict(list)
        for word, count in self.query_words(query_text).items():
            groups[count].append(word)
        by_count = sorted(groups.items())
        if kept is not None and (scores := kept.bm25_scores(connection, self.tokenizer, by_count, counts)) is not None:
            return scores
        parts = []
        for count, words in by_count:
            found = connection.execute(
                "SELECT rowid, -bm25(lexical) FROM lexical WHERE lexical MATCH ?",
                (" OR ".join(f'"{word}"' for word in words),),  # quoted, nothing is read as FTS5's syntax
            )
            part = np.array(found.fetchall(), np.float64).reshape(-1, 2)
            parts.append(part * (1, count))
        pairs = np.concatenate([np.zeros((0, 2)), *parts])
        rowids, places = np.unique(pairs[:, 0].astype(np.int64), return_inverse=True)
        return rowids, np.bincount(places, pairs[:, 1], len(rowids))


class KeptWords:
    """Lengths of passages and the places of words that were asked for, of one commit: safe to use from several threads.

    FTS5 looks up the length of every passage with a word, for every query. Here both are read once, as fast as FTS5
    lists them, and the scores are taken from arrays, by FTS5's sums in FTS5's order.

    Attributes:
        commit: Number and token of the commit.
    """

    def __init__(self, connection: sqlite3.Connection, commit: Commit) -> None:
        self.commit = commit
        query = "SELECT count(*), min(id), max(id) FROM lexical_docsize"
        count, first, last = connection.execute(query).fetchone()
        in_order = "FROM (SELECT id, sz FROM lexical_docsize ORDER BY id)"
        if count and last - first == count - 1:  # none is missing between them
            self._rowids = np.arange(first, last + 1)
        else:
            (rowids,) = connection.execute(f"SELECT group_concat(id) {in_order}").fetchone()
            self._rowids = np.fromstring(rowids or "", np.int64, sep=",")
        (sizes,) = connection.execute(f"SELECT group_concat(hex(sz)) {in_order}").fetchone()
        self._lengths = _varints(sizes or "")
        self._total = int(self._lengths.sum())
        self._kept: OrderedDict[str, tuple[Array, Array]] = OrderedDict()
        self._lock = threading.Lock()

    def word_counts(self, connection: sqlite3.Connection, tokenizer: str, words: Sequence[str]) -> WordCounts:
        """In how many passages each word is."""
        terms = dict(zip(words, _terms(tokenizer, words) or (), strict=False))
        holding = {word: len(self._of_word(connection, word, terms.get(word))[0]) for word in words}
        return WordCounts(len(self._rowids), self._total, holding)

    def bm25_scores(
        self,
        connection: sqlite3.Connection,
        tokenizer: str,
        groups: Sequence[tuple[int, Sequence[str]]],
        counts: WordCounts | None = None,
    ) -> tuple[Array, Array] | None:
        """As of :meth:`FullText.bm25_scores`, of words by how often they count; None where FTS5 is to be asked."""
        every = [word for _, words in groups for word in words]
        terms = dict(zip(every, _terms(tokenizer, every) or (), strict=False))
        if len(terms) < len(every) and counts is None:
            return None
        passages, length = (len(self._rowids), self._total) if counts is None else (counts.passages, counts.words)
        total = np.zeros(len(self._rowids))
        for count, words in groups:
            part = np.zeros(len(self._rowids))
            for word in words:
                term = terms.get(word)
                found = self._of_word(connection, word, term) if counts else self._occurrences(connection, term or "")
                if found is None:
                    return None
                places, often = found
                holding = len(places) if counts is None else counts.holding[word]
                norms = self._norms(places, length / max(1, passages))
                part[places] += _inverse(passages, holding) * ((often * (_K1 + 1.0)) / (often + norms))
            total += part * count
        some = np.flatnonzero(total)
        return self._rowids[some], total[some]

    def _norms(self, places: Array, average: float) -> Array:
        found: Array = _K1 * (1 - _B + _B * self._lengths[places] / average)
        return found

    def _of_word(self, connection: sqlite3.Connection, word: str, term: str | None) -> tuple[Array, Array]:
        """As :meth:`_occurrences`; of what is no single term, or in too many places, from the scores of FTS5."""
        found = None if term is None else self._occurrences(connection, term)
        if found is not None:
            return found
        query = "SELECT rowid, -bm25(lexical) FROM lexical WHERE lexical MATCH ?"
        pairs = np.array(connection.execute(query, (f'"{word}"',)).fetchall(), np.float64).reshape(-1, 2)
        places = np.searchsorted(self._rowids, pairs[:, 0].astype(np.int64))
        shares = pairs[:, 1] / _inverse(len(self._rowids), len(places))
        norms = self._norms(places, self._total / max(1, len(self._rowids)))
        return places, np.rint(shares * norms / (_K1 + 1.0 - shares))

    def _occurrences(self, connection: sqlite3.Connection, term: str) -> tuple[Array, Array] | None:
        """Which passages hold a term, ``[n]`` int32 places among all, and how often ``[n]`` float64."""
        with self._lock:
            if term in self._kept:
                self._kept.move_to_end(term)
                return self._kept[term]
        for kind in ("row", "instance"):
            connection.execute(
                f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.lexical_{kind} USING fts5vocab(main, lexical, {kind})"
            )
        size = connection.execute("SELECT cnt FROM temp.lexical_row WHERE term = ?", (term,)).fetchone()
        if size is not None and size[0] > _MOST_OCCURRENCES:
            return None
        query = "SELECT group_concat(doc) FROM temp.lexical_instance WHERE term = ?"
        rowids = np.fromstring(connection.execute(query, (term,)).fetchone()[0] or "", np.int64, sep=",")
        first = np.flatnonzero(np.diff(rowids, prepend=-1))
        places = np.minimum(np.searchsorted(self._rowids, rowids[first]), max(0, len(self._rowids) - 1))
        if (np.diff(rowids[first]) <= 0).any() or not np.array_equal(self._rowids[places], rowids[first]):
            return None  # not as FTS5 keeps it: it will say so
        found = places.astype(np.int32), np.diff(first, append=len(rowids)).astype(np.float64)
        with self._lock:
            self._kept[term] = found
            while len(self._kept) > 1 and sum(12 * len(one) for one, _ in self._kept.values()) > _KEPT_BYTES:
                self._kept.popitem(last=False)
        return found


def _inverse(passages: int, holding: int) -> float:
    """A word's weight, by in how many passages it is; of a word in half of them or more next to nothing."""
    found = math.log((passages - holding + 0.5) / (holding + 0.5))
    return found if found > 0 else 1e-6


def _terms(tokenizer: str, words: Sequence[str]) -> list[str] | None:
    """What words become in FTS5's index, each one term; None if one becomes something else."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE VIRTUAL TABLE words USING fts5(text, tokenize='{tokenizer}')")
        connection.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(words, instance)")
        connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", enumerate(words))
        found = dict(connection.execute("SELECT doc, term FROM terms"))
        count = connection.execute("SELECT count(*) FROM terms").fetchone()[0]
    return [found[number] for number in range(len(words))] if len(found) == count == len(words) else None


def _varints(listed: str) -> Array:
    """SQLite's numbers of variable length, each in hexadecimal and a comma between them, ``[n]`` int64."""
    digits = np.frombuffer(listed.encode(), np.uint8)
    stops = np.append(np.flatnonzero(digits == ord(",")), len(digits)) if len(digits) else np.zeros(0, np.int64)
    starts = np.append(0, stops[:-1] + 1) if len(stops) else stops
    values = np.where(digits > ord("9"), digits - (ord("A") - 10), digits - ord("0")).astype(np.int64)
    found = np.zeros(len(starts), np.int64)
    for byte in range(int((stops - starts).max(initial=0)) // 2):  # the highest seven bits first
        more = np.flatnonzero(starts + 2 * byte < stops)
        at = starts[more] + 2 * byte
        found[more] = (found[more] << 7) | ((values[at] & 7) << 4) | values[at + 1]
    return found


def _words(text: str) -> list[str]:
    return "".join(" " if _separates_words(character) else character for character in text).split()


def _separates_words(character: str) -> bool:
    # In an old table and in today's: FTS5's lies between, and takes a symbol it does not know for a letter.
    categories = (unicodedata.ucd_3_2_0.category(character), unicodedata.category(character))
    return all(category[0] in _SEPARATORS or category in ("Cc", "Cs") for category in categories)


class Bm25:
    """BM25 of texts held in memory, through the index's own code."""

    def __init__(self, texts: Sequence[str], language: Language = "auto") -> None:
        self._count = len(texts)
        self.full_text = FullText(language_of(filter(None, texts)) if language == "auto" else language)
        self._connection = sqlite3.connect(":memory:")
        add_functions(self._connection)
        self._connection.execute("CREATE TABLE documents (rowid INTEGER PRIMARY KEY, text TEXT)")
        self.full_text.create(self._connection)
        # Rowids as an index would give them, from 1.
        self.full_text.add(self._connection, dict(enumerate(texts, start=1)))

    def scores(self, queries: Sequence[str]) -> Array:
        """``[Nq, Nd]`` float32; 0 where no word is shared."""
        scores = np.zeros((len(queries), self._count), np.float32)
        for row, query in zip(scores, queries, strict=True):
            rowids, values = self.full_text.bm25_scores(self._connection, query)
            row[rowids - 1] = values
        return scores

    def __del__(self) -> None:
        self._connection.close()
