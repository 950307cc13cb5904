"""Read training pairs: one JSONL schema, and whatever else :func:`load_pairs` knows by its files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import DatasetError
from ...evaluation.beir import load_beir
from ...inputs import Item
from .examples import Collector, TrainingSet

_KEYS = {"query", "positive", "positives", "negatives", "query_image", "instruction", "scores"}
_DOCUMENT_KEYS = {"text", "image"}
_PAGE = re.compile(r"(?P<file>.+\.pdf)#page=(?P<page>[1-9][0-9]{0,5})", re.IGNORECASE)
# A single line of text; what is longer is no training pair but a whole file on one line.
_LONGEST_LINE = 16 * 2**20


def load_pairs(path: str | Path, split: str = "train") -> TrainingSet:
    """Read training pairs of any known form.

    Args:
        path: A ``.jsonl`` file (see :func:`read_jsonl`), a BEIR folder (its ``qrels/<split>.tsv``), a ``.parquet``
            file or folder of them as ColPali's training set has, or a folder with ``query.jsonl`` and
            ``cand_pool.jsonl`` as LamRA's has.
        split: Which judgments of a BEIR folder.

    Raises:
        DatasetError: Nothing is there, or a line is malformed; the message names file and line.
        MissingExtraError: Parquet is asked for and pyarrow is not installed.

    Example:
        >>> load_pairs("no/such/file.jsonl")
        Traceback (most recent call last):
        smart_retrieval.errors.DatasetError: found no no/such/file.jsonl, expected ...
    """
    path = Path(path)
    if path.is_dir():
        if (path / "corpus.jsonl").is_file():
            return read_beir(path, split)
        if (path / "cand_pool.jsonl").is_file():
            from .lamra import read_lamra

            return read_lamra(path)
        if any(path.glob("*.parquet")):
            from .colpali import read_colpali

            return read_colpali(path)
    elif path.is_file():
        if path.suffix == ".parquet":
            from .colpali import read_colpali

            return read_colpali(path)
        return read_jsonl(path)
    found = "nothing to learn from in " if path.exists() else "no "
    raise DatasetError(
        f"found {found}{path}, expected a .jsonl file of pairs, a .parquet file, or a folder with corpus.jsonl (BEIR), "
        "*.parquet (ColPali) or query.jsonl and cand_pool.jsonl (LamRA)"
    )


def read_jsonl(path: str | Path) -> TrainingSet:
    """Read one JSON object a line: ``{query, positive | positives, negatives?, query_image?, instruction?, scores?}``.

    A document is a string, which is always text, or an object with ``text``, ``image`` or both. An image is the path of
    a picture file or a page, ``"report.pdf#page=3"``; paths are relative to the file's folder. ``scores`` are a
    teacher's, one for each positive and then each negative. Rows of one query are put together.

    Args:
        path: The file.

    Raises:
        DatasetError: A line is malformed, or names a file that is not there; the message names file and line.
    """
    path = Path(path)
    collector = Collector(path.name)
    for where, record in json_lines(path):
        if unknown := sorted(set(record) - _KEYS):
            raise DatasetError(f"{where}: found keys {unknown}, expected some of {', '.join(sorted(_KEYS))}")
        if ("positive" in record) == ("positives" in record):
            raise DatasetError(f"{where}: expected one of positive and positives")
        query = _query(record, path.parent, where)
        given = record["positives"] if "positives" in record else [record["positive"]]
        positives = [_document(collector, value, path.parent, f"{where}, positive") for value in _listed(given, where)]
        negatives = [
            _document(collector, value, path.parent, f"{where}, negative")
            for value in _listed(record.get("negatives", []), where)
        ]
        if not positives:
            raise DatasetError(f"{where}: found no positive, expected at least one document that answers the query")
        collector.add(query, positives, negatives, _scores(record, len(positives) + len(negatives), where))
    return collector.finish()


def read_beir(folder: str | Path, split: str = "train") -> TrainingSet:
    """Read a BEIR folder's judgments as pairs: grades above 0 are positives, 0 and below negatives.

    Raises:
        DatasetError: As :func:`~smart_retrieval.evaluation.beir.load_beir`.
    """
    data = load_beir(folder, split)
    collector = Collector(f"{data.name} ({split})")
    texts = dict(zip(data.document_ids, data.texts, strict=True))
    for query_id, text in zip(data.query_ids, data.queries, strict=True):
        grades = data.qrels[query_id]
        sides = [[collector.document(Item(texts[d])) for d in grades if (grades[d] > 0) == wanted] for wanted in (1, 0)]
        collector.add(Item(text), *sides)
    collector.warnings.extend(data.warnings)
    return collector.finish()


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where a line stands and the object on it; blank lines are passed over.

    Raises:
        DatasetError: The file cannot be read, or a line is no JSON object.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), start=1):
                where = f"{path}, line {number}"
                if len(line) == _LONGEST_LINE:
                    raise DatasetError(f"{where}: found a line of more than {_LONGEST_LINE:,} bytes")
                if not line.strip():
                    continue
                try:
                    record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                except (ValueError, RecursionError) as error:
                    raise DatasetError(f"{where}: found no readable JSON ({error})") from error
                if not isinstance(record, dict):
                    raise DatasetError(f"{where}: found {type(record).__name__}, expected a JSON object")
                yield where, record
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}") from error


def image_source(name: Any, folder: Path, where: str) -> tuple[Any, str]:
    """A picture file or a page of a PDF, not opened yet, and the file it is a part of.

    Args:
        name: ``"scan.png"`` or ``"report.pdf#page=3"``.
        folder: What a relative path is relative to.
        where: For the message.

    Raises:
        DatasetError: It is no string, a URL, or no such file.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise DatasetError(f"{where}: found {name!r} as image, expected a path such as 'scan.png' or 'a.pdf#page=3'")
    if "://" in name or name.startswith("data:"):
        raise DatasetError(f"{where}: found {name[:60]!r}, expected a local file: nothing is fetched")
    match = _PAGE.fullmatch(name)
    file = folder / (match["file"] if match else name)
    if not file.is_file():
        raise DatasetError(f"{where}: found no file {str(file)!r}")
    if match is None:
        if file.suffix.lower() == ".pdf":
            raise DatasetError(f"{where}: found {name!r} without a page, expected for one {name + '#page=1'!r}")
        return file, str(file)
    from ...pictures.pdf_pages import PdfPageImage

    return PdfPageImage(file, int(match["page"])), str(file)


def _query(record: dict[str, Any], folder: Path, where: str) -> Item:
    text, instruction = record.get("query", ""), record.get("instruction")
    if not isinstance(text, str) or not isinstance(instruction, str | None):
        raise DatasetError(f"{where}: found a query or an instruction that is no string")
    images: tuple[Any, ...] = ()
    if record.get("query_image") is not None:
        images = (image_source(record["query_image"], folder, f"{where}, query_image")[0],)
    if not text.strip() and not images:
        raise DatasetError(f"{where}: found an empty query, expected a text or a query_image")
    return Item(text, images, instruction=instruction)


def _document(collector: Collector, value: Any, folder: Path, where: str) -> int:
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, dict) or not value or set(value) - _DOCUMENT_KEYS:
        raise DatasetError(f"{where}: found {str(value)[:60]!r}, expected a text or an object with text, image or both")
    text = value.get("text", "")
    if not isinstance(text, str):
        raise DatasetError(f"{where}: found {type(text).__name__} as text, expected a string")
    images: tuple[Any, ...] = ()
    group = ""
    if value.get("image") is not None:
        image, group = image_source(value["image"], folder, where)
        images = (image,)
    if not text.strip() and not images:
        raise DatasetError(f"{where}: found an empty document, expected a text or an image")
    return collector.document(Item(text, images), group)


def _listed(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise DatasetError(f"{where}: found {type(value).__name__}, expected a list of documents")
    return value


def _scores(record: dict[str, Any], count: int, where: str) -> list[float] | None:
    scores = record.get("scores")
    if scores is None:
        return None
    numbers = isinstance(scores, list) and all(isinstance(s, int | float) and not isinstance(s, bool) for s in scores)
    if not numbers or len(scores) != count or any(s != s or abs(s) == float("inf") for s in scores):
        raise DatasetError(f"{where}: found scores {str(scores)[:40]}, expected {count} finite numbers")
    return [float(score) for score in scores]
