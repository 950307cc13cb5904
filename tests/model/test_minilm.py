"""The packaged all-MiniLM-L6-v2: real weights, real vocabulary."""

import warnings

import numpy as np
import pytest
from fixtures.reference import naive_tokens

from smart_retrieval import IdfWeights, Readout, SmartModel
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
    assert minilm.encode_query("Otters' photosynthesis").token_strings(0) == [
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
