"""Anchors in 16 bits: near what was given, kept exactly from then on, and as small as they are said to be."""

import numpy as np
import pytest
from fixtures import stores
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from smart_retrieval import SmartIndex
from smart_retrieval.errors import SmartError
from smart_retrieval.index.store.anchors import anchor_bytes, pack_anchor, rounded_anchors, unpack_anchors
from smart_retrieval.index.store.store import Store

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(1, 9)), elements=FINITE))
def test_near_what_was_given_and_then_exact(anchors):
    rounded = rounded_anchors(anchors)
    most = np.abs(anchors).max(axis=1, initial=0, keepdims=True)
    # Below 2**-149 there are no numbers to round to.
    assert (np.abs(rounded.astype(np.float64) - anchors) <= most.astype(np.float64) / 32768 + 2.0**-149).all()
    assert np.array_equal(rounded_anchors(rounded), rounded)
    joined = b"".join(pack_anchor(anchor, "int16") for anchor in anchors)
    assert len(joined) == len(anchors) * anchor_bytes("int16", anchors.shape[1])
    assert np.array_equal(unpack_anchors(joined, "int16", anchors.shape[1]), rounded)


@pytest.mark.parametrize("length", [1e-30, 1.0, 1e30])
def test_cosines_hardly_move(length):
    anchors = np.random.default_rng(0).standard_normal((60, 384)).astype(np.float32) * np.float32(length)
    exact, found = (unit @ unit.T for unit in map(unit_rows, (anchors, rounded_anchors(anchors))))
    assert 0 < np.abs(found - exact).max() < 2e-5


def unit_rows(anchors):
    wide = anchors.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def test_what_is_no_number_stays_so():
    given = np.array([[1, np.nan], [np.inf, 0], [1, 2]], np.float32)
    assert np.array_equal(rounded_anchors(given), given, equal_nan=True)


def test_float32_is_kept_to_the_bit():
    anchors = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    joined = b"".join(pack_anchor(anchor, "float32") for anchor in anchors)
    assert len(joined) == 3 * anchor_bytes("float32", 5)
    assert np.array_equal(unpack_anchors(joined, "float32", 5), anchors)


@pytest.mark.parametrize(("codec", "kind"), [("float32", "float32"), ("float16", "int16"), ("int8", "int16")])
def test_an_index_keeps_them_as_its_codec_does(smart, tmp_path, codec, kind):
    model = smart("mean")
    texts = ["the otter swims", "tax is due", "bread and butter"]
    encoded = model.encode_document(texts, show_progress=False)
    with SmartIndex.create(tmp_path / "a", model, codec=codec) as index:
        index.add(texts, ids=["1", "2", "3"], embeddings=encoded)
        assert (index.info()["anchors"], index.info()["format"]) == (kind, 2)
        (vectors,) = index.store.iterate(10)
        expected = encoded.anchors if kind == "float32" else rounded_anchors(encoded.anchors)
        assert np.array_equal(vectors.anchors, expected)
        for hit in index.search("an otter", 3):
            assert hit.anchor == pytest.approx(anchor_score(model, texts[int(hit.id) - 1]), abs=3e-5)


def anchor_score(model, text):
    query, document = model.encode_query("an otter"), model.encode_document([text], show_progress=False)
    return (unit_rows(query.anchors) @ unit_rows(document.anchors).T).item()


def test_a_record_with_an_anchor_that_is_no_number_is_refused(tmp_path):
    with Store.create(tmp_path / "a", stores.manifest()) as store:
        one = stores.record("a")
        one.anchor[2] = np.nan
        with pytest.raises(SmartError, match="NaN"):
            store.add([one])
