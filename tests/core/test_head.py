"""The token head alone, on states whose numbers show layer, item and position."""

import pytest
import torch

from smart_retrieval import Readout
from smart_retrieval.core.head import ROLES_KEY, TokenHead
from smart_retrieval.errors import UnsupportedModelError

S, T, P, X = 0, 1, 2, 3  # special, template, prompt, text
WIDTH = 4


def states(layer: int, batch: int, length: int) -> torch.Tensor:
    """A fake transformer's output: every number says layer, item, position and dimension."""
    grid = torch.arange(batch * length * WIDTH, dtype=torch.float32).view(batch, length, WIDTH)
    return (grid + 1) * (layer + 1) + torch.arange(WIDTH) * (layer + 3)


def features(roles, attention, anchor_dim=WIDTH, layers=None):
    roles, attention = torch.tensor(roles, dtype=torch.uint8), torch.tensor(attention)
    batch, length = roles.shape
    made = {
        ROLES_KEY: roles,
        "attention_mask": attention,
        "token_embeddings": states(2, batch, length),
        "sentence_embedding": torch.arange(batch * anchor_dim, dtype=torch.float32).view(batch, anchor_dim) - 2.5,
    }
    if layers:
        made["all_layer_embeddings"] = tuple(states(layer, batch, length) for layer in range(layers))
    return made


def head(**kwargs):
    def not_needed(_):
        raise AssertionError("roles were there")

    return TokenHead(Readout(**kwargs), not_needed)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


ROLES = [[S, T, P, X, X, S], [S, T, P, X, S, S]]
ATTENTION = [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]]


@pytest.mark.parametrize(
    ("token_filter", "kept"),
    [
        ("paper", [[0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0]]),
        ("content", [[0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 0, 0]]),
    ],
)
def test_the_filters_keep_their_roles(token_filter, kept):
    out = head(token_filter=token_filter)(features(ROLES, ATTENTION))
    assert out["kept"].int().tolist() == kept
    torch.testing.assert_close(out["token_vectors"], unit(states(2, 2, 6)))


def test_images_and_video_are_kept_by_both():
    for token_filter in ("paper", "content"):
        out = head(token_filter=token_filter)(features([[S, 4, 5, X]], [[1, 1, 1, 1]]))
        assert out["kept"].int().tolist() == [[0, 1, 1, 1]]


def test_padding_is_never_kept_whatever_its_role_says():
    out = head()(features([[X, X, X, X]], [[0, 0, 1, 1]]))
    assert out["kept"].int().tolist() == [[0, 0, 1, 1]]


def test_one_intermediate_layer():
    out = head(layers=(1,))(features(ROLES, ATTENTION, layers=3))
    torch.testing.assert_close(out["token_vectors"], unit(states(1, 2, 6)))


@pytest.mark.parametrize("layers", [(0, -1), (-1, 0), (2, 0)])
def test_the_mean_is_taken_after_each_layer_is_normalised(layers):
    out = head(layers=layers)(features(ROLES, ATTENTION, layers=3))
    torch.testing.assert_close(out["token_vectors"], unit(unit(states(0, 2, 6)) + unit(states(2, 2, 6))))


def test_a_cosine_of_concatenated_layers_is_the_mean_of_their_cosines():
    out = head(layers=(0, 1, 2), mix="concat")(features(ROLES, ATTENTION, layers=3))
    vectors = out["token_vectors"]
    assert vectors.shape == (2, 6, 3 * WIDTH)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2, 6))
    each = torch.stack([unit(states(layer, 2, 6)) for layer in range(3)])
    torch.testing.assert_close(vectors[0, 3] @ vectors[1, 2], (each[:, 0, 3] * each[:, 1, 2]).sum(-1).mean())


def test_missing_states_are_a_named_error():
    with pytest.raises(UnsupportedModelError, match="intermediate"):
        head(layers=(1,))(features(ROLES, ATTENTION))


@pytest.mark.parametrize(("roles", "attention", "place"), [([S, S, S], [1, 1, 0], 0), ([S, S, S], [0, 1, 1], 1)])
def test_the_anchor_stands_in_where_nothing_is_kept(roles, attention, place):
    both = features([roles, [S, X, S]], [attention, [1, 1, 1]])
    out = head()(both)
    assert out["kept"][0].int().tolist() == [int(i == place) for i in range(3)]
    torch.testing.assert_close(out["token_vectors"][0, place], unit(both["sentence_embedding"][0]))
    # The neighbour keeps its own.
    assert out["kept"][1].int().tolist() == [0, 1, 0]
    torch.testing.assert_close(out["token_vectors"][1], unit(states(2, 2, 3))[1])


def test_under_content_nothing_stands_in():
    both = features([[S, 7, P], [S, X, 6]], [[1, 1, 1], [1, 1, 1]])
    content = head(token_filter="content")
    out = content({**both})
    assert out["kept"].int().tolist() == [[0, 0, 0], [0, 1, 0]]
    for vectors, kept in (content.flat(both), (content.flat_states(both)[0][0], content.flat_states(both)[1])):
        assert vectors.shape == (1, WIDTH)
        assert kept.equal(out["kept"])
    # Punctuation and unknown tokens are the paper's.
    assert head()(both)["kept"].int().tolist() == [[0, 1, 1], [0, 1, 1]]
    alone = features([[S, 7]], [[1, 1]], layers=2)
    for layers, mix, width in (((-1,), "mean", 1), ((0, 1), "mean", 1), ((0, 1), "concat", 2)):
        vectors, _ = head(token_filter="content", layers=layers, mix=mix).flat(alone)
        assert vectors.shape == (0, width * WIDTH)


def test_the_anchor_stands_in_for_every_concatenated_layer():
    given = features([[S, S]], [[1, 1]], layers=2)
    out = head(layers=(0, 1), mix="concat")(given)
    anchor = unit(given["sentence_embedding"][0])
    torch.testing.assert_close(out["token_vectors"][0, 0], torch.cat([anchor, anchor]) / 2**0.5)


@pytest.mark.parametrize("anchor_dim", [3, 6])
def test_an_anchor_of_another_width_is_replaced_by_the_mean_of_the_states(anchor_dim):
    out = head()(features([[S, S, S]], [[1, 1, 0]], anchor_dim=anchor_dim))
    torch.testing.assert_close(out["token_vectors"][0, 0], unit(unit(states(2, 1, 3))[0, :2].mean(dim=0)))
    assert out["kept"].int().tolist() == [[1, 0, 0]]


def test_the_backbones_states_are_left_as_they_were():
    given = features([[S, S], [S, X]], [[1, 1], [1, 1]])
    before = given["token_embeddings"].clone()
    out = head()(given)
    assert torch.equal(out["token_embeddings"], before)


def test_missing_roles_are_computed():
    given = features(ROLES, ATTENTION)
    roles = given.pop(ROLES_KEY)
    out = TokenHead(Readout(), lambda _: roles)(given)
    assert out["kept"].int().tolist() == [[0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0]]


def test_half_precision_states_are_normalised_in_float32():
    given = features(ROLES, ATTENTION)
    given["token_embeddings"] = given["token_embeddings"].half()
    out = head()(given)
    assert out["token_vectors"].dtype == torch.float32
    torch.testing.assert_close(out["token_vectors"].norm(dim=-1), torch.ones(2, 6), atol=1e-6, rtol=0)
