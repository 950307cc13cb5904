"""The anchor in front of the token vectors: what goes in comes out, and dot products stay what they were."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.core.packing import AnchorPacker, anchor_rows, pack, unpack

shapes = st.tuples(st.integers(1, 4), st.integers(0, 5), st.integers(1, 20), st.integers(1, 9), st.integers(0, 2**16))


def draw(batch, tokens, anchor_dim, token_dim, seed):
    generator = torch.Generator().manual_seed(seed)
    anchors = torch.randn(batch, anchor_dim, generator=generator) * 5
    vectors = torch.nn.functional.normalize(torch.randn(batch, tokens, token_dim, generator=generator), dim=-1)
    return anchors, vectors, torch.rand(batch, tokens, generator=generator) < 0.6


@pytest.mark.parametrize(
    ("anchor_dim", "token_dim", "rows"), [(384, 384, 1), (64, 128, 1), (1024, 384, 3), (385, 384, 2), (768, 384, 2)]
)
def test_anchor_rows(anchor_dim, token_dim, rows):
    assert anchor_rows(anchor_dim, token_dim) == rows


@given(shapes)
def test_round_trip(shape):
    anchors, vectors, kept = draw(*shape)
    packed, mask = pack(anchors, vectors, kept)
    rows = anchor_rows(anchors.shape[1], vectors.shape[2])
    assert packed.shape == (len(anchors), rows + vectors.shape[1], vectors.shape[2])
    assert mask.shape == packed.shape[:2]
    assert mask[:, :rows].all()
    assert torch.equal(mask[:, rows:], kept)
    back, tokens = unpack(packed, anchors.shape[1])
    torch.testing.assert_close(back, torch.nn.functional.normalize(anchors, dim=-1), atol=1e-6, rtol=0)
    assert torch.equal(tokens[kept], vectors[kept])
    assert (tokens[~kept] == 0).all()
    single, of_one = unpack(packed[0], anchors.shape[1])
    assert torch.equal(single, back[0])
    assert torch.equal(of_one, tokens[0])


@given(shapes)
def test_the_rows_dot_product_is_the_anchors_cosine(shape):
    anchors, vectors, kept = draw(*shape)
    packed, _ = pack(anchors, vectors, kept)
    rows = anchor_rows(anchors.shape[1], vectors.shape[2])
    front = packed[:, :rows].flatten(1)
    cosines = torch.nn.functional.cosine_similarity(anchors[:, None], anchors[None], dim=-1)
    torch.testing.assert_close(front @ front.T, cosines, atol=1e-5, rtol=0)


def test_gradients_reach_anchor_and_kept_tokens_only():
    anchors, vectors, kept = draw(2, 4, 7, 5, 3)
    anchors.requires_grad_(True)
    vectors.requires_grad_(True)
    packed, _ = pack(anchors, vectors, kept)
    (packed * torch.arange(packed.numel()).view_as(packed)).sum().backward()
    assert (anchors.grad.abs().sum(dim=1) > 0).all()
    assert (vectors.grad[kept].abs().sum(dim=1) > 0).all()
    assert (vectors.grad[~kept] == 0).all()


def test_the_module_overwrites_what_stock_code_reads():
    anchors, vectors, kept = draw(2, 4, 7, 5, 3)
    features = {"sentence_embedding": anchors, "token_vectors": vectors, "kept": kept, "token_embeddings": None}
    out = AnchorPacker()(features)
    packed, mask = pack(anchors, vectors, kept)
    assert torch.equal(out["token_embeddings"], packed)
    assert torch.equal(out["attention_mask"].bool(), mask)
    assert torch.equal(out["sentence_embedding"], anchors)
