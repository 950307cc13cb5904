"""SmartReranker: texts, ids and blobs get the scores that an index gives them."""

import numpy as np
import pytest
from fixtures.indexes import documents, names

from smart_retrieval import Scoring, SmartEmbeddings, SmartIndex, SmartReranker
from smart_retrieval.errors import CodecError, EmptyInputError, ScoringError, UnknownIdError
from smart_retrieval.index.codec.factory import fit_codec

TEXTS = [
    "The otter swims in the cold river.",
    "Tax is due in the long cold day.",
    "Bread and butter, and oil.",
    "The moon is cold.",
    "A river runs to the sea.",
    "Otters eat fish. The river has fish.",
]
QUERY = "otter in the river"
SCORINGS = [
    Scoring("uniform", 1.0, 1.0),
    Scoring("idf", 0.5, 2.0, 0.2),
    Scoring("idf", 1.0, "calibrated", "calibrated"),
    Scoring("uniform", 1.0, 0.0),
]


@pytest.fixture(scope="module")
def model(smart):
    return smart("mean")


@pytest.fixture(scope="module")
def encoded(model):
    return model.encode_document(TEXTS, show_progress=False)


@pytest.fixture(scope="module", params=["float32", "int8", "anchored+3vq+norm"])
def codec(request, model):
    return fit_codec(request.param, documents(200, 4))


@pytest.fixture
def index(model, codec, encoded, tmp_path):
    with SmartIndex.create(tmp_path / "a.smart", model, codec=codec) as opened:
        opened.add(TEXTS, ids=names(len(TEXTS)), embeddings=encoded)
        yield opened


def by_id(ranked):
    return {names(len(TEXTS))[one.position]: (one.score, one.anchor, one.late) for one in ranked}


@pytest.mark.parametrize("scoring", SCORINGS)
def test_scores_are_those_of_an_index(index, model, codec, encoded, scoring):
    hits = index.search(QUERY, len(TEXTS), scoring=scoring)
    expected = {hit.id: (hit.score, hit.anchor, hit.late) for hit in hits}
    statistics = {"idf": index.idf(), "calibration": index.calibration()}
    own = SmartReranker(model, codec, scoring=scoring, **statistics)
    of_index = SmartReranker.from_index(index, scoring=scoring)
    blobs = codec.encode_blobs(encoded)
    near = 1e-6 if index.info()["anchors"] == "float32" else 3e-5  # kept in 16 bits
    order = [hit.id for hit in hits]
    for ranked in (
        own.rerank(QUERY, TEXTS),
        own.rerank(QUERY, encoded),
        own.rerank(QUERY, blobs, anchors=encoded.anchors),
        own.rerank(hits.query, blobs, anchors=encoded.anchors * 3),
        of_index.rerank(QUERY, ids=names(len(TEXTS))),
        of_index.rerank(QUERY, TEXTS),
    ):
        found = by_id(ranked)
        assert [names(len(TEXTS))[one.position] for one in ranked] == order
        for id, parts in expected.items():
            assert found[id] == pytest.approx(parts, abs=near)
    scores = own.score(QUERY, encoded.anchors, blobs)
    for place, id in enumerate(names(len(TEXTS))):
        assert [part[place] for part in scores] == pytest.approx(expected[id], abs=near)


def test_the_same_for_an_index_of_its_own_preset(index, model, codec, encoded):
    hits = index.search(QUERY)
    ranked = SmartReranker.from_index(index).rerank(QUERY, ids=names(len(TEXTS)), k=3)
    assert [(one.id, one.score) for one in ranked] == [(hit.id, pytest.approx(hit.score, abs=1e-6)) for hit in hits[:3]]


def test_documents_alone_get_what_they_get_among_others(model, codec, encoded):
    reranker = SmartReranker(model, codec, scoring=Scoring())
    blobs = codec.encode_blobs(encoded)
    together = reranker.score(QUERY, encoded.anchors, blobs).hybrid
    alone = [reranker.score(QUERY, encoded.anchors[i : i + 1], blobs[i : i + 1]).hybrid[0] for i in range(len(blobs))]
    assert together.tolist() == pytest.approx(alone, abs=1e-6)


def test_without_statistics_the_default_still_ranks(model):
    """The preset asks for IDF weights and a calibration, which a list of candidates does not have."""
    reranker = SmartReranker(model)
    ranked = reranker.rerank(QUERY, TEXTS)
    assert sorted(one.position for one in ranked) == list(range(len(TEXTS)))
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)
    encoded = model.encode_document(TEXTS, show_progress=False)
    again = reranker.rerank(QUERY, reranker.codec.encode_blobs(encoded), anchors=encoded.anchors)
    assert [one.position for one in again] == [one.position for one in ranked]
    assert reranker.rerank(QUERY, TEXTS[:1])[0].position == 0


def test_as_a_cross_encoder(model, make):
    reranker = SmartReranker(model, scoring=Scoring())
    pairs = [(QUERY, text) for text in TEXTS] + [("the moon", TEXTS[3])]
    scores = reranker.predict(pairs)
    assert scores[:-1].tolist() == pytest.approx([by_id(reranker.rerank(QUERY, TEXTS))[id][0] for id in names(6)])
    assert scores[-1] == pytest.approx(reranker.rerank("the moon", [TEXTS[3]])[0].score)
    index = make()
    index.add(TEXTS)
    hits = index.search(QUERY, 3, rerank=reranker)
    assert [hit.rerank for hit in hits] == sorted((hit.rerank for hit in hits), reverse=True)


def test_documents_without_tokens_have_the_anchor_alone(model, codec):
    none = SmartEmbeddings(np.eye(1, 32), np.zeros((0, 32)), [0, 0])
    scores = SmartReranker(model, codec, scoring=Scoring()).score(QUERY, none.anchors, codec.encode_blobs(none))
    assert scores.late[0] == 0
    assert scores.hybrid[0] == scores.anchor[0] != 0


def test_nothing_to_rank(model, codec):
    reranker = SmartReranker(model, codec)
    assert reranker.rerank(QUERY, []) == []
    assert len(reranker.score(QUERY, np.zeros((0, 32)), []).hybrid) == 0


def test_what_does_not_fit_is_refused(model, codec, encoded, index):
    reranker = SmartReranker(model, codec)
    blobs = codec.encode_blobs(encoded)
    with pytest.raises(ScoringError, match=r"anchors of shape \(6, 5\), expected"):
        reranker.score(QUERY, encoded.anchors[:, :5], blobs)
    with pytest.raises(ScoringError, match=r"anchors of shape \(6, 32\)"):
        reranker.score(QUERY, encoded.anchors[:2], blobs)
    with pytest.raises(ScoringError, match="not finite"):
        SmartReranker(model).score(QUERY, encoded.anchors * np.nan, SmartReranker(model).codec.encode_blobs(encoded))
    with pytest.raises(CodecError, match="blob 1"):
        reranker.score(QUERY, encoded.anchors[:2], [blobs[0], b"no blob"])
    with pytest.raises(EmptyInputError, match="anchors"):
        reranker.rerank(QUERY, blobs)
    with pytest.raises(EmptyInputError, match="from_index"):
        reranker.rerank(QUERY, ids=["d0000"])
    with pytest.raises(EmptyInputError, match="empty query"):
        reranker.rerank(" ", TEXTS)
    for both in ({}, {"documents": TEXTS, "ids": ["d0000"]}, {"documents": "one text"}):
        with pytest.raises(EmptyInputError, match="several documents"):
            reranker.rerank(QUERY, **both)
    with pytest.raises(UnknownIdError):
        SmartReranker.from_index(index).rerank(QUERY, ids=["nobody"])
    with pytest.raises(ScoringError, match="a codec of 8 dimensions"):
        SmartReranker(model, fit_codec("float32", SmartEmbeddings(np.eye(1, 8), np.eye(1, 8), [0, 1])))
