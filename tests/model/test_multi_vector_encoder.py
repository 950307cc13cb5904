"""model.encoder: a stock MultiVectorEncoder whose matrices carry the anchor in front."""

import numpy as np
import pytest
import torch
from fixtures.tiny_models import HIDDEN, TEXTS

from smart_retrieval import Readout, SmartModel, anchor_scores, hybrid_scores, late_scores
from smart_retrieval.core.packing import anchor_rows, unpack

NAMES = ["mean", "cls-normalized", "dense-narrow", "dense-wide", "prompts", "decoder", "decoder-prompts"]


def stock(model, texts, task):
    encode = getattr(model.encoder, f"encode_{task}")
    return encode(texts, convert_to_numpy=True, normalize_embeddings=False)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("task", ["query", "document"])
@pytest.mark.parametrize("name", NAMES)
def test_rows_are_the_anchor_and_then_the_token_vectors(name, task, smart):
    model = smart(name)
    ours = getattr(model, f"encode_{task}")(TEXTS)
    rows = anchor_rows(model.anchor_dim, model.token_dim)
    assert rows == (2 if name == "dense-wide" else 1)
    for i, packed in enumerate(stock(model, TEXTS, task)):
        assert packed.shape == (rows + ours.lengths[i], HIDDEN)
        flat = packed[:rows].reshape(-1)
        assert np.abs(flat[: model.anchor_dim] - unit(ours.anchors[i])).max() <= 1e-6
        assert (flat[model.anchor_dim :] == 0).all()
        assert np.abs(packed[rows:] - ours[i].token_vectors).max() <= 1e-5


@pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")
def test_what_has_no_content_is_its_anchor_alone(smart):
    model = smart("prompts", readout=Readout(token_filter="content"))
    texts = ["?", "the otter, the sea", "☃", ""]
    for packed, length in zip(stock(model, texts, "document"), [0, 4, 0, 0], strict=True):
        assert len(packed) == 1 + length
        assert np.isfinite(packed).all()
    similarity = model.encoder.similarity(stock(model, texts, "query"), stock(model, texts, "document"))
    assert torch.isfinite(similarity).all()


def test_it_is_a_stock_multi_vector_encoder_over_the_same_weights(smart):
    from sentence_transformers import MultiVectorEncoder

    model = smart("mean")
    assert isinstance(model.encoder, MultiVectorEncoder)
    assert model.encoder is model.encoder
    assert model.encoder[0] is model.backbone.transformer
    assert {id(p) for p in model.encoder.parameters()} == {id(p) for p in model.backbone.model.parameters()}


@pytest.mark.parametrize("name", ["mean", "dense-narrow", "dense-wide", "prompts"])
def test_the_pieces_dot_products_are_the_hybrid(name, smart):
    model = smart(name)
    queries, documents = TEXTS[:5], TEXTS[5:12]
    packed_q = [torch.tensor(x) for x in stock(model, queries, "query")]
    packed_d = [torch.tensor(x) for x in stock(model, documents, "document")]
    found = np.zeros((5, 7))
    for i, q in enumerate(packed_q):
        q_anchor, q_tokens = unpack(q, model.anchor_dim)
        for j, d in enumerate(packed_d):
            d_anchor, d_tokens = unpack(d, model.anchor_dim)
            found[i, j] = 2 * (q_anchor @ d_anchor) + 3 * (q_tokens @ d_tokens.T).max(dim=1).values.mean()
    ours_q, ours_d = model.encode_query(queries), model.encode_document(documents)
    expected = hybrid_scores(ours_q, ours_d, lambda_anchor=2, lambda_late=3)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(expected, 2 * anchor_scores(ours_q, ours_d) + 3 * late_scores(ours_q, ours_d), atol=1e-5)


@pytest.mark.parametrize("layers", [(0,), (-1, 0)])
def test_other_layers_come_through(layers, smart):
    model = smart("mean", readout=Readout(layers=layers))
    ours = model.encode_query(TEXTS)
    for i, packed in enumerate(stock(model, TEXTS, "query")):
        assert np.abs(packed[1:] - ours[i].token_vectors).max() <= 1e-5


def test_the_content_filter_comes_through_for_word_pieces(smart):
    model = smart("prompts", readout=Readout(token_filter="content"))
    ours = model.encode_query(TEXTS)
    assert [len(x) - 1 for x in stock(model, TEXTS, "query")] == ours.lengths.tolist()


def test_the_content_filter_comes_through_for_byte_level_bpe(smart):
    model = smart("decoder-prompts", readout=Readout(token_filter="content"))
    ours = model.encode_query(TEXTS)
    assert [len(x) - 1 for x in stock(model, TEXTS, "query")] == ours.lengths.tolist()


def test_a_text_without_content_keeps_two_rows(smart):
    packed = smart("mean").encoder.encode_query(["", "sea"], convert_to_numpy=True, normalize_embeddings=False)
    assert packed[0].shape == (2, HIDDEN)
    assert np.abs(packed[0][0] - packed[0][1]).max() <= 1e-6


def test_gradients_flow_through_both_parts(tiny):
    model = SmartModel(tiny("mean"), device="cpu")
    features = model.encoder.preprocess(["the otter swims", "sea"], task="query")
    packed = model.encoder(features, task="query")["token_embeddings"]
    for part in (packed[:, :1], packed[:, 1:]):
        model.encoder.zero_grad()
        (part * torch.linspace(-1, 1, part.numel()).view_as(part)).sum().backward(retain_graph=True)
        gradient = model.backbone.transformer.auto_model.encoder.layer[0].output.dense.weight.grad
        assert gradient.abs().max() > 0


def test_a_stock_loss_takes_the_packed_matrices(tiny):
    from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss

    model = SmartModel(tiny("prompts"), device="cpu")
    features = [model.encoder.preprocess(TEXTS[:4], task=task) for task in ("query", "document")]
    loss = MultiVectorMultipleNegativesRankingLoss(model.encoder)(features, torch.arange(4))
    loss.backward()
    assert torch.isfinite(loss)
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in model.encoder.parameters())
