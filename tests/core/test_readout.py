"""The readout's description: layers, mix, filter; strict about what it does not know."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval import Readout
from smart_retrieval.core.readout import LAYER_MIXES
from smart_retrieval.core.roles import TOKEN_FILTERS, WORD_ROLES, TokenFilter, TokenRole, kept_rows
from smart_retrieval.errors import ReadoutError


@pytest.mark.parametrize(
    ("layers", "resolved"), [((-1,), (6,)), ((0,), (0,)), ((-1, 0, 3), (0, 3, 6)), ((6,), (6,)), ((-7,), (0,))]
)
def test_layers_count_as_in_transformers(layers, resolved):
    assert Readout(layers=layers).resolve_layers(7) == resolved


@pytest.mark.parametrize("layers", [(7,), (-8,), (-1, 99)])
def test_layers_out_of_range(layers):
    with pytest.raises(ReadoutError, match=r"from -7 to 6.*7 hidden states"):
        Readout(layers=layers).resolve_layers(7)


def test_two_names_of_one_layer():
    with pytest.raises(ReadoutError, match="same"):
        Readout(layers=(-1, 6)).resolve_layers(7)
    with pytest.raises(ReadoutError, match="once"):
        Readout(layers=(2, 2))


def test_no_layer_at_all():
    with pytest.raises(ReadoutError, match="none"):
        Readout(layers=())


@pytest.mark.parametrize(
    ("kwargs", "named"), [({"mix": "sum"}, "'concat', 'mean'"), ({"token_filter": "all"}, "'content', 'paper'")]
)
def test_unknown_choices(kwargs, named):
    with pytest.raises(ReadoutError, match=named):
        Readout(**kwargs)


def test_width_and_reading_the_last_state_only():
    assert Readout(layers=(-1, -2), mix="concat").width(384) == 768
    assert Readout(layers=(-1, -2)).width(384) == 384
    assert Readout().reads_last_state_only
    assert not Readout(layers=(-2,)).reads_last_state_only
    assert not Readout(layers=(-1, 0)).reads_last_state_only


@given(
    st.lists(st.integers(-9, 9), min_size=1, max_size=4, unique=True),
    st.sampled_from(LAYER_MIXES),
    st.sampled_from(TOKEN_FILTERS),
)
def test_description_round_trip(layers, mix, token_filter):
    readout = Readout(tuple(layers), mix, token_filter)
    assert Readout.from_dict(readout.to_dict()) == readout


@pytest.mark.parametrize(
    "config",
    [
        {"layer": [-1]},
        {"layers": []},
        {"layers": None},
        {"layers": 3},
        {"layers": "ab"},
        {"layers": [None]},
        {"mix": ["mean"]},
        {"mix": None},
        {"token_filter": ["paper"]},
        {"token_filter": None},
    ],
    ids=str,
)
def test_invalid_descriptions_are_refused(config):
    with pytest.raises(ReadoutError):
        Readout.from_dict(config)


def test_a_layer_that_is_no_whole_number_is_refused():
    with pytest.raises(ReadoutError):
        Readout.from_dict({"layers": [0.5]})


def test_what_each_filter_keeps():
    assert TokenFilter.parse("paper").kept == set(TokenRole) - {TokenRole.SPECIAL}
    assert TokenFilter.parse("content").kept == WORD_ROLES | {TokenRole.IMAGE, TokenRole.VIDEO, TokenRole.AUDIO}
    # Stored in files: these numbers must never change.
    assert [role.value for role in TokenRole] == [*range(10)]
    assert TokenRole.TEXT == 3


def test_names_of_token_filters():
    assert TokenFilter.parse("paper-pooled-query-visual") == TokenFilter("paper", True, True)
    for base in ("paper", "content", "visual"):
        for modifiers in ("", "-pooled", "-query-visual", "-pooled-query-visual"):
            parsed = TokenFilter.parse(base + modifiers)
            assert (parsed.base, parsed.modifiers) == (base, modifiers)
            assert Readout(token_filter=base + modifiers).token_filter == base + modifiers
    for wrong in ("paper-query-visual-pooled", "-pooled", "pooled", "paper-", "paper-pooled-pooled", ""):
        with pytest.raises(ReadoutError, match="token filter: found"):
            Readout(token_filter=wrong)


def test_sound_is_content_and_visual_keeps_it_alone():
    roles = np.array([2, 3, 8, 8, 1, 3], np.uint8)
    assert np.flatnonzero(kept_rows(roles, "content")).tolist() == [1, 2, 3, 5]
    assert np.flatnonzero(kept_rows(roles, "visual", np.array([0, 5, 6]))).tolist() == [2, 3, 5]


def test_visual_keeps_pictures_of_inputs_that_have_some_and_the_content_of_others():
    roles = np.array([2, 3, 4, 4, 1, 2, 3, 7, 3, 5], np.uint8)
    kept = kept_rows(roles, "visual", np.array([0, 5, 9, 9, 10]))
    assert np.flatnonzero(kept).tolist() == [2, 3, 6, 8, 9]
    assert np.flatnonzero(kept_rows(roles[5:9], "visual")).tolist() == [1, 3]
    assert kept_rows(roles[:0], "visual", np.array([0, 0])).tolist() == []
