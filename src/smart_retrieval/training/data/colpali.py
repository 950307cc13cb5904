"""ColPali's training set: parquet files with a page image and a query a row."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DatasetError
from ...extras import require
from ...files import UnreadableFileError
from ...inputs import Item
from .examples import Collector, TrainingSet

if TYPE_CHECKING:
    from PIL.Image import Image


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


def read_colpali(path: Path) -> TrainingSet:
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
