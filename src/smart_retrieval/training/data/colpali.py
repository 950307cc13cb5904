"""ColPali's training set: parquet files with a page image and a query a row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DatasetError
from ...extras import require
from ...inputs import Item
from .examples import Collector, TrainingSet

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class ParquetImage:
    """The picture of one row, read when it is its turn.

    Args:
        path: The parquet file.
        page: The row, which tells rows of one file apart.
        column: Holds the picture.
    """

    path: Path
    page: int
    column: str = "image"

    def load(self) -> Image:
        """The picture, RGB.

        Raises:
            MediaError: It cannot be read.
        """
        from ...files import UnreadableFileError
        from ...pictures.images import load_image

        data = _cell(self.path, self.page, self.column)
        if data is None:
            raise UnreadableFileError(self.path, f"no picture in row {self.page}")
        return load_image(data)


def read_colpali(path: str | Path) -> TrainingSet:
    """Read a parquet file, or a folder of them, with the columns ``image``, ``query`` and ``image_filename``.

    Rows without a query are left out. Rows with the same picture (by ``image_filename`` within the set, or by bytes
    where it is empty) are one document.

    Args:
        path: The file or folder.

    Raises:
        DatasetError: A column is missing, or no row has a query.
        MissingExtraError: pyarrow is not installed.
    """
    parquet = require("pyarrow.parquet", "train")
    path = Path(path)
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
        row = 0
        for batch in table.iter_batches(columns=wanted):
            for record in batch.to_pylist():
                query, name = record["query"], record.get("image_filename") or ""
                if isinstance(query, str) and query.strip():
                    key = name or f"{file} {row}"
                    if key not in seen:
                        seen[key] = collector.document(Item(images=(ParquetImage(file, row),)), _stem(key))
                    collector.add(Item(query), [seen[key]])
                else:
                    without += 1
                row += 1
    if without:
        collector.warnings.append(f"{without:,} rows without a query left out")
    return collector.finish()


def _stem(name: str) -> str:
    """The document a page belongs to: ``report_page_3.png`` and ``report_page_7.png`` are parts of one."""
    import re

    return re.sub(r"[_-]?(page|p)?[_-]?\d+(?=\.[a-z]+$)", "", name.rsplit("/", 1)[-1], flags=re.IGNORECASE) or name


@lru_cache(maxsize=2)
def _row_groups(path: Path) -> tuple[Any, list[int]]:
    parquet = require("pyarrow.parquet", "train")
    table = parquet.ParquetFile(path)
    starts = [0]
    for group in range(table.num_row_groups):
        starts.append(starts[-1] + table.metadata.row_group(group).num_rows)
    return table, starts


@lru_cache(maxsize=2)
def _group(path: Path, group: int, column: str) -> Any:
    return _row_groups(path)[0].read_row_group(group, columns=[column]).column(column)


def _cell(path: Path, row: int, column: str) -> bytes | None:
    _, starts = _row_groups(path)
    group = next(i for i in range(len(starts) - 1) if starts[i] <= row < starts[i + 1])
    value = _group(path, group, column)[row - starts[group]].as_py()
    if isinstance(value, dict):
        value = value.get("bytes")
    return value if isinstance(value, bytes) else None
