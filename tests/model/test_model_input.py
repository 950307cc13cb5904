"""Bad input: a named error or a counted warning, never silence."""

import warnings

import numpy as np
import pytest
from fixtures.tiny_models import HIDDEN, MAX_LENGTH, TEXTS

from smart_retrieval import Readout, SmartError, SmartModel
from smart_retrieval.core.roles import TokenRole
from smart_retrieval.errors import EmptyInputError, NonFiniteError, ReadoutError, SmartWarning
from smart_retrieval.types import EncodingReport

LONG = "the sea otter swims " * 20


def warned(function, *args, **kwargs):
    """What a call returns, and the messages of its SmartWarnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function(*args, **kwargs)
    ours = [warning for warning in caught if issubclass(warning.category, SmartWarning)]
    # A warning must point at the user's call, not into the library.
    assert all(warning.filename == __file__ for warning in ours)
    return result, [str(warning.message) for warning in ours]


# -- too long ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mean", "prompts", "decoder", "decoder-prompts"])
def test_cut_off_tokens_are_counted_exactly(name, smart):
    model = smart(name)
    texts = [LONG, "sea", "the " * 22, "the " * 23, "the " * 24, LONG + LONG]
    encoded, messages = warned(model.encode_document, texts)
    prompt = model.prompts.get("document", "")
    counts = [len(model.tokenizer(prompt + text, truncation=False, verbose=False)["input_ids"]) for text in texts]
    over = [count - MAX_LENGTH for count in counts if count > MAX_LENGTH]
    assert 2 < len(over) < len(texts)
    assert encoded.report == EncodingReport(len(texts), len(over), sum(over), 0)
    assert len(messages) == 1
    assert f"{len(over)} of {len(texts)} documents" in messages[0]
    assert f"{sum(over)} tokens" in messages[0]
    assert f"{MAX_LENGTH} tokens" in messages[0]


def test_a_text_that_just_fits_is_not_counted(smart):
    encoded, messages = warned(smart("mean").encode_query, "the " * (MAX_LENGTH - 2))
    assert encoded.lengths.tolist() == [MAX_LENGTH - 2]
    assert messages == []
    assert encoded.report.truncated == 0


def test_the_limit_can_be_set(tiny):
    model = SmartModel(tiny("mean"), device="cpu", max_length=6)
    encoded, messages = warned(model.encode_query, ["one two one two one two", "one two one two"])
    assert model.max_length == 6
    assert encoded.lengths.tolist() == [4, 4]
    assert encoded.report == EncodingReport(2, 1, 2, 0)
    assert "1 of 2 queries" in messages[0]


def test_cut_off_tokens_are_counted_behind_a_chat_template(smart):
    model = smart("chat")
    text = "sea " * 18
    rendered = model.tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=True)
    rendered = rendered["input_ids"] if not isinstance(rendered, list) else rendered
    assert len(model.tokenizer(text)["input_ids"]) < MAX_LENGTH < len(rendered)
    encoded, _ = warned(model.encode_document, text)
    assert encoded.report.truncated_tokens == len(rendered) - MAX_LENGTH


@pytest.mark.parametrize("max_length", [0, 1, -1, 5000])
def test_an_invalid_limit_is_a_named_error(max_length, tiny):
    # 5000 is beyond the model's 64 positions; 0 and 1 leave no room for the two special tokens.
    with pytest.raises(SmartError, match=r"max_length|length"):
        SmartModel(tiny("mean"), device="cpu", max_length=max_length).encode_query("the " * 200)


# -- empty ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mean", "cls-normalized", "max", "lasttoken"])
def test_the_anchor_is_the_one_token_of_a_text_without_content(name, smart):
    encoded, messages = warned(smart(name).encode_document, ["", "sea", "  \n", "[SEP]"])
    assert encoded.lengths.tolist() == [1, 1, 1, 1]
    for i in (0, 2, 3):
        anchor = encoded.anchors[i] / np.linalg.norm(encoded.anchors[i])
        np.testing.assert_allclose(encoded[i].token_vectors[0], anchor, atol=1e-6)
        assert encoded[i].token_ids.tolist() == [-1]
        assert encoded[i].roles.tolist() == [TokenRole.SPECIAL]
        assert encoded.token_strings(i) == [""]
    assert encoded.token_strings(1) == ["sea"]
    assert encoded.report == EncodingReport(4, 0, 0, 3)
    assert len(messages) == 1
    assert "3 of 4 documents have no content" in messages[0]


@pytest.mark.parametrize("name", ["dense-narrow", "dense-wide"])
def test_a_text_without_content_and_an_anchor_of_another_width(name, smart, tiny):
    from fixtures.reference import plain_states, unit

    encoded, _ = warned(smart(name).encode_document, ["", "sea"])
    assert encoded.lengths.tolist() == [1, 1]
    assert encoded.token_dim == HIDDEN != encoded.anchor_dim
    _, states = plain_states(tiny(name), "", MAX_LENGTH)
    expected = unit(unit(states[-1]).mean(axis=0))
    np.testing.assert_allclose(encoded[0].token_vectors[0], expected, atol=1e-5)


def test_an_anchor_of_half_the_width_stands_in_too(smart):
    encoded, _ = warned(smart("dense-half").encode_document, ["", "sea"])
    assert encoded.lengths.tolist() == [1, 1]
    assert np.linalg.norm(encoded[0].token_vectors) == pytest.approx(1, abs=1e-5)


def test_a_text_without_content_under_several_layers(smart):
    model = smart("mean", readout=Readout(layers=(0, -1), mix="concat"))
    encoded, _ = warned(model.encode_document, ["", "sea"])
    anchor = encoded.anchors[0] / np.linalg.norm(encoded.anchors[0])
    np.testing.assert_allclose(encoded[0].token_vectors[0], np.tile(anchor, 2) / 2**0.5, atol=1e-6)


def test_a_prompt_does_not_count_as_content(smart):
    content = smart("prompts", readout=Readout(token_filter="content"))
    encoded, messages = warned(content.encode_query, ["", "sea"])
    assert encoded.lengths.tolist() == [0, 1]
    assert "1 of 2 queries have no content" in messages[0]
    # The paper's filter keeps the prompt's tokens, so nothing has to stand in; it is counted all the same.
    encoded, messages = warned(smart("prompts").encode_query, ["", "sea"])
    assert encoded.token_strings(0) == ["query", ":"]
    assert encoded.report.empty == 1


def test_the_warning_does_not_claim_a_stand_in_where_the_prompt_was_kept(smart):
    _, messages = warned(smart("prompts").encode_query, ["", "sea"])
    assert "stands in" not in messages[0]


def test_a_prompt_that_fills_the_limit_leaves_no_content(smart):
    encoded, messages = warned(smart("mean").encode_query, "sea", prompt="the tax " * 30)
    assert encoded.report.empty == 1
    assert encoded.report.truncated == 1
    assert len(messages) == 2


def test_good_input_gives_no_warning(smart):
    for name in ("mean", "prompts", "decoder", "chat"):
        encoded, messages = warned(smart(name).encode_document, TEXTS if name != "chat" else TEXTS[1:3])
        assert messages == []
        assert encoded.report == EncodingReport(items=len(encoded))


# -- nothing, and no strings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["encode_query", "encode_document"])
@pytest.mark.parametrize("nothing", [[], (), {}, np.array([], str)], ids=["list", "tuple", "dict", "array"])
def test_nothing_to_encode(method, nothing, smart):
    with pytest.raises(EmptyInputError, match="at least one text"):
        getattr(smart("mean"), method)(nothing)


def test_an_empty_iterator(smart):
    with pytest.raises(EmptyInputError, match="at least one text"):
        smart("mean").encode_query(iter([]))


@pytest.mark.parametrize("item", [None, 3, b"bytes", ["nested"], float("nan")])
def test_items_of_unknown_types_are_refused(item, smart):
    with pytest.raises(EmptyInputError, match=rf"item 2: found {type(item).__name__}.*expected a string"):
        smart("mean").encode_document(["sea", "tax", item, None])


def test_bytes_are_not_taken_for_a_list(smart):
    with pytest.raises(EmptyInputError, match="item 0: found int"):
        smart("mean").encode_document(b"sea")


@pytest.mark.parametrize("batch_size", [0, -3])
def test_batch_sizes_below_one(batch_size, smart):
    with pytest.raises(EmptyInputError, match=f"batch_size: found {batch_size}"):
        smart("mean").encode_document(["sea"], batch_size=batch_size)


def test_a_prompt_name_that_is_unknown(smart):
    with pytest.raises(SmartError, match=r"no 'instruct'.*'document', 'query'"):
        smart("prompts").encode_query("sea", prompt_name="instruct")


# -- NaN -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def poisoned(tiny):
    """A model whose embedding of the word 'otter' is NaN: only texts that hold it are spoilt."""
    import torch

    model = SmartModel(tiny("mean"), device="cpu")
    otter = model.tokenizer.convert_tokens_to_ids("otter")
    with torch.no_grad():
        model.backbone.transformer.auto_model.embeddings.word_embeddings.weight[otter] = float("nan")
    return model


def test_nan_names_the_item(poisoned):
    texts = ["sea", "tax is due", "a river and a much longer text about tax and oil", "the otter sleeps", "otter"]
    with pytest.raises(NonFiniteError, match=r"2 of 5 items, first item 3 \('the otter sleeps'\)"):
        poisoned.encode_document(texts)
    assert len(poisoned.encode_document(texts[:3])) == 3


@pytest.mark.parametrize("limits", [{"window_items": 2}, {"batch_size": 1}, {"window_tokens": 5}])
def test_nan_names_the_item_of_the_whole_stream(poisoned, limits):
    from smart_retrieval.model.batching import BatchLimits

    texts = ["sea", "tax", "river", "moon", "sun", "the otter sleeps", "sea"]
    stream = poisoned._encoder.stream(
        texts, task="document", prompt=None, limits=BatchLimits(**limits), advance=lambda n: None
    )
    with pytest.raises(NonFiniteError, match="first item 5"):
        list(stream)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_anchor_that_is_not_finite_is_found_though_the_tokens_are(value, tiny):
    import torch

    model = SmartModel(tiny("dense-wide"), device="cpu")
    with torch.no_grad():
        model.backbone.model[2].linear.bias[5] = value
    with pytest.raises(NonFiniteError, match="item 0"):
        model.encode_query(["sea", "tax"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_weights_are_found(value, tiny):
    import torch

    model = SmartModel(tiny("mean"), device="cpu")
    with torch.no_grad():
        model.backbone.transformer.auto_model.encoder.layer[-1].output.dense.weight[0, 0] = value
    with pytest.raises(NonFiniteError):
        model.encode_query("sea")


# -- readouts ------------------------------------------------------------------------------------------------------


def test_layers_the_model_does_not_have(tiny):
    with pytest.raises(ReadoutError, match=r"found 4, expected an index from -4 to 3"):
        SmartModel(tiny("mean"), device="cpu", readout=Readout(layers=(4,)))
