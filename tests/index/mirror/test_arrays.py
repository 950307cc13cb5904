"""Rows read from large mapped files."""

import numpy as np
import pytest

from smart_retrieval.index.mirror import arrays
from smart_retrieval.index.mirror.arrays import RowFile, release_pages


@pytest.mark.parametrize("limit", [0, 1 << 40])
def test_rows_of_a_mapped_file(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(arrays, "LARGE_BYTES", limit)
    values = np.random.default_rng(0).normal(size=(500, 7)).astype(np.float32)
    values.tofile(tmp_path / "rows.f4")
    array = np.memmap(tmp_path / "rows.f4", np.float32, "r", shape=(500, 7)).view(np.ndarray)
    file = RowFile(tmp_path / "rows.f4", array)
    (tmp_path / "rows.f4").rename(tmp_path / "elsewhere")  # another build's files take its name
    for rows in ([], [3], [499, 0, 3, 3], list(range(500)), list(range(100, 120))):
        assert np.array_equal(file.take(np.array(rows, np.int64)), values[rows])
    release_pages(array)
    assert np.array_equal(array, values)
