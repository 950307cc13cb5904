"""Explanations add up to the score that search gives, and point at the right characters."""

import json

import numpy as np
import pytest
from fixtures.indexes import PLAIN, documents, names, topics
from fixtures.tiny_models import TEXTS

from smart_retrieval import IdfWeights
from smart_retrieval.errors import EmptyInputError, IndexMismatchError, SmartError, UnknownIdError
from smart_retrieval.index import codec_fitting as fitting

PASSAGES = [text for text in TEXTS if text != "a"]


@pytest.fixture
def filled(make):
    index = make(codec="float16")
    index.add(PASSAGES, ids=names(len(PASSAGES)), sources=["a.txt"] * len(PASSAGES), pages=range(1, len(PASSAGES) + 1))
    return index


def agrees(explanation, hit):
    assert explanation.id == hit.id
    assert explanation.anchor == pytest.approx(hit.anchor, abs=2e-5)
    assert explanation.late == pytest.approx(hit.late, abs=2e-5)
    assert explanation.score == pytest.approx(hit.score, abs=5e-5)
    assert sum(token.contribution for token in explanation.tokens) == pytest.approx(explanation.late, abs=1e-6)
    expected = explanation.lambda_anchor * explanation.anchor + explanation.lambda_late * explanation.late
    assert explanation.score == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("codec", ["float32", "float16", "int8", "codebook", "codebook+16x1", "anchored+3vq+norm"])
@pytest.mark.parametrize(
    "options", [{}, {"lambda_late": 2.0, "floor": 0.3}, {"lambda_anchor": 0.0, "floor": -0.5}], ids=str
)
def test_contributions_add_up_to_the_score(make, monkeypatch, codec, options):
    monkeypatch.setattr(fitting, "FIT_TOKENS", 300)
    index = make(documents(90), codec=codec)
    assert index.info()["codec"] == codec
    query = documents([8], seed=9)
    settings = {**PLAIN, **options}
    for hit in index.search(query, 20, **settings)[0]:
        explanation = index.explain(query, hit.id, **settings)
        agrees(explanation, hit)
        assert explanation.query is None
        assert explanation.floor == settings["floor"]
        assert len(explanation.tokens) == 8
        assert sum(token.weight for token in explanation.tokens) == pytest.approx(1, abs=1e-6)


def test_the_presets_settings_are_those_of_search(filled):
    for query in ("the otter sleeps in the cold river", "moon", "first zebra"):
        for hit in filled.search(query, 5):
            explanation = filled.explain(query, hit.id)
            agrees(explanation, hit)
            assert explanation.query == query
            assert (explanation.text, explanation.source, explanation.page) == (hit.text, hit.source, hit.page)


def test_rare_words_weigh_more(filled):
    tokens = filled.explain("the otter", names(1)[0]).tokens
    assert [token.query_token for token in tokens] == ["the", "otter"]
    assert tokens[0].weight < tokens[1].weight
    idf = filled.idf().of(filled.model.encode_query("the otter").token_ids)
    assert [token.weight for token in tokens] == pytest.approx((idf / idf.sum()).tolist(), abs=1e-6)
    assert [token.weight for token in filled.explain("the otter", names(1)[0], weights=None).tokens] == [0.5, 0.5]
    own = filled.explain("the otter", names(1)[0], weights=np.array([3, 1])).tokens
    assert [token.weight for token in own] == [0.75, 0.25]


def test_weights_may_be_an_object(filled):
    table = IdfWeights.fit(documents(20))
    (hit,) = filled.search("the otter", 1, weights=table)
    agrees(filled.explain("the otter", hit.id, weights=table), hit)


def surface(token):
    """What a WordPiece token looks like in a passage; None for a character that the vocabulary lacks."""
    return None if token == "[UNK]" else token.removeprefix("##")


def spans_are_right(explanation):
    known = [token for token in explanation.tokens if token.span is not None]
    for token in known:
        start, stop = token.span
        found = explanation.text[start:stop]
        assert found
        if surface(token.document_token) is not None:
            assert found.lower() == surface(token.document_token), token
    return len(known)


QUESTIONS = ["otter", "tax moon one", "the swimming otter floated: sea", "zebra ☃ oil bread and butter long cold day"]


@pytest.mark.parametrize("query", QUESTIONS)
def test_spans_are_the_characters_of_the_passage(filled, query):
    for id in names(len(PASSAGES)):
        explanation = filled.explain(query, id)
        assert spans_are_right(explanation) == len(explanation.tokens)


def test_spans_distinguish_equal_words(make):
    index = make()
    passage = "moon sun  Moon\n\nMOON, moon"
    index.add([passage], ids=["x"])
    places = [start for start in range(len(passage)) if passage[start:].lower().startswith("moon")]
    document = make.model.encode_document(passage)
    moons = [i for i, token in enumerate(document.token_strings(0)) if token == "moon"]
    for nth, at in enumerate(moons):
        query = documents([1])
        query.token_vectors[:] = document.token_vectors[at]
        (token,) = index.explain(query, "x", **PLAIN).tokens
        assert token.document_index == at
        assert token.span == (places[nth], places[nth] + 4)


@pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")
def test_spans_of_a_passage_that_was_cut(make):
    index = make()
    index.add(["sea otter river moon " * 20], ids=["x"])
    explanation = index.explain("sea otter river moon", "x")
    assert spans_are_right(explanation) == 4
    assert all(token.span[1] < 24 * 7 for token in explanation.tokens)


@pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")
@pytest.mark.parametrize("name", ["prompts", "decoder", "decoder-prompts", "chat"])
def test_spans_with_prompts_and_other_tokenizers(make, smart, name):
    index = make(model=smart(name))
    passages = PASSAGES[::3]
    index.add(passages, ids=names(len(passages)))
    found = {query: {hit.id: hit for hit in index.search(query, 100)} for query in QUESTIONS[1:3]}
    total = 0
    for id, passage in zip(names(len(passages)), passages, strict=True):
        document = smart(name).encode_document(passage)
        for query, hits in found.items():
            explanation = index.explain(query, id)
            agrees(explanation, hits[id])
            for token in explanation.tokens:
                assert token.document_token == document.token_strings(0)[token.document_index]
                if token.span is not None:
                    total += 1
                    start, stop = token.span
                    piece = token.document_token.removeprefix("##").lstrip("Ġ")
                    if piece.isascii() and not piece.startswith("["):
                        assert passage[start:stop].strip().lower() == piece, (passage, token)
    assert total or name in ("chat", "decoder-prompts")


@pytest.mark.parametrize("name", ["chat", "decoder-prompts"])
def test_spans_where_the_passage_is_tokenized_in_its_surroundings(make, smart, name):
    index = make(model=smart(name))
    index.add(["otter sea"], ids=["x"])
    document = smart(name).encode_document("otter sea")
    query = documents([1])
    query.token_vectors[:] = document.token_vectors[document.token_strings(0).index("Ġsea")]
    assert index.explain(query, "x", **PLAIN).tokens[0].span in ((5, 9), (6, 9))


def test_a_prompt_has_no_place_in_the_passage(make, smart):
    index = make(model=smart("prompts"))
    index.add(["the sea", "passage: sea"], ids=["x", "y"])
    for id in ("x", "y"):
        document = smart("prompts").encode_document(index.get(id)[0].text)
        for at, token in enumerate(document.token_strings(0)):
            query = documents([1])
            query.token_vectors[:] = document.token_vectors[at]
            (found,) = index.explain(query, id, **PLAIN).tokens
            assert (found.document_index, found.document_token) == (at, token)
            assert (found.span is None) == (at < 2)


def test_spans_where_the_passage_holds_a_special_token(make):
    index = make()
    passage = "moon [SEP] sun moon"
    index.add([passage], ids=["x"])
    document = make.model.encode_document(passage)
    assert document.token_strings(0) == ["moon", "sun", "moon"]
    for at, place in enumerate([(0, 4), (11, 14), (15, 19)]):
        query = documents([1])
        query.token_vectors[:] = document.token_vectors[at]
        (token,) = index.explain(query, "x", **PLAIN).tokens
        assert token.document_index == at
        assert token.span in (None, place)


def test_the_encoded_query_of_hits_is_explained_without_encoding_it_again(filled, monkeypatch):
    hits = filled.search("the otter sleeps", 3)
    expected = filled.explain("the otter sleeps", hits[0].id)
    monkeypatch.setattr(type(filled.model), "encode_query", lambda *a, **kw: pytest.fail("encoded again"))
    found = filled.explain(hits.query, hits[0].id)
    assert found.query is None
    assert (found.score, found.tokens) == (expected.score, expected.tokens)
    (batch,) = filled.search(hits.query, 3)
    assert np.array_equal(batch.query.token_vectors, hits.query.token_vectors)


def test_shading_adds_up(filled):
    explanation = filled.explain("the otter swims the otter", names(1)[0], floor=None)
    words = explanation.shaded_words()
    positive = sum(t.contribution for t in explanation.tokens if t.span is not None and t.contribution > 0)
    assert sum(word.contribution for word in words) == pytest.approx(positive)
    places = [(word.start, word.stop) for word in words]
    assert places == sorted(set(places))


def test_pooled_tokens_have_no_name(make):
    index = make(token_pooling=2, codec="float16")
    index.add(PASSAGES, ids=names(len(PASSAGES)))
    for hit in index.search("the otter swims", 5):
        explanation = index.explain("the otter swims", hit.id)
        agrees(explanation, hit)
        if len(make.model.encode_document(hit.text).token_ids) > 1:
            assert {(token.document_token, token.span) for token in explanation.tokens} == {("", None)}
            assert explanation.shaded_words() == []


def test_it_is_json(filled):
    explanation = filled.explain("otter", names(1)[0])
    data = json.loads(json.dumps(explanation.to_dict()))
    assert data["score"] == explanation.score
    assert data["tokens"][0]["query_token"] == "otter"
    assert tuple(data["tokens"][0]["span"]) == explanation.tokens[0].span


def test_unknown_documents_and_bad_queries_are_refused(filled):
    with pytest.raises(UnknownIdError, match="nobody"):
        filled.explain("otter", "nobody")
    with pytest.raises(EmptyInputError):
        filled.explain("  ", names(1)[0])
    with pytest.raises(SmartError):
        filled.explain(topics(2, 3, seed=1), names(1)[0])
    narrow = documents([3])
    narrow.token_vectors = narrow.token_vectors[:, :7]
    with pytest.raises(IndexMismatchError):
        filled.explain(narrow, names(1)[0], **PLAIN)


def test_documents_without_tokens_have_a_named_error_or_an_explanation(make):
    index = make(documents([3, 0]))
    query = documents([4], seed=2)
    try:
        explanation = index.explain(query, "d0001", **PLAIN)
    except SmartError:
        return
    assert explanation.late == index.search(query, 2, **PLAIN)[0][1].late


def test_a_codec_fitted_meanwhile(make):
    """Another process fits the codec after this one has checked the query and before it reads the document."""
    index = make(codec="int8")
    index.add(PASSAGES, ids=names(len(PASSAGES)))
    other = make.again(index)
    idf = index.idf

    def meanwhile():
        if other.info()["codec"] != "int8":
            other.optimize()
        return idf()

    index.idf = meanwhile
    explanation = index.explain("the otter", names(1)[0])
    del index.idf
    agrees(explanation, next(hit for hit in index.search("the otter", 100) if hit.id == explanation.id))
