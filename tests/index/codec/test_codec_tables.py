"""Compact tables: what comes back of them, and what damaged ones say."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.errors import CodecError
from smart_retrieval.index.codec.tables import Precision, compact, compact_by_use, expanded

ALL = Precision(often=2, often_rank=8, rare_rank=3)


def rows(count, width=8, seed=0):
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


@given(hnp.arrays(np.float32, (3, 4, 5), elements=st.floats(-1000, 1000, width=32)))
def test_bytes_are_off_by_at_most_half_a_step(table):
    found = expanded(compact("t", table))["t"]
    steps = np.abs(table).max(axis=-1, keepdims=True) / 127
    assert found.shape == table.shape
    assert (np.abs(found - table) <= 0.501 * steps + 1e-30).all()


@pytest.mark.parametrize("count", [1, 2, 3, 9, 500])
def test_rows_used_often_are_kept_better(count):
    table = rows(count)
    uses = np.arange(count)
    parts = compact_by_use("t", table, uses, ALL)
    found = expanded(parts)["t"]
    assert found.shape == table.shape
    error = ((found - table) ** 2).sum(axis=1) / (table**2).sum(axis=1)
    assert error[-2:].max() < 0.02
    assert count < 400 or 0.2 < error[:-2].mean() < 0.7  # three of eight directions


def test_many_rows_take_four_bits_a_direction():
    parts = compact_by_use("t", rows(5000, 64), np.zeros(5000), Precision(1000, 64, 16))
    assert parts["t.nibbles"].shape == (1000, 32)
    assert parts["t.rare.nibbles"].shape == (4000, 8)
    found = expanded(parts)["t"][:1000]
    assert ((found - rows(5000, 64)[:1000]) ** 2).mean() < 0.03


def test_other_arrays_are_left_alone():
    arrays = {"ids": np.arange(3), "levels": rows(2)}
    assert expanded(arrays) == arrays


def test_tables_do_not_depend_on_the_rows_asked_for():
    parts = compact_by_use("t", rows(300), np.zeros(300), Precision(300, 8, 8))
    whole = expanded(parts)["t"]
    one = expanded({**parts, "t.nibbles": parts["t.nibbles"][7:8]})["t"]
    assert (one[0] == whole[7]).all()


@pytest.mark.parametrize(
    ("part", "broken"),
    [
        ("t.scales", None),
        ("t.axes", None),
        ("t.axes", np.zeros((20000, 8), np.int8)),
        ("t.rare.axes", np.zeros((3, 7), np.int8)),
        ("t.scales", np.ones(5, np.float32)),
        ("t.nibbles", np.zeros((1, 4), np.uint8)),
        ("t.often", np.zeros(5, np.uint8)),
        ("t.nibbles", np.zeros((2, 4), np.float32)),
    ],
)
def test_parts_that_do_not_fit_are_refused(part, broken):
    parts = compact_by_use("t", rows(40), np.arange(40), ALL)
    parts = {name: array for name, array in parts.items() if name != part or broken is not None}
    with pytest.raises(CodecError, match="damaged"):
        expanded(parts if broken is None else {**parts, part: broken})
