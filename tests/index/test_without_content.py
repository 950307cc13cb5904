"""Documents and queries without content in an index: added, searched, explained, optimized, the anchor's alone."""

import numpy as np
import pytest
from fixtures.indexes import PLAIN, documents, flat, names, stored
from fixtures.pictures import picture
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_retrieval import Readout, SmartEmbeddings, anchor_scores, hybrid_scores
from smart_retrieval.index import codec_fitting as fitting
from smart_retrieval.index.smart_index import SmartIndex

pytestmark = pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")

CODECS = ["float32", "float16", "int8", "bits2", "codebook", "codebook+16x1", "anchored+3vq+norm"]
TEXTS = ["☃", "???", "!", "the otter swims, and the sea", "? bread and butter ☃", " ", "moon"]
CONTENT = Readout(token_filter="content")


@pytest.fixture
def content(make, smart):
    """An index of the texts that reads content only, weighted by IDF."""
    index = make(model=smart("prompts", readout=CONTENT))
    index.add(TEXTS, ids=names(len(TEXTS)))
    return index


def with_empty(count, seed=0):
    """Documents of which every third has no token vectors."""
    lengths = np.random.default_rng(seed).integers(1, 12, count)
    lengths[::3] = 0
    return documents(lengths.tolist(), seed)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("floor", [None, -0.5, 0.3])
@pytest.mark.parametrize("codec", CODECS)
def test_scores_are_those_of_the_decoded_vectors(codec, floor, compiled, make, monkeypatch):
    from smart_retrieval.index.codec import kernels

    if compiled and kernels.load_kernels() is None:
        pytest.skip("numba is not installed")
    if not compiled:
        monkeypatch.setattr(kernels, "_kernels", None)
        monkeypatch.setattr(kernels, "_count", lambda products: None)
    monkeypatch.setattr(fitting, "FIT_TOKENS", 200)
    index = make(with_empty(90), codec=codec)
    assert index.info()["codec"] == codec
    queries = documents([6, 0, 3], seed=9)
    asked = {**PLAIN, "floor": floor, "weights": np.float32([0, 1, 2, 1, 0, 1, 0, 0, 0])[:9]}
    ids, decoded = stored(index)
    assert (decoded.lengths == 0).sum() == 30
    for number, query in enumerate(queries):
        own = slice(queries.offsets[number], queries.offsets[number + 1])
        one = {**asked, "weights": asked["weights"][own]}
        expected = dict(zip(ids, hybrid_scores(query, decoded, **one)[0].tolist(), strict=True))
        hits = index.search(query, 90, **one)[0]
        assert len(hits) == 90
        for hit in hits:
            assert hit.score == pytest.approx(expected[hit.id], abs=1e-4)
            if number > 0 or decoded.lengths[ids.index(hit.id)] == 0:
                assert hit.late == 0
                assert hit.score == hit.anchor


def test_a_query_without_content_ranks_by_the_anchor(content):
    _, vectors = stored(content)
    assert vectors.lengths.tolist() == [0, 0, 0, 7, 3, 0, 1]
    for query in ("☃", "?", "!!! ☃"):
        encoded = content.model.encode_query(query)
        assert encoded.lengths.tolist() == [0]
        cosines = anchor_scores(encoded, vectors)[0]
        hits = content.search(query, len(TEXTS), weights="idf")
        assert [hit.id for hit in hits] == [names(len(TEXTS))[place] for place in np.argsort(-cosines, kind="stable")]
        assert all(hit.late == 0 for hit in hits)


@pytest.mark.parametrize("weights", ["idf", None])
def test_the_papers_filter_gives_them_no_weight_by_idf(weights, make, smart):
    index = make(model=smart("prompts"))
    index.add(TEXTS, ids=names(len(TEXTS)))
    for query in ("☃", "?!"):
        late = [hit.late for hit in index.search(query, len(TEXTS), weights=weights, floor=None)]
        # "query: " and "?" are token vectors there, and equal ones for who asks for equal weights.
        assert (max(late) == min(late) == 0) == (weights == "idf")


def test_explanations_of_what_has_no_content(content):
    for id in ("d0000", "d0005"):
        found = content.explain("the otter, the moon", id, weights="idf")
        assert [token.query_token for token in found.tokens] == ["the", "otter", "the", "moon"]
        assert {(token.document_index, token.document_token, token.span) for token in found.tokens} == {(-1, "", None)}
        assert (found.late, found.special_share, found.score) == (0, 0, found.anchor)
        assert "the" in found.to_html()
    empty = content.explain("??", "d0003")
    assert (empty.tokens, empty.late, empty.score) == ((), 0, empty.anchor)
    assert empty.to_dict()["tokens"] == []
    assert "otter" in empty.to_html()


def test_no_prompt_and_no_punctuation_is_in_an_explanation(content):
    found = content.explain("otter, butter?", "d0004", weights="idf")
    assert [token.query_token for token in found.tokens] == ["otter", "butter"]
    assert {token.role for token in found.tokens} == {"text"}
    # Spans are those of the passage, whose punctuation and unknown word have no vectors.
    assert {found.text[slice(*token.span)] for token in found.tokens if token.document_token == "butter"} <= {"butter"}
    assert all(token.span is not None for token in found.tokens)


def test_it_survives_everything(content):
    before = [flat(hits) for hits in content.search(["the sea", "?"], 9, weights="idf")]
    content.optimize()
    assert [flat(hits) for hits in content.search(["the sea", "?"], 9, weights="idf")] == before
    assert content.verify().ok
    again = SmartIndex.open(content.path, content.model, mode="w")
    again.delete(["d0001", "d0003"])
    again.add(["…"], ids=["new"])
    again.optimize(refit=True)
    assert again.verify().ok
    assert {hit.id for hit in again.search("the sea", 9)} == {"d0000", "d0002", "d0004", "d0005", "d0006", "new"}
    again.close()


@pytest.mark.parametrize("pooling", [1, 2])
def test_an_index_of_nothing_but_empty_documents(make, smart, pooling):
    index = make(model=smart("mean", readout=CONTENT), codec="anchored+3vq+norm", token_pooling=pooling)
    index.add(["?", "☃☃", "!"], ids=["a", "b", "c"])
    for _ in range(2):
        assert len(index.search("the sea", 5)) == len(index.search("?", 5)) == 3
        index.optimize()
    assert index.verify().ok
    index.add(["the otter swims in the cold river"], ids=["d"])
    assert index.search("the otter", 1, lambda_anchor=0.0)[0].id == "d"


@settings(max_examples=15)
@given(lengths=st.lists(st.integers(0, 2), min_size=1, max_size=6), mapped=st.booleans())
def test_embeddings_with_empty_items_are_saved_as_they_are(lengths, mapped, tmp_path_factory):
    batch = documents(lengths)
    folder = tmp_path_factory.mktemp("empty")
    for name in ("folder", "file.safetensors"):
        loaded = SmartEmbeddings.load(batch.save(folder / name), mmap=mapped and name == "folder")
        assert loaded.lengths.tolist() == lengths
        assert np.array_equal(loaded.token_vectors, batch.token_vectors)


def test_a_pages_score_comes_from_the_page(visual, make):
    model = visual.with_readout(CONTENT)
    index = make(model=model)
    index.add([picture(1), {"image": picture(2), "text": "the otter"}], ids=["page", "captioned"])
    paper = make(model=visual.with_readout(Readout()))
    paper.add([picture(1)], ids=["page"])
    for query in ("input", "the user's blue square?", "represent", {"text": "red", "image": picture(3)}):
        found = index.explain(query, "page", weights=None)
        assert found.visual.outside == 0
        assert found.special_share == 0
        (one,) = found.visual.maps
        for row, values in zip(found.visual.rows, one.rows, strict=True):
            assert row.place is None or values.max() == pytest.approx(row.similarity, abs=1e-5)
        assert 0 <= index.explain(query, "captioned", weights=None).visual.outside <= 1
    assert paper.explain("the user's blue square?", "page", weights=None).visual.outside > 0
    # Its tokens all weigh nothing by IDF, and so has it no late score to share out.
    nothing = index.explain("?!", "page", weights="idf")
    assert (nothing.late, nothing.visual.outside, nothing.special_share) == (0, 0, 0)
    nothing.to_html()
    nothing.to_png()
