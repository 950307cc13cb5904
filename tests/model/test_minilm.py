"""The packaged all-MiniLM-L6-v2: real weights, real vocabulary."""

import warnings

import numpy as np
import pytest
from fixtures.reference import naive_tokens

from smart_retrieval import IdfWeights, Readout, Scoring, SmartIndex, SmartModel, anchor_scores
from smart_retrieval.core.late import token_shares
from smart_retrieval.errors import SmartWarning

DOCUMENTS = [
    "Sea otters sleep afloat on their backs, often holding hands so that they do not drift apart.",
    "The tax return is due in May; a late filing costs a fee for every month.",
    "shutil.rmtree deletes an entire directory tree.",
    "Knead the dough for ten minutes and let the bread rise overnight.",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
]
QUERIES = ["how do marine animals rest", "deadline for taxes", "remove a folder and everything in it", "baking a loaf"]


def test_anchors_are_the_stock_models(minilm, minilm_path):
    from sentence_transformers import SentenceTransformer

    stock = SentenceTransformer(str(minilm_path), device="cpu")
    assert np.abs(minilm.encode_document(DOCUMENTS).anchors - stock.encode(DOCUMENTS)).max() <= 1e-6
    assert (minilm.anchor_dim, minilm.token_dim, minilm.max_length) == (384, 384, stock.max_seq_length)
    assert minilm.backbone.n_states == 7
    assert minilm.backbone.pooling == "mean"


@pytest.mark.parametrize(("layers", "mix"), [((-1,), "mean"), ((4,), "mean"), ((-1, -2), "concat")])
def test_token_vectors_are_the_plain_models(layers, mix, minilm_path):
    model = SmartModel("minilm", device="cpu", readout=Readout(layers=layers, mix=mix))
    encoded = model.encode_document(DOCUMENTS)
    ascending = tuple(sorted(layers, key=lambda layer: layer % 7))
    for i, text in enumerate(DOCUMENTS):
        expected = naive_tokens(minilm_path, text, max_length=model.max_length, layers=ascending, mix=mix)
        assert np.abs(encoded[i].token_vectors - expected).max() <= 1e-5


def test_batches_change_nothing(minilm):
    one, many = (minilm.encode_document(DOCUMENTS, batch_size=size) for size in (1, 5))
    assert np.abs(one.anchors - many.anchors).max() <= 1e-6
    assert np.abs(one.token_vectors - many.token_vectors).max() <= 1e-5


def test_every_part_of_the_score_finds_the_right_document(minilm):
    queries, documents = minilm.encode_query(QUERIES), minilm.encode_document(DOCUMENTS)
    weights = IdfWeights.fit(documents)
    for anchor, late in ((1, 0), (0, 1), (1, 1)):
        scores = minilm.similarity(queries, documents, weights=weights, lambda_anchor=anchor, lambda_late=late)
        assert scores.argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_token_strings(minilm):
    assert minilm.with_readout(Readout()).encode_query("Otters' photosynthesis").token_strings(0) == [
        "otter",
        "##s",
        "'",
        "photos",
        "##yn",
        "##thesis",
    ]


def test_one_long_text_is_counted(minilm):
    text = "otter " * (minilm.max_length + 50)
    with pytest.warns(SmartWarning, match="52 tokens at their ends"):
        report = minilm.encode_document(text).report
    assert (report.truncated, report.truncated_tokens) == (1, 52)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        minilm.encode_document("otter " * (minilm.max_length - 2))


INSTRUCT = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
CONTENT = Readout(token_filter="content")


@pytest.mark.parametrize("token_filter", ["content", "paper"])
def test_a_long_prompt_changes_no_weight(token_filter, minilm):
    model = minilm.with_readout(Readout(token_filter=token_filter))
    weights = IdfWeights.fit(model.encode_document([*DOCUMENTS, INSTRUCT]))
    assert len(model.tokenizer.tokenize(INSTRUCT)) == 18
    for query in (*QUERIES, 'Why, "C++"?'):
        plain, prompted = model.encode_query(query), model.encode_query(query, prompt=INSTRUCT)
        shares, with_prompt = token_shares(plain, weights), token_shares(prompted, weights)
        # Under the paper's filter the prompt's tokens are there, and weigh nothing.
        own = np.isin(prompted.roles, (3, 7))
        assert own.all() == (token_filter == "content")
        assert prompted.token_ids[own].tolist() == plain.token_ids.tolist()
        np.testing.assert_allclose(with_prompt[own], shares, atol=1e-6)
        assert with_prompt[own].sum() == pytest.approx(1, abs=1e-5)
    assert not np.allclose(prompted.token_vectors[own], plain.token_vectors, atol=1e-2), "it has read the prompt"


def test_no_prompt_is_in_an_explanation(tmp_path):
    model = SmartModel("minilm", device="cpu", readout=CONTENT, prompts={"query": INSTRUCT})
    with SmartIndex.create(tmp_path / "a.smart", model) as index:
        index.add([*DOCUMENTS, INSTRUCT], ids=[*"abcdef"])
        for weights in ("idf", None):
            found = index.explain("remove a folder, and everything in it!", "c", weights=weights)
            words = [token.query_token for token in found.tokens]
            assert words == ["remove", "a", "folder", "and", "everything", "in", "it"]
            assert {token.role for token in found.tokens} == {"text"}
            assert found.special_share == 0


@pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")
def test_emoji_and_punctuation_are_the_anchors_alone(minilm):
    documents = ["🎉", "🦦 sea otters 🦦", "", "...", "Bread rises overnight."]
    for token_filter in ("content", "paper"):
        model = minilm.with_readout(Readout(token_filter=token_filter))
        encoded = model.encode_document(documents)
        if token_filter == "content":
            assert encoded.lengths.tolist() == [0, 3, 0, 0, 3]
        scoring = Scoring("idf", lambda_late=2.0, floor=0.3)
        for query in ("😀", "???", "!", "😀 ?"):
            queries = model.encode_query(query)
            scores = model.similarity(queries, encoded, scoring=scoring)
            np.testing.assert_allclose(scores, anchor_scores(queries, encoded), atol=1e-6)
    # What the vocabulary holds beside the unknown counts, whole.
    assert model.similarity(model.encode_query("otters 😀"), encoded, scoring=scoring)[0].argmax() == 1


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("C++, C# or R&D?", "c + + c # or r & d"), ("$5 (50%)", "$ 5 50 %"), ("x_y `code`", "x y code"),
        ("东京。", "京"), ("“hi” — he said…", "hi he said"),
    ],
)  # fmt: skip
def test_symbols_are_words_and_punctuation_is_none(text, kept, minilm):
    encoded = minilm.with_readout(CONTENT).encode_query(text)
    assert encoded.token_strings(0) == kept.split()
