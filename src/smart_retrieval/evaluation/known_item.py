"""Known-item queries: a judged collection made of documents that nobody has judged.

A query is a title, or else a sentence, that was taken out of its document; that document is the one to find. Such
queries use their documents' own words, which flatters whatever matches words: they can show that a setting does harm or
that nothing changes, and are an indication of a gain, not a measurement of it.
"""

from __future__ import annotations

import math
import random
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ..documents.passages import split
from ..documents.read import read_files
from ..documents.readers.jsonl import JsonlFields, iter_jsonl
from ..documents.sections import clean_text
from ..documents.spans import Span, paragraph_spans, sentence_spans
from ..documents.walk import scan
from ..errors import DatasetError
from ..files import SkipLog
from .beir import DOCUMENTS, QUERIES, BeirDataset

#: What every output says that rests on such queries.
KNOWN_ITEM_NOTE = (
    "known-item queries, made from the documents themselves: they reward shared words; an indication, not a measurement"
)

#: Words of a title that can be a query, and of a sentence.
_LEAST_TITLE, _LEAST_SENTENCE, _MOST_WORDS = 3, 5, 25

_SPAN = 12  # of a longer sentence the most characteristic run of this many words is taken
_LEAST_LETTERS = 0.85  # share of its characters that are letters or spaces
_LEAST_REST = 10  # words that must be left of the document

#: Words of a passage when files are cut: what most text models see (256 pieces), whatever the model, so that the
#: same folder gives the same collection to every model.
_PASSAGE_WORDS = 150

_TRIES = 5  # sentences of a document that are tried
RUN = 5  #: words of a run; longer runs miss copies with small edits, shorter ones match common phrases
SHARE = 0.5  #: two texts are alike if this share of the shorter one's runs is in the other

# Texts that are compared to those just before them with the same run; a longer chain is followed link by link.
_LAGS = 8

# Scripts without spaces count by the character.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


@dataclass(frozen=True, slots=True)
class Source:
    """A document before queries are made; its title or heading, which may be empty, is not in its text."""

    id: str
    text: str
    title: str = ""


def load_known_item(
    folder: str | Path, *, documents: int = DOCUMENTS, queries: int = QUERIES, seed: int = 0
) -> BeirDataset:
    """Make a judged collection of a folder without judgments.

    Args:
        folder: A folder with ``corpus.jsonl``, whose queries and judgments are then not looked at; or a folder of text
            files (Markdown, HTML, reStructuredText, PDF, ...), which are cut into passages of up to 150 words.
        documents: Most documents; of more a random choice is made.
        queries: Most queries.
        seed: Of every choice. The same folder and seed give the same collection, whatever the model.

    Returns:
        The collection, its split called ``"known-item"``. The first of its `warnings` is `KNOWN_ITEM_NOTE`.

    Raises:
        DatasetError: There is no such folder, nothing readable in it, one document only, or none that a query can be
            made of.
        SmartError: A file cannot be read.

    Example:
        >>> data = load_known_item("docs")  # doctest: +SKIP
        >>> data.split, len(data.queries)  # doctest: +SKIP
        ('known-item', 310)
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(f"found no folder {folder}, expected one with corpus.jsonl or with text files")
    if documents < 2 or queries < 1:
        raise DatasetError(f"found {documents} documents and {queries} queries to take, expected at least 2 and 1")
    notes: list[str] = []
    corpus = folder / "corpus.jsonl"
    stream = _records(corpus, notes) if corpus.is_file() else _passages(folder, notes)
    kept, total = _choose(stream, documents, random.Random(seed))
    if len(kept) < total:
        notes.append(f"{len(kept):,} of {total:,} documents taken at random (seed {seed})")
    return known_item_dataset(kept, folder=folder, queries=queries, seed=seed, warnings=notes)


def known_item_dataset(
    sources: Sequence[Source],
    *,
    folder: str | Path,
    queries: int = QUERIES,
    seed: int = 0,
    warnings: Sequence[str] = (),
) -> BeirDataset:
    """Make queries of documents, and take them out of these: at most so many, of documents chosen at random.

    A title of three words or more that stands nowhere else leaves its document, whether it becomes a query or not,
    so that documents with a query do not differ from the others. Of a document without such a title the most
    characteristic sentence is taken: the one whose words are rarest among the documents, words of this document alone
    not counted, for nothing could be found by them. Of near-duplicates the first is kept. In the collection, named
    after the folder, no document holds a query's text, ends of sentences and case aside.
    """
    repeated = [name for name, count in Counter(source.id for source in sources).items() if count > 1]
    if repeated:
        raise DatasetError(f"{folder}: found document id {repeated[0]!r} twice, expected each once")
    documents = [cleaned for source in sources if (cleaned := _cleaned(source)).text]
    alike = near_duplicates([_words(f"{each.title} {each.text}") for each in documents])
    documents = [each for place, each in enumerate(documents) if place not in alike]
    notes = [KNOWN_ITEM_NOTE, *warnings]
    if alike:
        notes.append(f"{len(alike):,} documents left out that are much like another")
    if len(documents) < 2:
        raise DatasetError(
            f"{folder}: found {len(documents)} documents with text after leaving out near-duplicates, expected at "
            "least 2: with one there is nothing to rank"
        )
    maker = _Maker(documents)
    order = list(range(len(documents)))
    random.Random(seed).shuffle(order)
    queried = ((place, query) for place in order if (query := maker.query(place)))
    made = dict(sorted(islice(queried, queries)))
    if not made:
        raise DatasetError(
            f"{folder}: found no document to make a query of, expected some with a title of {_LEAST_TITLE} words, or "
            f"with a sentence of {_LEAST_SENTENCE} words beside {_LEAST_REST} more"
        )
    from_titles = len(made.keys() & maker.titles.keys())
    notes.append(f"{from_titles:,} queries are titles, {len(made) - from_titles:,} are sentences; seed {seed}")
    folder, ids = Path(folder), [each.id for each in documents]
    qrels = {f"q:{ids[place]}": {ids[place]: 1} for place in made}
    return BeirDataset(
        name=folder.resolve().name,
        folder=folder,
        split="known-item",
        document_ids=ids,
        texts=maker.texts,
        query_ids=list(qrels),
        queries=list(made.values()),
        qrels=qrels,
        warnings=notes,
    )


class _Maker:
    """Documents from which queries are taken out: ``titles`` by position, and ``texts``, what is left of each."""

    def __init__(self, documents: Sequence[Source]) -> None:
        self._made: list[str] = []
        self._whole = [_normal(f"{each.title} {each.text}") for each in documents]
        self._postings: defaultdict[str, list[int]] = defaultdict(list)
        for place, text in enumerate(self._whole):
            for word in dict.fromkeys(text.split()):
                self._postings[word].append(place)
        self.titles = {
            place: each.title
            for place, each in enumerate(documents)
            if self._is_query_title(place, each.title, each.text)
        }
        self.texts = [
            each.text if place in self.titles or not each.title else f"{each.title} {each.text}"
            for place, each in enumerate(documents)
        ]
        self._bodies = [len(text) - len(each.text) for text, each in zip(self.texts, documents, strict=True)]

    def query(self, place: int) -> str:
        """Take a query out of a document; empty if there is none that serves."""
        if title := self.titles.get(place):
            # Once more: a cut joins words that were apart.
            return self._keep(title) if self._is_alone(title, place) else ""
        text = self.texts[place]
        sentences, parts = self._spans(text, self._bodies[place])
        for start, stop in (self._best_first(text, sentences) + self._best_first(text, parts))[:_TRIES]:
            query = " ".join(text[start:stop].split())
            rest = f"{text[:start].rstrip()} {text[stop:].lstrip()}".strip()
            left = _normal(rest)
            if len(left.split()) < _LEAST_REST or not self._is_alone(query, place):
                continue
            if not any(words in left for words in (_normal(query), *self._made)):
                self.texts[place], self._whole[place] = rest, left
                return self._keep(query)
        return ""

    def _keep(self, query: str) -> str:
        self._made.append(_normal(query))
        return query

    def _is_query_title(self, place: int, title: str, text: str) -> bool:
        return (
            _LEAST_TITLE <= len(_words(title)) <= _MOST_WORDS
            and len(_words(text)) >= _LEAST_REST
            and _normal(title) not in _normal(text)
            and self._is_alone(title, place)
        )

    def _is_alone(self, query: str, place: int) -> bool:
        """Whether no other document holds the words of a query in a row."""
        words = _normal(query)
        # The first and last word may be parts of longer ones elsewhere; those between are whole.
        inner = words.split()[1:-1]
        rarest = min((self._postings[word] for word in inner), key=len)
        return not any(words in self._whole[other] for other in rarest if other != place)

    def _spans(self, text: str, start: int) -> tuple[list[Span], list[Span]]:
        """What may be cut out of a document: its sentences, and a part of each that is too long."""
        sentences: list[Span] = []
        parts: list[Span] = []
        for paragraph in paragraph_spans(text, start, len(text)):
            for begin, end in sentence_spans(text, *paragraph):
                words = [(begin + found.start(), begin + found.end()) for found in _WORD.finditer(text[begin:end])]
                letters = sum(character.isalpha() or character.isspace() for character in text[begin:end])
                # Less is a table, code or numbers.
                if letters < _LEAST_LETTERS * (end - begin):
                    continue
                if _LEAST_SENTENCE <= len(words) <= _MOST_WORDS:
                    sentences.append((begin, end))
                elif len(words) > _MOST_WORDS:
                    runs = [(words[at][0], words[at + _SPAN - 1][1]) for at in range(len(words) - _SPAN + 1)]
                    parts.append(self._best_first(text, runs)[0])
        return sentences, parts

    def _best_first(self, text: str, spans: Sequence[Span]) -> list[Span]:
        return sorted(spans, key=lambda span: (-self._worth(text[slice(*span)]), span))

    def _worth(self, text: str) -> float:
        """Mean rarity of the words, those of one document alone counted as nothing."""
        counts = [len(self._postings[word]) for word in _words(text)]
        return sum(math.log(len(self._whole) / count) for count in counts if count > 1) / len(counts)


def near_duplicates(texts: Sequence[Sequence[str]]) -> set[int]:
    """Positions of texts, given as words, that are like an earlier one.

    Two texts are alike if half of the five-word runs of the shorter one are in the other, too (Broder, "On the
    resemblance and containment of documents", 1997); texts of fewer words are one run. What is like a text that is like
    an earlier one is found as well, and the first of each family is not. Texts without words are never alike.
    """
    runs = [_runs(words) for words in texts]
    sizes = np.array([len(own) for own in runs], np.int64)
    if len(sizes) < 2 or not sizes.any():
        return set()
    hashes = np.concatenate(runs)
    owners = np.repeat(np.arange(len(runs)), sizes)
    order = np.lexsort((owners, hashes))
    hashes, owners = hashes[order], owners[order]
    pairs = []
    for lag in range(1, _LAGS + 1):
        same = hashes[lag:] == hashes[:-lag]
        pairs.append(owners[:-lag][same] * len(runs) + owners[lag:][same])
    found, shared = np.unique(np.concatenate(pairs), return_counts=True)
    earlier, later = found // len(runs), found % len(runs)
    alike = shared >= SHARE * np.minimum(sizes[earlier], sizes[later])
    return {int(position) for position in later[alike]}


def _runs(words: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """The distinct runs of a text, hashed (by a function that is the same in every process)."""
    if not words:
        return np.zeros(0, np.uint32)
    starts = range(max(1, len(words) - RUN + 1))
    return np.unique(
        np.array([zlib.crc32("\0".join(words[start : start + RUN]).encode()) for start in starts], np.uint32)
    )


def _words(text: str) -> list[str]:
    """Words in small letters; characters of scripts without spaces one by one."""
    return _WORD.findall(text.casefold())


def _normal(text: str) -> str:
    """The words alone, by which texts are compared."""
    return " ".join(_words(text))


def _cleaned(source: Source) -> Source:
    """The same, safe to encode; a title that the text repeats at its beginning is taken off there."""
    title, text = " ".join(clean_text(source.title).split()), clean_text(source.text).strip()
    if title and text.casefold().startswith(title.casefold()):
        text = text[len(title) :].lstrip(" .:\n\t")
    # A document of nothing but a title is that text.
    return Source(source.id, text, title) if text else Source(source.id, title)


def _records(corpus: Path, notes: list[str]) -> Iterator[Source]:
    """The documents of a corpus file."""
    # The title is among the texts as well, or a document of nothing but a title would count as a bad line.
    fields = JsonlFields(text=("title", "text"), title="title", id="_id", metadata=())
    passed_over: list[str] = []
    for section in iter_jsonl(corpus, fields, passed_over):
        yield Source(section.key, section.text, section.heading[0] if section.heading else "")
    notes += [f"{corpus.name}: {note}" for note in passed_over[-1:]]


def _passages(folder: Path, notes: list[str]) -> Iterator[Source]:
    """The passages of a folder of files, each with its innermost heading as the title."""
    log = SkipLog()
    for file, document in read_files(scan(folder, skipped=log), log):
        cut = split(
            document.sections,
            max_tokens=_PASSAGE_WORDS,
            count_tokens=lambda text: len(_words(text)),
            source=file.relative,
        )
        for passage in cut:
            yield Source(passage.id, passage.text, passage.heading[-1] if passage.heading else "")
    if log.failed:
        notes.append(f"{log.failed:,} files that could not be read left out")


def _choose(stream: Iterable[Source], most: int, rng: random.Random) -> tuple[list[Source], int]:
    """At most so many of a stream, all equally likely, in their order; and how many there were."""
    kept: list[tuple[int, Source]] = []
    total = 0
    for total, source in enumerate(stream, start=1):
        if len(kept) < most:
            kept.append((total, source))
        elif (slot := rng.randrange(total)) < most:
            kept[slot] = (total, source)
    return [source for _, source in sorted(kept, key=lambda pair: pair[0])], total
