"""The life of an index's codec: float16 at first, fitted once, and again only when asked."""

import numpy as np
import pytest
from fixtures.indexes import PLAIN, Indexes, assert_best, codes, documents, flat, names, stored, unit

from smart_retrieval import IdfWeights, SmartEmbeddings
from smart_retrieval.core.hybrid import hybrid_scores
from smart_retrieval.errors import CodecError, SmartError
from smart_retrieval.index import codec_fitting as fitting
from smart_retrieval.index.codec.pooling import pool_tokens
from smart_retrieval.index.store.lock import file_lock

FITTED = ["int8", "bits4", "bits1", "codebook", "codebook+16x1", "anchored+3vq+norm"]
QUERY = documents([6], seed=99)
PASSAGES = [f"{a} {b} {c}" for a in ("otter", "tax", "moon", "bread") for b in ("sea", "cold") for c in ("one", "day")]


@pytest.fixture
def make(tmp_path, smart, monkeypatch):
    monkeypatch.setattr(fitting, "FIT_TOKENS", 300)
    made = Indexes(tmp_path, smart("mean"))
    yield made
    made.close()


def state(index):
    info = index.info()
    return info["codec"], info["codec_generation"]


def finds_what_is_stored(index, **options):
    ids, decoded = stored(index)
    scores = hybrid_scores(QUERY, decoded)[0]
    assert_best(index.search(QUERY, 10, **PLAIN, **options)[0], ids, scores, 10, tolerance=1e-4)


@pytest.mark.parametrize("codec", ["float32", "float16"])
def test_a_float_codec_is_used_from_the_start(make, codec):
    index = make(documents(100), codec=codec)
    before = codes(index)
    assert state(index) == (codec, 1)
    index.optimize()
    assert state(index) == (codec, 1)
    assert codes(index) == before


@pytest.mark.parametrize("codec", FITTED)
def test_a_codec_is_fitted_once_there_are_enough_tokens(make, codec):
    index = make(codec=codec)
    docs = documents([10] * 60)
    index.add(ids=names(20), embeddings=docs[:20])
    assert state(index) == ("float16", 1)
    assert index.info()["codec_wanted"] == codec
    exact = docs[:20].token_vectors.astype(np.float16).view(np.uint8).reshape(200, 64)
    assert codes(index)["d0001"] == exact[10:20].tobytes()
    finds_what_is_stored(index)
    index.add(ids=names(30)[20:], embeddings=docs[20:30])  # the 300th token
    assert state(index) == (codec, 2)
    fitted = codes(index)
    finds_what_is_stored(index)
    # Whatever comes later, the codes of what is there stay the same, byte for byte.
    index.add(ids=names(60)[30:], embeddings=docs[30:])
    index.delete(names(60)[:3])
    index.optimize()
    assert state(index) == (codec, 2)
    after = codes(index)
    assert {id: after[id] for id in names(30)[3:]} == {id: fitted[id] for id in names(30)[3:]}
    finds_what_is_stored(index)
    assert index.verify().ok


@pytest.mark.parametrize("codec", FITTED[::2])
def test_codes_of_a_document_depend_on_it_alone(make, codec):
    index = make(documents([10] * 30), codec=codec)
    docs = documents([4, 9, 1], seed=8)
    index.add(ids=["a", "b", "c"], embeddings=docs)
    index.add(ids=["c2"], embeddings=docs[2])
    index.add(ids=["b2"], embeddings=docs[1])
    found = codes(index)
    assert found["b"] == found["b2"]
    assert found["c"] == found["c2"]
    again = make.again(index)
    again.add(ids=["a2"], embeddings=docs[0])
    assert codes(again)["a2"] == found["a"]


def test_fitted_codes_find_nearly_the_exact_hits(make):
    docs = documents([10] * 200, spread=0.2)
    queries = documents([8] * 10, seed=5, spread=0.2)
    exact = hybrid_scores(queries, docs)
    overlap = {}
    for codec in ("float16", "int8", "codebook+32x4"):
        found = make(docs, codec=codec).search(queries, 10, **PLAIN)
        overlap[codec] = np.mean(
            [
                len({names(200)[i] for i in np.argsort(-exact[n])[:10]} & {hit.id for hit in hits}) / 10
                for n, hits in enumerate(found)
            ]
        )
    assert overlap["float16"] >= 0.99
    assert overlap["int8"] >= 0.98
    assert overlap["codebook+32x4"] >= 0.8


def test_optimize_fits_a_pending_codec(make):
    index = make(documents([5] * 10), codec="codebook+16x1")
    assert state(index) == ("float16", 1)
    index.optimize()
    assert state(index) == ("codebook+16x1", 2)
    finds_what_is_stored(index)
    before = codes(index)
    index.optimize()
    assert state(index) == ("codebook+16x1", 2)
    assert codes(index) == before


def test_optimize_of_an_empty_index_fits_nothing(make):
    index = make(codec="codebook")
    index.optimize()
    assert state(index) == ("float16", 1)
    index.add(ids=["empty"], embeddings=documents([0]))
    index.optimize()
    assert state(index) == ("float16", 1)


@pytest.mark.parametrize("pooling", [1, 2])
def test_refit_encodes_the_texts_again(make, pooling):
    index = make(codec="codebook+16x1", token_pooling=pooling)
    index.add(PASSAGES[:8], ids=names(8))
    index.optimize()
    assert state(index) == ("codebook+16x1", 2)
    index.add(PASSAGES[8:], ids=names(16)[8:])
    index.delete(names(2))
    index.optimize(refit=True)
    assert state(index) == ("codebook+16x1", 3)
    refitted = make(codec="codebook+16x1", token_pooling=pooling)
    refitted.add(PASSAGES[2:], ids=names(16)[2:])
    refitted.optimize(refit=True)
    assert codes(index) == codes(refitted)
    assert [hit.id for hit in index.search("moon sea", 5)] == [hit.id for hit in refitted.search("moon sea", 5)]
    assert index.verify().ok


def test_refit_needs_texts(make):
    index = make(documents([10] * 30), codec="int8")
    before = codes(index)
    with pytest.raises(SmartError, match="text"):
        index.optimize(refit=True)
    assert state(index) == ("int8", 2)
    assert codes(index) == before
    finds_what_is_stored(index)


def test_searching_while_a_codec_is_pending_and_after(make):
    index = make(documents([10] * 20), codec="int8")
    before = [hit.id for hit in index.search(QUERY, 5, **PLAIN)[0]]
    index.optimize()
    assert [hit.id for hit in index.search(QUERY, 5, **PLAIN)[0]] == before


@pytest.mark.parametrize("codec", ["codebook+40x1", "anchored+64x4"])
def test_a_codec_wider_than_the_tokens_is_refused_at_once(make, codec):
    with pytest.raises(CodecError):
        make(codec=codec)


def test_an_anchored_codec_and_anchors_of_zeros(make):
    docs = documents([10] * 40)
    docs.anchors[:] = 0
    index = make(docs, codec="anchored+3vq+norm")
    # Nothing can be predicted from such anchors; whether fitted or not, the index goes on working.
    assert state(index)[0] in ("anchored+3vq+norm", "float16")
    finds_what_is_stored(index)


@pytest.mark.parametrize("codec", [*FITTED, "codebook+32x4", "anchored"])
def test_a_codec_fitted_to_three_tokens(make, codec):
    index = make(documents([1, 2]), codec=codec)
    index.optimize()
    assert state(index) == (codec, 2)
    finds_what_is_stored(index)


# -- several handles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["int8", "codebook", "codebook+32x4", "anchored+3vq+norm"])
@pytest.mark.parametrize("used", [True, False])
def test_another_handle_uses_the_codec_fitted_meanwhile(make, codec, used):
    index = make(codec=codec)
    other, reader = make.again(index), make.again(index, "r")
    index.add(ids=names(10), embeddings=documents([10] * 10))
    if used:
        other.add(ids=["o"], embeddings=documents([3], seed=2))
        assert len(other.search(QUERY, 100, **PLAIN)[0]) == 11
        assert len(reader.search(QUERY, 100, **PLAIN)[0]) == 11
    index.add(ids=names(30, "x"), embeddings=documents([10] * 30, seed=3))
    assert state(index) == (codec, 2)
    late = documents([4], seed=6)
    index.add(ids=["late"], embeddings=late)
    fitted = codes(index)
    other.add(ids=["late 2"], embeddings=late)
    after = codes(other)
    assert after["late 2"] == after["late"]
    assert {id: after[id] for id in fitted} == fitted
    assert state(other) == state(index) == (codec, 2)
    for handle in (index, other, reader):
        assert len(handle.search(QUERY, 100, **PLAIN)[0]) == 42 + used
        assert flat(handle.search(QUERY, 20, **PLAIN)[0]) == flat(index.search(QUERY, 20, **PLAIN)[0])
        assert handle.explain(QUERY, "late", **PLAIN).score == pytest.approx(
            handle.explain(QUERY, "late 2", **PLAIN).score
        )
    finds_what_is_stored(reader)
    assert index.verify().ok


@pytest.mark.parametrize("codec", ["int8", "codebook+32x4"])
def test_a_codec_fitted_between_encoding_and_storing(make, codec):
    index = make(documents([10] * 10), codec=codec)
    other = make.again(index)
    late = documents([4], seed=6)
    add = other.store.add

    def meanwhile(*arguments):
        if state(index)[1] == 1:
            index.optimize()
        return add(*arguments)

    other.store.add = meanwhile
    other.add(ids=["late"], embeddings=late)
    del other.store.add
    index.add(ids=["late 2"], embeddings=late)
    assert codes(index)["late"] == codes(index)["late 2"]
    finds_what_is_stored(other)


def test_a_codec_fitted_while_the_codec_is_read(make):
    """Between looking at the generation and reading the codec's bytes, another process may have swapped them."""
    index = make(documents([10] * 10), codec="int8")
    other = make.again(index)
    read = other.store.codec

    def meanwhile():
        if state(index)[1] == 1:
            index.optimize()
        return read()

    other.store.codec = meanwhile
    other.add(ids=["late"], embeddings=documents([4], seed=6))
    del other.store.codec
    assert len(other) == 11
    finds_what_is_stored(other)


def test_adding_while_another_process_fits(make):
    """The batch is stored; that the codec is being fitted elsewhere already is no error of adding."""
    index = make(codec="int8")
    with file_lock(index.path / "optimize.lock", 0) as held:
        assert held
        index.add(ids=names(40), embeddings=documents([10] * 40))
        assert len(index) == 40
    index.add(ids=["next"], embeddings=documents([2]))
    assert state(index) == ("int8", 2)
    finds_what_is_stored(index)


def test_adding_while_another_process_has_just_fitted(make):
    """Both reach enough tokens; the other is done first, and there is nothing left to fit."""
    index = make(codec="codebook")
    other = make.again(index)
    add = index.store.add

    def then_fitted(*arguments):
        added = add(*arguments)
        other.optimize()
        return added

    index.store.add = then_fitted
    index.add(ids=names(40), embeddings=documents([10] * 40))
    del index.store.add
    assert state(index) == ("codebook", 2)
    finds_what_is_stored(index)


# -- pooling -----------------------------------------------------------------------------------------------------------


def test_pooled_documents_score_by_their_pooled_tokens(make):
    docs = documents([0, 1, 2, 3, *range(4, 30)])
    index = make(docs, token_pooling=2)
    pooled = pool_tokens(docs, 2)
    assert index.info()["pooling"] == 2
    assert index.info()["tokens"] == len(pooled.token_vectors) < 0.6 * len(docs.token_vectors)
    (hits,) = index.search(QUERY, 30, **PLAIN)
    assert_best(hits, names(30), hybrid_scores(QUERY, pooled)[0], 30)
    # Words are counted as they stand in the documents, pooled or not.
    assert np.array_equal(index.idf().of(np.arange(70)), IdfWeights.fit(docs).of(np.arange(70)))
    again = make.again(index)
    again.add(ids=["x"], embeddings=QUERY)
    everything = SmartEmbeddings.concatenate([pooled, pool_tokens(QUERY, 2)])
    (hits,) = index.search(QUERY, 31, **PLAIN)
    assert_best(hits, [*names(30), "x"], hybrid_scores(QUERY, everything)[0], 31)


@pytest.mark.parametrize("codec", ["int8", "codebook+16x1"])
def test_pooling_and_a_fitted_codec(make, codec):
    docs = documents([10] * 100)
    index = make(docs[:50], codec=codec, token_pooling=2)
    assert state(index) == ("float16", 1) or index.info()["tokens"] >= 250
    index.add(ids=names(50, "x"), embeddings=docs[50:])
    assert state(index) == (codec, 2)
    finds_what_is_stored(index)
    fitted = codes(index)
    index.add(ids=["late"], embeddings=documents([8], seed=4))
    index.delete("x0003")
    index.optimize()
    after = codes(index)
    assert {id: after[id] for id in after if id != "late"} == {id: fitted[id] for id in fitted if id != "x0003"}
    finds_what_is_stored(index)
    assert index.verify().ok
    # What the codes stand for is near the pooled vectors.
    ids, decoded = stored(index)
    pooled = pool_tokens(docs, 2)
    at = ids.index("x0010")
    cosines = (unit(decoded[at].token_vectors) * unit(pooled[60].token_vectors)).sum(axis=1)
    assert cosines.mean() > (0.99 if codec == "int8" else 0.5)


def test_pooling_end_to_end(make):
    index = make(codec="codebook+16x1", token_pooling=2)
    index.add(PASSAGES, ids=names(16))
    index.optimize()
    assert state(index) == ("codebook+16x1", 2)
    hits = index.search("otter sea day", 16)
    assert len(hits) == 16
    assert flat(hits) == flat(make.again(index).search("otter sea day", 16))
    for hit in hits:
        explanation = index.explain("otter sea day", hit.id)
        assert explanation.score == pytest.approx(hit.score, abs=2e-4)  # products of 16 bits
        assert {token.document_token for token in explanation.tokens} == {""}
