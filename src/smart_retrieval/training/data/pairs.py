"""Read training pairs: JSONL, BEIR, LamRA's folders, and ColPali's parquet files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DatasetError
from ...evaluation.beir import MediaKind, load_beir, media_of
from ...extras import require
from ...files import UnreadableFileError, open_local
from ...inputs import Item, item_of
from .examples import Collector, TrainingSet

if TYPE_CHECKING:
    from PIL.Image import Image

_MEDIA: dict[MediaKind, str] = {"image": "image", "video": "video", "audio": "audio"}
_QUERY_MEDIA: dict[MediaKind, str] = {kind: f"query_{kind}" for kind in _MEDIA}
_LAMRA_MEDIA: dict[MediaKind, str] = {"image": "img_path"}
_LAMRA_QUERY_MEDIA: dict[MediaKind, str] = {"image": "query_img_path"}
_KEYS = {"query", "positive", "positives", "negatives", *_QUERY_MEDIA.values(), "instruction", "scores"}
_DOCUMENT_KEYS = {"text", *_MEDIA.values()}
# A single line of text; what is longer is no training pair but a whole file on one line.
_LONGEST_LINE = 16 * 2**20


def load_pairs(path: str | Path, split: str = "train") -> TrainingSet:
    """Read training pairs of any known form.

    A ``.jsonl`` file has one JSON object a line: ``{query, positive | positives, negatives?, query_image?,
    query_video?, query_audio?, instruction?, scores?}``. A document is a string, which is always text, or an object
    with some of ``text``, ``image``, ``video`` and ``audio``: paths relative to the file's folder, of a page
    ``"report.pdf#page=3"``, of seconds ``"talk.mp3#t=60,90"``.
    ``scores`` are a teacher's, one for each positive and then each negative. Rows of one query are merged.

    Args:
        path: A ``.jsonl`` file, a BEIR folder (in its ``qrels/<split>.tsv`` grades above 0 are positives, others
            negatives), a ``.parquet`` file or folder of them as ColPali's training set has, or a folder with
            ``query.jsonl`` and ``cand_pool.jsonl`` as LamRA's has.
        split: Which judgments of a BEIR folder.

    Returns:
        The examples, every query and every document once.

    Raises:
        DatasetError: Nothing is there, a line is malformed, or it names a file that is not there; the message names
            file and line.
        MissingExtraError: Parquet needs pyarrow, which is not installed.

    Example:
        >>> load_pairs("no/such/file.jsonl")
        Traceback (most recent call last):
        smart_retrieval.errors.DatasetError: found no no/such/file.jsonl, expected ...
    """
    path = Path(path)
    if (path / "corpus.jsonl").is_file():
        return _read_beir(path, split)
    if (path / "cand_pool.jsonl").is_file():
        return _read_lamra(path)
    if path.is_file() and path.suffix != ".parquet":
        return _read_jsonl(path)
    if path.is_file() or any(path.glob("*.parquet")):
        return _read_colpali(path)
    found = "nothing to learn from in " if path.exists() else "no "
    raise DatasetError(
        f"found {found}{path}, expected a .jsonl file of pairs, a .parquet file, or a folder with corpus.jsonl (BEIR), "
        "*.parquet (ColPali) or query.jsonl and cand_pool.jsonl (LamRA)"
    )


def _read_jsonl(path: Path) -> TrainingSet:
    collector = Collector(path.name)
    folder = path.parent
    for where, record in _json_lines(path):
        if unknown := sorted(set(record) - _KEYS):
            raise DatasetError(f"{where}: found keys {unknown}, expected some of {', '.join(sorted(_KEYS))}")
        if ("positive" in record) == ("positives" in record):
            raise DatasetError(f"{where}: expected one of positive and positives")
        instruction = record.get("instruction")
        if not isinstance(instruction, str | None):
            raise DatasetError(f"{where}: found {type(instruction).__name__} as instruction, expected a string")
        query, _ = _item(record, "query", _QUERY_MEDIA, folder, where, instruction=instruction)
        given = record["positives"] if "positives" in record else [record["positive"]]
        positives = _documents(collector, given, folder, where, "positive")
        negatives = _documents(collector, record.get("negatives", []), folder, where, "negative")
        if not positives:
            raise DatasetError(f"{where}: found no positive, expected at least one document that answers the query")
        collector.add(query, positives, negatives, _scores(record, len(positives) + len(negatives), where))
    return collector.finish()


def _read_beir(folder: Path, split: str) -> TrainingSet:
    data = load_beir(folder, split)
    collector = Collector(f"{data.name} ({split})")
    documents = dict(zip(data.document_ids, map(item_of, data.items("document")), strict=True))
    for query_id, query in zip(data.query_ids, map(item_of, data.items("query")), strict=True):
        grades = data.qrels[query_id]
        sides = [[collector.document(documents[d]) for d in grades if (grades[d] > 0) == wanted] for wanted in (1, 0)]
        collector.add(query, *sides, identical=documents[query_id] if query_id in data.identical else None)
    collector.warnings.extend(data.warnings)
    return collector.finish()


def _read_lamra(folder: Path) -> TrainingSet:
    """The M-BEIR form.

    Queries have ``qid``, ``query_txt``, ``query_img_path``, ``pos_cand_list``, ``neg_cand_list``; candidates ``did``,
    ``txt``, ``img_path``. Paths are relative to the folder.
    """
    pool: dict[str, tuple[Item, str]] = {}
    for where, record in _json_lines(folder / "cand_pool.jsonl"):
        did = record.get("did")
        if not isinstance(did, str) or not did or did in pool:
            raise DatasetError(f"{where}: found did {did!r}, expected a string, each once")
        pool[did] = _item(_without_empty(record), "txt", _LAMRA_MEDIA, folder, where)
    collector = Collector(folder.name)
    for where, record in _json_lines(folder / "query.jsonl"):
        query, _ = _item(_without_empty(record), "query_txt", _LAMRA_QUERY_MEDIA, folder, where)
        sides = []
        for name in ("pos_cand_list", "neg_cand_list"):
            known = record.get(name) or []
            if not isinstance(known, list) or (missing := [did for did in known if did not in pool]):
                raise DatasetError(f"{where}: found {name} with unknown candidates {missing[:3]!r}")
            sides.append([collector.document(*pool[did]) for did in known])
        if not sides[0]:
            raise DatasetError(f"{where}: found no pos_cand_list, expected at least one candidate")
        collector.add(query, *sides)
    return collector.finish()


def _without_empty(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if value != ""}


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The file and line of each JSON object, and the object; blank lines are passed over."""
    try:
        with open_local(path) as file:
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
    except UnreadableFileError as error:
        raise DatasetError(str(error)) from error
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}") from error


def _item(
    record: Mapping[str, Any],
    text_key: str,
    media_keys: Mapping[MediaKind, str],
    folder: Path,
    where: str,
    instruction: str | None = None,
) -> tuple[Item, str]:
    """A query or document, and the file that what it shows is a part of."""
    text = record.get(text_key)
    if not isinstance(text, str | None):
        raise DatasetError(f"{where}: found {type(text).__name__} as {text_key}, expected a string")
    media = media_of(record, media_keys, folder, where)
    if not (text or "").strip() and media is None:
        noun = "query" if text_key.startswith("query") else "document"
        raise DatasetError(f"{where}: found an empty {noun}, expected {text_key} or {' or '.join(media_keys.values())}")
    item = replace(media or Item(), text=text or "", instruction=instruction)
    shown: Any = next((one for one in (*item.images, item.video, item.audio) if one is not None), None)
    return item, "" if shown is None else str(getattr(shown, "path", shown))


def _documents(collector: Collector, values: Any, folder: Path, where: str, kind: str) -> list[int]:
    if not isinstance(values, list):
        raise DatasetError(f"{where}: found {type(values).__name__}, expected a list of documents")
    numbers = []
    for given in values:
        value = {"text": given} if isinstance(given, str) else given
        if not isinstance(value, dict) or not value or set(value) - _DOCUMENT_KEYS:
            raise DatasetError(
                f"{where}, {kind}: found {str(value)[:60]!r}, expected a text or an object with some of "
                "text, image, video and audio"
            )
        numbers.append(collector.document(*_item(value, "text", _MEDIA, folder, f"{where}, {kind}")))
    return numbers


def _scores(record: Mapping[str, Any], count: int, where: str) -> list[float] | None:
    scores = record.get("scores")
    if scores is None:
        return None
    numbers = isinstance(scores, list) and all(isinstance(s, int | float) and not isinstance(s, bool) for s in scores)
    if not numbers or len(scores) != count or not all(map(math.isfinite, scores)):
        raise DatasetError(f"{where}: found scores {str(scores)[:40]}, expected {count} finite numbers")
    return [float(score) for score in scores]


# -- parquet files -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ParquetImage:
    """The picture of one row of a file, read when it is needed; ``page`` is the row, as it is of other page images."""

    path: Path
    page: int

    def load(self) -> Image:
        """The picture, RGB."""
        from ...pictures.images import load_image

        table, starts = _row_groups(self.path)
        group = next(i for i in range(table.num_row_groups) if starts[i] <= self.page < starts[i + 1])
        value = _images(self.path, group)[self.page - starts[group]].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise UnreadableFileError(self.path, f"no picture in row {self.page}")
        return load_image(data)


@lru_cache(maxsize=2)
def _row_groups(path: Path) -> tuple[Any, list[int]]:
    table = require("pyarrow.parquet", "train").ParquetFile(path)
    sizes = (table.metadata.row_group(group).num_rows for group in range(table.num_row_groups))
    return table, list(accumulate(sizes, initial=0))


@lru_cache(maxsize=2)
def _images(path: Path, group: int) -> Any:
    return _row_groups(path)[0].read_row_group(group, columns=["image"]).column("image")


def _read_colpali(path: Path) -> TrainingSet:
    """Read a parquet file, or a folder of them, with the columns ``image``, ``query`` and ``image_filename``.

    Rows without a query are left out. Rows with the same picture (by ``image_filename`` within the set) are one
    document.
    """
    parquet = require("pyarrow.parquet", "train")
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    collector = Collector(path.name)
    without = 0
    seen: dict[str, int] = {}
    for file in files:
        try:
            table = parquet.ParquetFile(file)
            names = set(table.schema_arrow.names)
        except Exception as error:  # whatever a damaged file provokes in the reader
            raise DatasetError(f"{file}: found no readable parquet ({type(error).__name__}: {error})") from error
        if missing := sorted({"image", "query"} - names):
            raise DatasetError(f"{file}: found columns {sorted(names)}, expected {' and '.join(missing)} among them")
        wanted = ["query", *(["image_filename"] if "image_filename" in names else [])]
        records = (record for batch in table.iter_batches(columns=wanted) for record in batch.to_pylist())
        for row, record in enumerate(records):
            query = record["query"]
            if not isinstance(query, str) or not query.strip():
                without += 1
                continue
            key = record.get("image_filename") or f"{file} {row}"
            if key not in seen:
                seen[key] = collector.document(Item(images=(ParquetImage(file, row),)), _document_of(key))
            collector.add(Item(query), [seen[key]])
    if without:
        collector.warnings.append(f"{without:,} rows without a query left out")
    return collector.finish()


def _document_of(name: str) -> str:
    """The document a page belongs to: ``report_page_3.png`` and ``report_page_7.png`` are parts of one."""
    return re.sub(r"[_-]?(page|p)?[_-]?\d+(?=\.[a-z]+$)", "", name.rsplit("/", 1)[-1], flags=re.IGNORECASE) or name
