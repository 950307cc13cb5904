"""A folder in the BEIR layout as a test collection: read strictly, and made smaller where wanted."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from ..errors import DatasetError, SmartError
from ..files import UnreadableFileError, content_hash, open_local
from ..inputs import Item, item_of, named_media
from ..types import Array
from .metrics import rank

#: The default size of a collection: every layer of so many abstracts takes some 7 GB with MiniLM.
DOCUMENTS, QUERIES = 4_000, 400

#: Higher numbers cannot be grades, and trec_eval allots memory in proportion to the highest.
_HIGHEST_GRADE = 1000

# First and last columns by which the optional header line of a qrels file is recognised.
_HEADER_FIRST = {"query-id", "query_id", "queryid", "qid", "query"}
_HEADER_LAST = {"score", "relevance", "rel", "grade", "label"}


#: Grades by query id and document id.
Qrels: TypeAlias = dict[str, dict[str, int]]
#: What a line may name beside its text.
MediaKind: TypeAlias = Literal["image", "video", "audio"]
_EXPECTED = "an image, video or audio"
_MEDIA: Mapping[MediaKind, str] = {"image": "image", "video": "video", "audio": "audio"}


@dataclass(frozen=True)
class BeirDataset:
    """A test collection, ready to be encoded and judged.

    Attributes:
        name: The folder's name.
        folder: Where it was read from.
        split: Which qrels file it is judged by.
        document_ids: Every document's id, in the order of the file.
        texts: Title and text of each document, joined by a space; an empty string for an empty document.
        query_ids: Queries with at least one relevant document, in the order of the file.
        queries: Their texts.
        qrels: Grades by query id (exactly `query_ids`, in their order) and document id; 0 and below is not relevant.
        warnings: What was left out or looks odd, one counted sentence each.
        media: By id, the picture, video or sound of each document that has some, without its text.
        query_media: The same of queries.
    """

    name: str
    folder: Path
    split: str
    document_ids: list[str]
    texts: list[str]
    query_ids: list[str]
    queries: list[str]
    qrels: Qrels
    warnings: list[str]
    media: Mapping[str, Item] = field(default_factory=dict)
    query_media: Mapping[str, Item] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all ids and contents in their order, see `content_fingerprint`."""
        contents = [*self.contents("document"), *self.contents("query")]
        return content_fingerprint([*self.document_ids, *self.query_ids], contents)

    def items(self, task: Literal["query", "document"]) -> list[str | Item]:
        """The documents or queries as a model takes them: texts, and `Item` where there is more than that."""
        ids, texts, media = self._side(task)
        return [
            replace(media[name], text=text) if name in media else text for name, text in zip(ids, texts, strict=True)
        ]

    def contents(self, task: Literal["query", "document"]) -> list[str]:
        """What tells the content of each document or query from another: its text, and digests of what it shows."""
        ids, texts, media = self._side(task)
        hashes: dict[Path, str] = {}

        def digest(source: Any) -> str:
            file = source if isinstance(source, Path) else source.path
            if file not in hashes:
                hashes[file] = content_hash(file)
            part = [f"{key}={value}" for key in ("page", "start", "end") if (value := getattr(source, key, None))]
            return "#".join([hashes[file], *part])

        def digests(item: Item) -> str:
            return "".join(f"\0{digest(one)}" for one in (*item.images, item.video, item.audio) if one is not None)

        return [
            f"{text}{digests(media[name])}" if name in media else text for name, text in zip(ids, texts, strict=True)
        ]

    def _side(self, task: str) -> tuple[list[str], list[str], Mapping[str, Item]]:
        if task == "query":
            return self.query_ids, self.queries, self.query_media
        return self.document_ids, self.texts, self.media

    @cached_property
    def identical(self) -> frozenset[str]:
        """Ids that a query and a document share; such a document is taken for the query and not ranked for it.

        BEIR's rule (its ``ignore_identical_ids``), but for a document that is judged relevant to the query of its id:
        that is an answer, not the question.
        """
        shared = set(self.query_ids).intersection(self.document_ids)
        return frozenset(query for query in shared if self.qrels[query].get(query, 0) <= 0)

    def without_identical(self, scores: Array, queries: slice = slice(None)) -> Array:
        """Scores with minus infinity for documents that are not ranked, see `identical`.

        Args:
            scores: Scores of all documents, ``[Nq, Nd]``.
            queries: The queries of the rows; all when left out.

        Returns:
            A copy; the scores themselves where nothing is left out.
        """
        rows = [row for row, query in enumerate(self.query_ids[queries]) if query in self.identical]
        if not rows:
            return scores
        kept = scores.astype(np.result_type(scores, np.float32))
        kept[rows, [self._columns[self.query_ids[queries][row]] for row in rows]] = -np.inf
        return kept

    def rank(self, scores: Array, depth: int, queries: slice = slice(None)) -> dict[str, list[str]]:
        """The best documents of each query by its id, `without_identical`; the rest as `metrics.rank` does it.

        Args:
            scores: Scores of all documents, ``[Nq, Nd]``; minus infinity where a document is not to be listed.
            depth: How many documents to list.
            queries: The queries of the rows; all when left out.

        Returns:
            Document ids, best first, by query id.

        Raises:
            NonFiniteError: A score is NaN.
            ScoringError: The shapes do not fit together, or `depth` is below 1.

        Example:
            >>> data = load_beir("arguana")  # doctest: +SKIP
            >>> data.rank(scores, 10)[data.query_ids[0]]  # doctest: +SKIP
        """
        ranked = rank(self.without_identical(scores, queries), self.document_ids, depth)
        return dict(zip(self.query_ids[queries], ranked, strict=True))

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {name: column for column, name in enumerate(self.document_ids)}


def load_beir(folder: str | Path, split: str = "test") -> BeirDataset:
    """Read a BEIR-layout folder and check every line of it.

    A UTF-8 byte-order mark, blank lines, Windows line ends and a missing qrels header are accepted; ids that are
    integers are read as their decimal digits. Only queries with at least one relevant document are kept: the metrics
    are not defined for others.

    A line may have an ``image``, ``video`` or ``audio`` beside its ``text`` or instead of it: a file relative to the
    folder, a page such as ``"report.pdf#page=3"``, or seconds such as ``"talk.mp3#t=60,90"``.

    Args:
        folder: Holds ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/<split>.tsv``.
        split: Name of the qrels file.

    Returns:
        The collection. Its `warnings` say what was left out.

    Raises:
        DatasetError: A file is missing or unreadable, a line is malformed (the message names file and line), or
            nothing is left to evaluate.

    Example:
        >>> load_beir("no/such/folder")
        Traceback (most recent call last):
        smart_retrieval.errors.DatasetError: found no folder no/such/folder, expected ...

    Source:
        The layout: Thakur et al., "BEIR: A heterogeneous benchmark for zero-shot evaluation of information
        retrieval models", NeurIPS 2021.
    """
    folder = Path(folder)
    corpus_file, queries_file, qrels_file = _find_files(folder, split)
    warnings: list[str] = []
    corpus, media = _read_texts(corpus_file)
    all_queries, query_media = _read_texts(queries_file)
    for kind, file, texts in (("documents", corpus_file, corpus), ("queries", queries_file, all_queries)):
        if not texts:
            raise DatasetError(f"found no {kind} in {file}, expected one JSON object a line")
    judged = _read_qrels(qrels_file, warnings)
    qrels = _keep_known(judged, corpus, all_queries, qrels_file, warnings)
    queries = {query: all_queries[query] for query in qrels}
    for texts, seen, one, many in (
        (corpus, media, "document", "documents"), (queries, query_media, "query", "queries"),
    ):  # fmt: skip
        if empty := [name for name, text in texts.items() if not text and name not in seen]:
            warnings.append(f"{_count(len(empty), one, many)} without any text kept: {_name_some(empty)}")
    documents, asked = (list(corpus), list(corpus.values())), (list(queries), list(queries.values()))
    name = folder.resolve().name
    data = BeirDataset(name, folder, split, *documents, *asked, qrels, warnings, media, query_media)
    if data.identical:
        counted = _count(len(data.identical), "query has", "queries have")
        named = _name_some(query for query in data.query_ids if query in data.identical)
        warnings.append(f"{counted} the id of a document, which is not ranked for them, as in BEIR: {named}")
    return data


def content_fingerprint(ids: Sequence[str], texts: Sequence[str]) -> str:
    """SHA-256 of ids and texts in their order, which counts: encodings are stored row by row."""
    digest = hashlib.sha256()
    for pair in zip(ids, texts, strict=True):
        for part in pair:
            encoded = part.encode()
            # The length before each part, or ("a", "b") and ("ab", "") would look alike.
            digest.update(len(encoded).to_bytes(8, "little"))
            digest.update(encoded)
    return digest.hexdigest()


def _find_files(folder: Path, split: str) -> tuple[Path, Path, Path]:
    """The three files; or an error that lists the missing ones, what is there, and the splits available."""
    if not folder.is_dir():
        raise DatasetError(
            f"found no folder {folder}, expected one with corpus.jsonl, queries.jsonl and qrels/{split}.tsv"
        )
    files = (folder / "corpus.jsonl", folder / "queries.jsonl", folder / "qrels" / f"{split}.tsv")
    if missing := [path for path in files if not path.is_file()]:
        there = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
        shown = ", ".join(there[:10]) + (f" and {len(there) - 10} more" if len(there) > 10 else "")
        message = f"found no {' and no '.join(str(path) for path in missing)}; {folder} holds {shown or 'nothing'}"
        if files[2] in missing:
            splits = sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))
            message += f"; splits available: {', '.join(splits) or 'none'}"
        raise DatasetError(message)
    return files


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its end) for each line that is not blank."""
    try:
        # Bytes, because text mode would report neither the line of a bad byte nor split at newlines alone.
        with open_local(path) as file:
            for number, line in enumerate(file, start=1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise DatasetError(
                        f"{path}, line {number}: found bytes that are not UTF-8 at column {error.start + 1}, "
                        "expected UTF-8: convert the file, with iconv for one"
                    ) from error
                if text.strip():
                    yield number, text.rstrip("\r\n")
    except UnreadableFileError as error:
        raise DatasetError(str(error)) from error
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}") from error


def _read_texts(path: Path) -> tuple[dict[str, str], dict[str, Item]]:
    """Read a corpus or query file: title and text by id, in the order of the file, and what else some have."""
    texts: dict[str, str] = {}
    media: dict[str, Item] = {}
    first_line: dict[str, int] = {}
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DatasetError(f"{where}: found malformed JSON ({error.msg} at column {error.colno})") from error
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{where}: found JSON that cannot be read ({error})") from error
        if not isinstance(record, dict):
            raise DatasetError(f"{where}: found {_kind(record)}, expected a JSON object with _id and text")
        identity = record.get("_id")
        if isinstance(identity, int) and not isinstance(identity, bool):
            identity = str(identity)
        if not isinstance(identity, str) or not identity or "\0" in identity:
            found = f"{identity!r} as _id" if "_id" in record else "no _id"
            raise DatasetError(f"{where}: found {found}, expected a string that is not empty")
        if identity in texts:
            raise DatasetError(
                f"{where}: found the _id {identity!r} again, first given on line {first_line[identity]}; "
                "expected each id once"
            )
        if (item := media_of(record, _MEDIA, path.parent, where)) is not None:
            media[identity] = item
        elif "text" not in record:
            raise DatasetError(f"{where}: found no text for _id {identity!r}, expected a string, or {_EXPECTED}")
        # A title of null is common in exported collections and can only mean that there is none.
        parts: dict[str, Any] = {
            "title": record.get("title") if record.get("title") is not None else "",
            "text": record.get("text"),
        }
        if parts["text"] is None and identity in media:
            parts["text"] = ""
        for part, value in parts.items():
            if not isinstance(value, str):
                raise DatasetError(f"{where}: found {_kind(value)} as {part} of _id {identity!r}, expected a string")
        text = " ".join(stripped for value in parts.values() if (stripped := value.strip()))
        try:
            f"{identity}{text}".encode()
        except UnicodeEncodeError as error:
            raise DatasetError(
                f"{where}: found half of a surrogate pair (\\ud800 to \\udfff) in _id {identity!r}, "
                "expected whole characters"
            ) from error
        texts[identity], first_line[identity] = text, number
    return texts, media


def media_of(record: Mapping[str, Any], keys: Mapping[MediaKind, str], folder: Path, where: str) -> Item | None:
    """The picture, video and sound that a line of a data set names, not opened yet; None where it names none.

    Args:
        record: The line.
        keys: Under which key it has each kind.
        folder: What the paths are relative to.
        where: File and line, for the message.

    Raises:
        DatasetError: One is no path, a URL, not there, or a whole PDF.
    """
    try:
        found = {
            kind: named_media(record[key], kind, folder) for kind, key in keys.items() if record.get(key) is not None
        }
    except SmartError as error:
        raise DatasetError(f"{where}: {error}") from error
    return item_of(found) if found else None


def _read_qrels(path: Path, warnings: list[str]) -> Qrels:
    qrels: Qrels = {}
    repeated: list[str] = []
    for place, (number, line) in enumerate(_lines(path)):
        columns = [column.strip() for column in line.split("\t")]
        if place == 0 and (columns[0].lower() in _HEADER_FIRST or columns[-1].lower() in _HEADER_LAST):
            continue
        where = f"{path}, line {number}"
        if len(columns) != 3:
            raise DatasetError(
                f"{where}: found {_count(len(columns), 'column')}, "
                "expected 3 separated by tabs: query id, document id, score"
            )
        query, document, score = columns
        if not query or not document:
            raise DatasetError(f"{where}: found an empty id, expected query id, document id and score")
        if not re.fullmatch(r"[+-]?[0-9]{1,9}", score) or abs(int(score)) > _HIGHEST_GRADE:
            raise DatasetError(
                f"{where}: found score {score!r}, expected an integer from -{_HIGHEST_GRADE} to {_HIGHEST_GRADE}"
            )
        grades = qrels.setdefault(query, {})
        if document in grades:
            if grades[document] != int(score):
                raise DatasetError(
                    f"{where}: found score {score} for query {query!r} and document {document!r}, which an earlier "
                    f"line gives {grades[document]}; expected one judgment of each pair"
                )
            repeated.append(f"{query} {document}")
        grades[document] = int(score)
    if repeated:
        warnings.append(
            f"{_count(len(repeated), 'judgment')} repeated in {path.name} counted once: {_name_some(repeated)}"
        )
    return qrels


def _keep_known(
    judged: Qrels, corpus: dict[str, str], queries: dict[str, str], path: Path, warnings: list[str]
) -> Qrels:
    """Drop judgments of unknown ids and queries with nothing to find, each with a counted warning."""
    if not judged:
        raise DatasetError(f"found no judgments in {path}, expected lines of query id, document id and score")
    if unknown_queries := [query for query in judged if query not in queries]:
        lost = sum(len(judged[query]) for query in unknown_queries)
        named = _count(len(unknown_queries), "unknown query", "unknown queries")
        warnings.append(f"{_count(lost, 'judgment')} of {named} left out: {_name_some(unknown_queries)}")
    # A dictionary keeps the order of first sight, so that the first three named are the first three in the file.
    missing: dict[str, None] = {}
    lost = 0
    kept: Qrels = {}
    without_judgment, without_relevant = [], []
    for query in queries:
        if query not in judged:
            without_judgment.append(query)
            continue
        unknown = [document for document in judged[query] if document not in corpus]
        missing.update(dict.fromkeys(unknown))
        lost += len(unknown)
        grades = {document: grade for document, grade in judged[query].items() if document in corpus}
        if any(grade > 0 for grade in grades.values()):
            kept[query] = grades
        else:
            without_relevant.append(query)
    if missing:
        named = _count(len(missing), "unknown document")
        warnings.append(f"{_count(lost, 'judgment')} of {named} left out: {_name_some(missing)}")
    for left_out, lack in ((without_judgment, "any judgment"), (without_relevant, "a relevant document")):
        if left_out:
            counted = _count(len(left_out), "query", "queries")
            warnings.append(f"{counted} without {lack} in split {path.stem!r} left out: {_name_some(left_out)}")
    if not kept:
        because = "; ".join(warnings)
        raise DatasetError(f"found no query with a relevant document by {path}, expected at least one: {because}")
    return kept


def _count(number: int, one: str, many: str | None = None) -> str:
    """Phrase a counted thing: 1 query, 1,400 documents."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _name_some(ids: Iterable[str]) -> str:
    """Name up to three ids, and say if there are more."""
    names = list(ids)
    return ", ".join(repr(name) for name in names[:3]) + (", …" if len(names) > 3 else "")


def _kind(value: object) -> str:
    """Name a JSON value's type as JSON calls it."""
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "null")


def sample(data: BeirDataset, documents: int = DOCUMENTS, queries: int = QUERIES, seed: int = 0) -> BeirDataset:
    """A smaller collection of the same queries and documents, or the same one where it is small enough.

    Queries are drawn first; then every document that is relevant to one of them is kept, and others at random until
    there are enough. Such a collection is easier than the whole: its figures compare settings, not collections.
    """
    if documents < 1 or queries < 1:
        raise DatasetError(f"sample: found {documents} documents and {queries} queries to take, expected 1 or more")
    if len(data.texts) <= documents and len(data.queries) <= queries:
        return data
    rng = random.Random(seed)
    chosen = sorted(rng.sample(range(len(data.queries)), min(queries, len(data.queries))))
    query_ids, asked = [data.query_ids[place] for place in chosen], [data.queries[place] for place in chosen]
    relevant = {name for query in query_ids for name, grade in data.qrels[query].items() if grade > 0}
    others = [place for place, name in enumerate(data.document_ids) if name not in relevant]
    drawn = set(rng.sample(others, min(len(others), max(0, documents - len(relevant)))))
    places = [place for place, name in enumerate(data.document_ids) if name in relevant or place in drawn]
    document_ids = [data.document_ids[place] for place in places]
    known = set(document_ids)
    note = (
        f"{len(places):,} of {len(data.texts):,} documents and {len(chosen):,} of {len(data.queries):,} queries drawn "
        f"(seed {seed}), every relevant document among them: easier than the whole collection"
    )
    return replace(
        data,
        document_ids=document_ids,
        texts=[data.texts[place] for place in places],
        query_ids=query_ids,
        queries=asked,
        qrels={
            query: {name: grade for name, grade in data.qrels[query].items() if name in known} for query in query_ids
        },
        warnings=[*data.warnings, note],
    )
