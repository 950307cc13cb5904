"""Which positions each token filter keeps, for every visual family, against the references' input ids."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_vision_parity import KINDS, TOLERANCE, asked, given, kept_by_the_paper
from vlm_items import inputs

from smart_retrieval import SmartModel
from smart_retrieval.core.roles import TokenRole
from smart_retrieval.errors import ReadoutError, SmartWarning

FAMILIES = ("qwen3-vl-embedding", "gme", "lamra-qwen3", "lamra-emb", "vlm2vec-v2")


def pooled_place(reference, ids):
    return ids.index(reference.emb) - 1 if hasattr(reference, "emb") else len(ids) - 1


def check(model, reference, item, expected_of):
    encode = model.encode_query if item.query else model.encode_document
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmartWarning)
        mine = encode(given(item))
    theirs = reference.encode(item)
    states = torch.nn.functional.normalize(theirs.states[expected_of(theirs.input_ids)], dim=-1)
    np.testing.assert_allclose(mine.token_vectors, states.numpy(), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(mine.anchors[0], theirs.anchor.numpy(), rtol=0, atol=TOLERANCE)


def with_filter(opened, name, token_filter):
    model, reference = opened(name)
    tokens = reference.tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>"])
    return model.with_readout(replace(model.readout, token_filter=token_filter)), reference, set(tokens)


@pytest.mark.parametrize("side", ["query", "document"])
@pytest.mark.parametrize("kind", ["text", "image-text", "video"])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_papers_formula_leaves_out_the_pooled_position(name, kind, side, opened):
    model, reference, _ = with_filter(opened, name, "paper-pooled")

    def expected(ids):
        pooled = pooled_place(reference, ids)
        return [place for place in kept_by_the_paper(name, side, reference, ids) if place != pooled]

    check(model, reference, asked(inputs(reference.patch)[kind], side), expected)


@pytest.mark.parametrize("side", ["query", "document"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_pictures_of_queries_can_be_left_out(name, kind, side, opened):
    model, reference, visual = with_filter(opened, name, "paper-query-visual")

    def expected(ids):
        kept = kept_by_the_paper(name, side, reference, ids)
        return [place for place in kept if side == "document" or ids[place] not in visual]

    check(model, reference, asked(inputs(reference.patch)[kind], side), expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_pictures_alone(name, opened):
    model, reference, visual = with_filter(opened, name, "visual")
    item = inputs(reference.patch)["images-text"]
    check(model, reference, item, lambda ids: [place for place, token in enumerate(ids) if token in visual])
    # An input without pictures keeps its words, also beside one with pictures.
    content = with_filter(opened, name, "content")[0]
    mixed = model.encode_document([given(item), "the otter swims"])
    assert mixed.token_ids[mixed.offsets[1] :].tolist() == content.encode_document("the otter swims").token_ids.tolist()
    # Where a query's pictures are left out, it is one without.
    masked = with_filter(opened, name, "visual-query-visual")[0].encode_query(given(item))
    assert masked.token_ids.tolist() == content.encode_query(item.text).token_ids.tolist()
    assert not np.isin(masked.roles, [TokenRole.IMAGE, TokenRole.VIDEO]).any()


@pytest.mark.parametrize(("name", "fewer"), [("mean", 0), ("cls", 0), ("decoder", 0), ("chat", 1)])
def test_pooled_positions_of_text_models(name, fewer, smart):
    """A mean has none; [CLS] and an end token are special anyway; the line break of a chat's last turn is not."""
    model = smart(name)
    without = model.with_readout(replace(model.readout, token_filter="paper-pooled"))
    before, after = (one.encode_document(["the otter swims", "one"]) for one in (model, without))
    assert after.lengths.tolist() == (before.lengths - fewer).tolist()
    for one, other in zip(before, after, strict=True):
        assert other.token_ids.tolist() == one.token_ids[: len(other.token_ids)].tolist()


def test_a_saved_model_and_the_batch_keep_the_choice(opened, tmp_path):
    model, reference, _ = with_filter(opened, "vlm2vec-v2", "content-pooled-query-visual")
    model.save_pretrained(tmp_path / "m")
    again = SmartModel(tmp_path / "m", device="cpu")
    assert again.readout == model.readout
    items = [given(asked(item, "query")) for item in inputs(reference.patch).values()]
    batch, one = again.encode_query(items), [model.encode_query(item) for item in items]
    assert batch.lengths.tolist() == [len(each.token_ids) for each in one]
    with pytest.raises(ReadoutError, match="token filter: found 'nothing'"):
        model.with_readout(replace(model.readout, token_filter="nothing"))
