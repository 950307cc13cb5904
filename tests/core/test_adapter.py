"""The adapter alone, against plain formulas."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval import Readout
from smart_retrieval.core.adapter import Adapter, AdapterConfig
from smart_retrieval.core.head import ROLES_KEY, TokenHead
from smart_retrieval.errors import ReadoutError

H = 8


def states(layers=1, tokens=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(tokens, H, generator=generator) * (layer + 1) + 0.3 for layer in range(layers)]


def adapter(seed=0, **shape):
    torch.manual_seed(seed)
    made = Adapter(AdapterConfig(H, **{"width": 4, **shape}))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return made


def layer_norm(x, weight, bias):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight + bias


def test_one_layer_is_norm_and_projection():
    made, (x,) = adapter(), states()
    expected = layer_norm(x, made.norm.weight, made.norm.bias) @ made.projection.weight.T
    torch.testing.assert_close(made([x]), expected)


def test_layers_are_weighed_for_each_token_by_a_softmax():
    made, given_states = adapter(layers=3), states(3)
    v = made.layer_vector
    scores = torch.zeros(5, 3)
    for token in range(5):
        for layer, state in enumerate(given_states):
            h = state[token]
            rms_h = h / (h.square().mean() + 1e-6).sqrt()
            rms_v = v / (v.square().mean() + 1e-6).sqrt()
            scores[token, layer] = rms_h @ rms_v / math.sqrt(H)
    shares = scores.softmax(-1)
    torch.testing.assert_close(made.layer_shares(given_states), shares)
    fused = sum(shares[:, [layer]] * state for layer, state in enumerate(given_states))
    expected = layer_norm(fused, made.norm.weight, made.norm.bias) @ made.projection.weight.T
    torch.testing.assert_close(made(given_states), expected)


def test_concatenated_layers_count_alike_whatever_their_scale():
    made, given_states = adapter(layers=2, fusion="concat"), states(2)
    torch.testing.assert_close(
        made([given_states[0], given_states[1] * 1000]), made(given_states), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        ({}, 2 * H + 4 * H),
        ({"layers": 2}, 2 * H + 4 * H + H),
        ({"layers": 2, "fusion": "concat"}, 2 * 2 * H + 4 * 2 * H),
        ({"width": 16}, 2 * H + 16 * H),
    ],
)
def test_number_of_parameters(shape, parameters):
    assert sum(p.numel() for p in adapter(**shape).parameters()) == parameters


@given(width=st.integers(1, 12), layers=st.integers(1, 3), fusion=st.sampled_from(["learned", "concat"]))
def test_config_round_trip(width, layers, fusion):
    config = AdapterConfig(H, width, layers, fusion)
    assert AdapterConfig.from_dict(config.to_dict()) == config
    assert adapter(width=width, layers=layers, fusion=fusion)(states(layers)).shape == (5, width)


@pytest.mark.parametrize(
    "config",
    [None, {}, {"hidden_size": 8}, {"hidden_size": 8, "width": 4, "layers": 1, "fusion": "learned", "bias": True}],
)
def test_a_config_with_other_keys_is_refused(config):
    with pytest.raises(ReadoutError, match="expected an object with"):
        AdapterConfig.from_dict(config)


@pytest.mark.parametrize("change", [{"width": 0}, {"width": True}, {"layers": -1}, {"hidden_size": "8"}])
def test_a_number_below_one_is_refused(change):
    with pytest.raises(ReadoutError, match="at least 1"):
        AdapterConfig.from_dict({"hidden_size": 8, "width": 4, "layers": 1, "fusion": "learned", **change})


def test_an_unknown_fusion_and_another_number_of_layers_are_refused():
    with pytest.raises(ReadoutError, match="expected one of 'concat', 'learned'"):
        AdapterConfig(H, 4, 2, "mean")
    with pytest.raises(ReadoutError, match="found 1 layers, expected 2"):
        adapter(layers=2)(states(1))
    with pytest.raises(ReadoutError, match="several layers"):
        adapter().layer_shares(states(1))


def test_every_weight_and_the_shape_change_the_fingerprint():
    made = adapter(layers=2)
    seen = {made.fingerprint}
    for parameter in made.parameters():
        with torch.no_grad():
            parameter.view(-1)[0] += 1
        seen.add(made.fingerprint)
    seen.add(adapter(layers=2, fusion="concat").fingerprint)
    assert len(seen) == 6


def test_at_full_width_it_starts_as_the_frozen_states():
    made = Adapter(AdapterConfig(H, H))
    (x,) = states(tokens=30)
    made.start_frozen([x])
    centred = x - x.mean(-1, keepdim=True)
    torch.testing.assert_close(torch.cosine_similarity(made([x]), centred, dim=-1), torch.ones(30))


def test_at_a_lower_width_it_starts_with_the_principal_axes():
    made = Adapter(AdapterConfig(H, 3))
    (x,) = states(tokens=200)
    made.start_frozen([x])
    unit = torch.nn.functional.normalize(made.normed([x]), dim=-1)
    _, _, axes = torch.linalg.svd(unit, full_matrices=False)
    # The same space: projecting on one basis or on the other gives equal dot products.
    torch.testing.assert_close((unit @ made.projection.weight.T).norm(dim=-1), (unit @ axes[:3].T).norm(dim=-1))
    torch.testing.assert_close(made.projection.weight @ made.projection.weight.T, torch.eye(3), atol=1e-5, rtol=0)


# -- in the token head ---------------------------------------------------------------------------------------------


def features(layers=None, anchor_dim=H):
    generator = torch.Generator().manual_seed(3)
    shape = (2, 4, H)
    made = {
        ROLES_KEY: torch.tensor([[0, 3, 3, 0], [0, 0, 0, 0]], dtype=torch.uint8),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
        "token_embeddings": torch.randn(shape, generator=generator),
        "sentence_embedding": torch.randn(2, anchor_dim, generator=generator),
    }
    if layers:
        made["all_layer_embeddings"] = tuple(torch.randn(shape, generator=generator) for _ in range(layers))
    return made


@pytest.mark.parametrize("layers", [(-1,), (0, 2)])
def test_the_head_projects_and_normalises(layers):
    made = adapter(layers=len(layers))
    head = TokenHead(Readout(layers), lambda _: None, made)
    given_features = features(layers=3)
    out = head(dict(given_features))
    read = (
        [given_features["token_embeddings"]]
        if layers == (-1,)
        else [given_features["all_layer_embeddings"][i] for i in layers]
    )
    expected = torch.nn.functional.normalize(made(read), dim=-1)
    torch.testing.assert_close(out["token_vectors"][0], expected[0])
    flat, kept = head.flat(dict(given_features))
    torch.testing.assert_close(flat, out["token_vectors"][kept])
    assert head.width(H) == flat.shape[1] == 4


@pytest.mark.parametrize("anchor_dim", [H, 3])
def test_the_stand_in_is_projected_too(anchor_dim):
    made = adapter()
    given_features = features(anchor_dim=anchor_dim)
    out = TokenHead(Readout(), lambda _: None, made)(dict(given_features))
    if anchor_dim == H:
        state = given_features["sentence_embedding"][1]
    else:
        state = torch.nn.functional.normalize(given_features["token_embeddings"][1, :3], dim=-1).mean(0)
    state = torch.nn.functional.normalize(state, dim=-1)
    torch.testing.assert_close(out["token_vectors"][1, 0], torch.nn.functional.normalize(made([state]), dim=-1))
    assert out["kept"][1].int().tolist() == [1, 0, 0, 0]
