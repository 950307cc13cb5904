"""SmartModel against plain Sentence Transformers (anchors) and plain transformers (token vectors)."""

import numpy as np
import pytest
from fixtures.reference import naive_tokens, plain_special_ids, plain_states
from fixtures.tiny_models import HIDDEN, MAX_LENGTH, POOLINGS, PROMPTS, SUPPORTED, TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_retrieval import IdfWeights, Readout, Scoring, SmartModel, hybrid_scores
from smart_retrieval.core.calibration import Calibration
from smart_retrieval.core.roles import WORD_ROLES, TokenRole
from smart_retrieval.errors import ReadoutError
from smart_retrieval.model.batching import BatchLimits
from smart_retrieval.model.encoding import Encoder

FAMILIES = ["mean", "decoder"]


def largest(difference) -> float:
    return float(np.abs(difference).max())


def assert_same_items(left, right, atol=1e-5):
    assert left.lengths.tolist() == right.lengths.tolist()
    assert np.array_equal(left.token_ids, right.token_ids)
    assert np.array_equal(left.roles, right.roles)
    assert largest(left.anchors - right.anchors) <= atol
    assert largest(left.token_vectors.astype(np.float32) - right.token_vectors.astype(np.float32)) <= atol


# -- the anchor ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SUPPORTED)
def test_anchors_are_what_sentence_transformers_gives(name, smart, tiny):
    from sentence_transformers import SentenceTransformer

    stock = SentenceTransformer(str(tiny(name)), device="cpu")
    model = smart(name)
    queries, documents = model.encode_query(TEXTS), model.encode_document(TEXTS)
    assert largest(queries.anchors - stock.encode_query(TEXTS)) <= 1e-6
    assert largest(documents.anchors - stock.encode_document(TEXTS)) <= 1e-6
    assert queries.anchors.dtype == np.float32
    assert queries.anchor_dim == model.anchor_dim == stock.get_embedding_dimension()
    if model.prompts:
        assert largest(queries.anchors - documents.anchors) > 1e-2
        assert largest(documents.anchors - stock.encode(TEXTS, prompt="passage: ")) <= 1e-6
    else:
        assert largest(documents.anchors - stock.encode(TEXTS)) <= 1e-6


def test_the_poolings_give_different_anchors(smart):
    anchors = [smart(name).encode_document(TEXTS).anchors for name in POOLINGS]
    for i, left in enumerate(anchors):
        for right in anchors[i + 1 :]:
            assert largest(left - right) > 1e-2


# -- the token vectors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mean", "cls-normalized", "dense-narrow", "dense-wide", "decoder", "decoder-prompts"])
def test_token_vectors_are_the_plain_models_last_state(name, smart, tiny):
    model = smart(name)
    prompt = model.prompts.get("query", "")
    encoded = model.encode_query(TEXTS)
    assert encoded.token_dim == model.token_dim == HIDDEN
    special = plain_special_ids(tiny(name))
    for i, text in enumerate(TEXTS):
        expected = naive_tokens(tiny(name), prompt + text)
        own = encoded[i]
        assert own.token_vectors.shape == expected.shape
        assert largest(own.token_vectors - expected) <= 1e-5
        ids, _ = plain_states(tiny(name), prompt + text, MAX_LENGTH)
        assert own.token_ids.tolist() == [token for token in ids if token not in special]
    np.testing.assert_allclose(np.linalg.norm(encoded.token_vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("layers", "mix"),
    [((0,), "mean"), ((1,), "mean"), ((-2,), "mean"), ((-1, -2), "mean"), ((0, 1, -1), "mean"), ((-1, 0), "concat")],
)
def test_any_layers_are_the_plain_models_hidden_states(name, layers, mix, smart, tiny):
    model = smart(name, readout=Readout(layers=layers, mix=mix))
    encoded = model.encode_document(TEXTS)
    # The library lays concatenated layers down in ascending order.
    ascending = tuple(sorted(layers, key=lambda layer: layer % model.backbone.n_states))
    assert encoded.token_dim == model.token_dim == HIDDEN * (len(layers) if mix == "concat" else 1)
    for i, text in enumerate(TEXTS):
        expected = naive_tokens(tiny(name), text, layers=ascending, mix=mix)
        assert largest(encoded[i].token_vectors - expected) <= 1e-5
    # Reading other layers leaves the anchor alone.
    assert largest(encoded.anchors - smart(name).encode_document(TEXTS).anchors) == 0


@pytest.mark.parametrize("name", FAMILIES)
def test_reading_hidden_states_does_not_change_the_saved_config(name, tiny, tmp_path):
    import json

    model = SmartModel(tiny(name), readout=Readout(layers=(0, -1)), device="cpu")
    with pytest.raises(IndexError):
        model.backbone.forward(_broken(), "query")
    before = model.encode_query(TEXTS[:3])
    model.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    original = json.loads((tiny(name) / "config.json").read_text())
    assert not saved.get("output_hidden_states")
    assert saved == original
    assert np.array_equal(model.encode_query(TEXTS[:3]).token_vectors, before.token_vectors)


def _broken():
    """Features whose forward pass fails after it began: an id beyond the vocabulary."""
    import torch

    return {"input_ids": torch.tensor([[10**6]]), "attention_mask": torch.tensor([[1]])}


# -- the same whatever the batch -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mean", "max", "weightedmean", "lasttoken", "prompts", "decoder", "chat"])
def test_the_batch_size_changes_nothing(name, smart):
    one, seven, many = (smart(name).encode_query(TEXTS, batch_size=size) for size in (1, 7, 64))
    assert_same_items(one, seven)
    assert_same_items(one, many)


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=10)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_texts_changes_nothing(name, smart, random):
    order = list(range(len(TEXTS)))
    random.shuffle(order)
    model = smart(name)
    shuffled = model.encode_document([TEXTS[i] for i in order], batch_size=5)
    assert_same_items(shuffled, model.encode_document(TEXTS)[order])


@pytest.mark.parametrize("name", FAMILIES)
def test_the_padding_side_changes_nothing(name, tiny, smart):
    model = SmartModel(tiny(name), device="cpu", readout=Readout())
    other = "left" if model.tokenizer.padding_side == "right" else "right"
    model.tokenizer.padding_side = other
    # BERT's positions are absolute: left padding shifts them, in any library, so only the decoder's vectors agree.
    padded, plain = model.encode_document(TEXTS), smart(name).encode_document(TEXTS)
    if name == "decoder":
        assert_same_items(padded, plain)
    assert padded.lengths.tolist() == plain.lengths.tolist()
    assert np.array_equal(padded.token_ids, plain.token_ids)
    assert np.array_equal(padded.roles, plain.roles)


@pytest.mark.parametrize(
    "limits",
    [
        BatchLimits(batch_size=3, window_items=4),
        BatchLimits(window_tokens=20),
        BatchLimits(batch_tokens=1),
        BatchLimits(batch_tokens=30, window_tokens=60),
        BatchLimits(batch_size=1, window_items=1),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["prompts", "decoder"])
def test_tiny_limits_change_nothing(name, limits, smart):
    model = smart(name)
    encoder = Encoder(model.backbone, model.backbone.token_head(model.readout))
    prompt = model.backbone.prompt_for("document", None, None)
    done = []
    parts = list(encoder.stream(TEXTS, task="document", prompt=prompt, limits=limits, advance=done.append))
    joined = parts[0].concatenate(parts)
    assert_same_items(joined, model.encode_document(TEXTS))
    assert joined.report == model.encode_document(TEXTS).report
    assert sum(done) == len(TEXTS)
    if limits.window_items < 10 or limits.window_tokens < 100:
        assert len(parts) > 1


def test_no_forward_pass_holds_more_padded_tokens_than_allowed(smart):
    model = smart("mean")
    # Every letter of these is a token of its own, so the guess of three letters a token falls short by far.
    texts = ["x q z k v j w " * 3, "b c d f g h", "q x", "z k v j w"] * 5
    shapes = []
    hook = model.backbone.transformer.register_forward_pre_hook(
        lambda module, arguments: shapes.append(tuple(arguments[0]["input_ids"].shape))
    )
    try:
        encoder = Encoder(model.backbone, model.backbone.token_head(model.readout))
        limits = BatchLimits(batch_size=6, batch_tokens=50)
        list(encoder.stream(texts, task="document", prompt=None, limits=limits, advance=lambda n: None))
    finally:
        hook.remove()
    assert sum(rows for rows, _ in shapes) == len(texts)
    assert all(rows * width <= 50 or rows == 1 for rows, width in shapes)
    assert all(rows <= 6 for rows, _ in shapes)
    assert max(rows for rows, _ in shapes) > 1


def test_encoding_switches_training_mode_off(tiny, smart):
    # Dropout would make every encoding another one.
    model = SmartModel(tiny("mean"), device="cpu", readout=Readout())
    model.backbone.model.train()
    assert_same_items(model.encode_document(TEXTS), smart("mean").encode_document(TEXTS), atol=0)


def test_float16_token_vectors(smart):
    half, full = smart("mean", dtype="float16").encode_document(TEXTS), smart("mean").encode_document(TEXTS)
    assert half.token_vectors.dtype == np.float16
    assert half.anchors.dtype == np.float32
    assert np.array_equal(half.anchors, full.anchors)
    assert np.array_equal(half.token_vectors, full.token_vectors.astype(np.float16))


@pytest.mark.parametrize("dtype", ["int8", "bananas"])
def test_other_dtypes_are_refused_at_once(dtype, tiny):
    from smart_retrieval import SmartError

    with pytest.raises((SmartError, ValueError), match=dtype):
        SmartModel(tiny("mean"), device="cpu", dtype=dtype)


# -- which tokens are kept -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["prompts", "decoder-prompts"])
def test_the_paper_filter_keeps_prompt_tokens_and_content_drops_them(name, smart, tiny):
    paper = smart(name).encode_query(TEXTS)
    content = smart(name, readout=Readout(token_filter="content")).encode_query(TEXTS)
    assert paper.token_strings(1)[:2] == ["query", ":"]
    assert paper.roles[:2].tolist() == [TokenRole.PROMPT, TokenRole.PROMPT]
    assert int(TokenRole.TEXT) in content.roles
    assert set(content.roles.tolist()) <= WORD_ROLES
    dropped = {TokenRole.PUNCTUATION, TokenRole.UNKNOWN} if name == "prompts" else {TokenRole.PUNCTUATION}
    assert set(paper.roles.tolist()) - {TokenRole.CONTINUATION} == {TokenRole.PROMPT, TokenRole.TEXT} | dropped
    for i in range(len(TEXTS)):
        own = np.isin(paper[i].roles, [*WORD_ROLES])
        assert np.array_equal(content[i].token_vectors, paper[i].token_vectors[own])
        prompt = np.flatnonzero(paper[i].roles == int(TokenRole.PROMPT))
        # The prompt's last blank is a token of its own where the text's first token does not take it in.
        assert "".join(np.array(paper.token_strings(i))[prompt]) in ("query:", "query:Ġ")
        assert prompt.tolist() == list(range(len(prompt)))
    # The anchor sees the prompt either way.
    assert np.array_equal(paper.anchors, content.anchors)


def test_each_task_has_its_prompt_and_can_be_given_another(smart):
    model = smart("prompts")
    assert model.prompts == PROMPTS
    assert model.encode_document("sea").token_strings(0) == ["passage", ":", "sea"]
    assert model.encode_query("sea").token_strings(0) == ["query", ":", "sea"]
    assert model.encode_query("sea", prompt="").token_strings(0) == ["sea"]
    assert model.encode_query("sea", prompt="the tax ").token_strings(0) == ["the", "tax", "sea"]
    assert model.encode_query("sea", prompt_name="document").token_strings(0) == ["passage", ":", "sea"]


@pytest.mark.parametrize("names", [("passage",), ("corpus",), ("corpus", "passage"), ("document", "passage")])
def test_documents_take_the_prompt_sentence_transformers_takes(names, tiny):
    from sentence_transformers import SentenceTransformer

    prompts = {name: f"{name}: " for name in names}
    model = SmartModel(tiny("mean"), device="cpu", prompts=prompts)
    stock = SentenceTransformer(str(tiny("mean")), device="cpu", prompts=prompts)
    texts = TEXTS[:6]
    assert largest(model.encode_document(texts).anchors - stock.encode_document(texts)) <= 1e-6


def test_prompts_can_be_given_at_construction(tiny):
    from sentence_transformers import SentenceTransformer

    prompts = {"query": "find: ", "document": "the "}
    model = SmartModel(tiny("mean"), device="cpu", prompts=prompts, preset="paper")
    stock = SentenceTransformer(str(tiny("mean")), device="cpu", prompts=prompts)
    assert model.encode_query("sea").token_strings(0) == ["find", ":", "sea"]
    assert model.encode_document("sea").token_strings(0) == ["the", "sea"]
    assert largest(model.encode_query(TEXTS).anchors - stock.encode_query(TEXTS)) <= 1e-6
    assert largest(model.encode_document(TEXTS).anchors - stock.encode_document(TEXTS)) <= 1e-6


@pytest.mark.parametrize("name", ["mean", "prompts", "decoder", "chat"])
def test_special_tokens_are_never_kept(name, smart, tiny):
    model = smart(name)
    encoded = model.encode_document(TEXTS)
    special = plain_special_ids(tiny(name))
    assert not special & set(encoded.token_ids.tolist())
    assert int(TokenRole.SPECIAL) not in encoded.roles


def test_an_end_token_that_doubles_as_the_unknown_token_is_not_kept(smart):
    model = smart("decoder-eos-is-unk")
    assert "<|endoftext|>" not in model.encode_document("tax is due").token_strings(0)


def test_unknown_words_are_kept(smart):
    encoded = smart("mean").encode_document("☃ the ☃")
    assert encoded.token_strings(0) == ["[UNK]", "the", "[UNK]"]
    assert encoded.roles.tolist() == [TokenRole.UNKNOWN, TokenRole.TEXT, TokenRole.UNKNOWN]


def test_token_strings_are_the_vocabularys(smart):
    encoded = smart("mean").encode_document(["swimming otters", "Tax!"])
    assert encoded.token_strings(0) == ["swim", "##m", "##ing", "otter", "##s"]
    assert encoded.token_strings(1) == ["tax", "!"]


def test_a_chat_templates_tokens_have_their_own_role(smart):
    paper = smart("chat").encode_document(["tax is due", "otter"])
    content = smart("chat", readout=Readout(token_filter="content")).encode_document(["tax is due", "otter"])
    assert set(paper.roles.tolist()) - {TokenRole.CONTINUATION} == {TokenRole.TEMPLATE, TokenRole.TEXT}
    assert "".join(paper.token_strings(1)) == "userĊotterĊ"
    assert content.token_strings(0) == ["tax", "Ġis", "Ġdue"]
    assert "".join(content.token_strings(1)) == "otter"


# -- the object ----------------------------------------------------------------------------------------------------


def test_one_text_or_many(smart):
    model = smart("mean")
    one = model.encode_query(TEXTS[0])
    assert len(one) == 1
    assert_same_items(one, model.encode_query([TEXTS[0]]), atol=0)
    for many in (tuple(TEXTS), np.array(TEXTS), iter(TEXTS), (text for text in TEXTS), dict.fromkeys(TEXTS).keys()):
        assert_same_items(model.encode_query(many), model.encode_query(TEXTS), atol=0)


def test_similarity_uses_the_presets_scoring(smart):
    model, paper = smart("mean", preset="default"), smart("mean", preset="paper")
    queries, documents = paper.encode_query(TEXTS[:4]), paper.encode_document(TEXTS)
    assert np.array_equal(paper.similarity(queries, documents), hybrid_scores(queries, documents))
    preset = model.preset
    own = preset.scoring
    assert (own.weights, own.lambda_late, own.floor) == ("idf", "calibrated", "calibrated")
    found = Calibration.fit(documents)
    scoring = {"lambda_anchor": own.lambda_anchor, "lambda_late": found.lambda_late, "floor": found.floor}
    scoring["weights"] = IdfWeights.fit(documents)
    assert np.array_equal(model.similarity(queries, documents), hybrid_scores(queries, documents, **scoring))
    weights = np.arange(len(queries.token_vectors)) + 1
    for floor in (None, 0.3):
        own = {"weights": weights, "lambda_anchor": 0, "lambda_late": 3, "floor": floor}
        assert np.array_equal(model.similarity(queries, documents, **own), hybrid_scores(queries, documents, **own))
        given = model.similarity(queries, documents, scoring=Scoring(**own))
        assert np.array_equal(given, hybrid_scores(queries, documents, **own))


def test_another_readout_of_the_same_backbone(smart):
    model = smart("mean")
    other = model.with_readout(Readout(layers=(0, 1), mix="concat"))
    assert other.backbone is model.backbone
    assert other.readout.layers == (0, 1)
    assert (model.readout, model.token_dim, other.token_dim) == (Readout(), HIDDEN, 2 * HIDDEN)
    expected = smart("mean", readout=Readout(layers=(0, 1), mix="concat"))
    assert_same_items(other.encode_query(TEXTS), expected.encode_query(TEXTS), atol=0)
    # The one it came from still reads what it read, its multi-vector encoder too.
    assert model.encode_query("sea").token_dim == HIDDEN
    assert other.encoder is not model.encoder
    with pytest.raises(ReadoutError):
        model.with_readout(Readout(layers=(99,)))


def test_a_text_is_its_own_best_match(smart):
    model = smart("mean-normalized")
    scores = model.similarity(model.encode_query(TEXTS), model.encode_document(TEXTS))
    assert scores.argmax(axis=1).tolist() == list(range(len(TEXTS)))


def test_the_identity_follows_weights_readout_prompts_and_length(smart, tiny, tmp_path):
    import json

    import torch

    base = smart("mean").identity()
    assert json.loads(json.dumps(base)) == base
    assert SmartModel(tiny("mean"), device="cpu", readout=Readout()).identity() == base
    for other in (
        smart("mean", readout=Readout(layers=(-2,))),
        SmartModel(tiny("mean"), device="cpu", readout=Readout(), prompts={"query": "q: "}),
        SmartModel(tiny("mean"), device="cpu", readout=Readout(), max_length=9),
    ):
        assert {**other.identity(), "name": ""} != {**base, "name": ""}
    changed = SmartModel(tiny("mean"), device="cpu")
    with torch.no_grad():
        next(changed.backbone.model.parameters()).mul_(1.01)
    assert changed.identity()["fingerprint"] != base["fingerprint"]
    smart("mean").save_pretrained(tmp_path / "copy")
    assert SmartModel(tmp_path / "copy", device="cpu").identity()["fingerprint"] == base["fingerprint"]


def test_properties(smart, tiny):
    model = smart("dense-narrow")
    assert (model.anchor_dim, model.token_dim, model.max_length) == (12, HIDDEN, MAX_LENGTH)
    assert model.device == "cpu"
    assert str(tiny("dense-narrow")) in repr(model)
    assert model.backbone.pooling == "mean"
    assert model.backbone.n_states == 4
    assert smart("decoder").backbone.pooling == "lasttoken"
    assert smart("decoder").backbone.n_states == 3


def test_progress_is_shown_when_asked_for_and_on_stderr(smart, capsys):
    smart("mean").encode_query(TEXTS)
    assert capsys.readouterr() == ("", "")
    smart("mean").encode_query(TEXTS, show_progress=True)
    written = capsys.readouterr()
    assert written.out == ""
    assert "Encoding queries" in written.err
    assert f"{len(TEXTS)}/{len(TEXTS)}" in written.err


@pytest.mark.parametrize("how", ["given", "with_readout"])
def test_a_tuned_floor_is_not_applied_to_another_readout(how, tiny):
    model = SmartModel(tiny("mean"), device="cpu", readout=Readout() if how == "given" else None)
    if how == "with_readout":
        model = model.with_readout(Readout())
    assert model.preset.scoring.floor is None or model.readout == model.preset.readout
