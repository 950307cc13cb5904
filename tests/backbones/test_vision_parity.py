"""Anchors and token states of every visual family against the published recipes, written a second time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from reference_recipes import Input
from vlm_items import inputs, picture

from smart_retrieval.core.roles import TokenRole
from smart_retrieval.inputs import Frames

FAMILIES = (
    "qwen3-vl-embedding",
    "qwen3-vl-embedding-plain",
    "gme",
    "lamra-emb",
    "lamra-qwen25",
    "lamra-qwen3",
    "lamra-qwen3-upstream",
    "vlm2vec-v2",
)
KINDS = tuple(inputs(16))
SIDES = ("query", "document")
INSTRUCTION = "Find a page that matches the query"
TOLERANCE = 1e-5


def asked(item, side):
    """The item as a query with an instruction, or as a plain document."""
    return replace(item, query=side == "query", instruction=INSTRUCTION if side == "query" else None)


def given(item):
    """The item as the library takes it."""
    value = {"text": item.text or "", "image": list(item.images)}
    if item.frames:
        value["video"] = Frames(item.frames, item.times)
    if item.instruction:
        value["instruction"] = item.instruction
    return value


@pytest.fixture(scope="session")
def encoded(opened):
    """``encoded(name, side)``: by kind, what the library made of all kinds in one mixed call, and the references."""
    results = {}

    def encode_all(name, side):
        if (name, side) not in results:
            model, reference = opened(name)
            items = {kind: asked(item, side) for kind, item in inputs(reference.patch).items()}
            encode = model.encode_query if side == "query" else model.encode_document
            mine = encode([given(item) for item in items.values()])
            theirs = [reference.encode(item) for item in items.values()]
            results[name, side] = {kind: (mine[i], theirs[i], items[kind]) for i, kind in enumerate(items)}
        return results[name, side]

    return encode_all


def kept_by_the_paper(name, side, reference, ids):
    """The positions the official evaluation scores."""
    tokenizer = reference.tokenizer
    control = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
    visual = set(tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>"]))
    dropped = (set(tokenizer.all_special_ids) | set(tokenizer.convert_tokens_to_ids(list(control)))) - visual
    if name == "gme" and side == "query":
        dropped |= visual
    return [place for place, token in enumerate(ids) if token not in dropped]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", FAMILIES)
def test_anchor(name, side, kind, encoded):
    mine, theirs, _ = encoded(name, side)[kind]
    np.testing.assert_allclose(mine.anchors[0], theirs.anchor.numpy(), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", FAMILIES)
def test_token_states(name, side, kind, encoded, opened):
    """What ``token_filter="paper"`` keeps is what the official evaluation keeps, state by state."""
    mine, theirs, _ = encoded(name, side)[kind]
    reference = opened(name)[1]
    kept = kept_by_the_paper(name, side, reference, theirs.input_ids)
    visual = set(reference.tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>"]))
    # A visual position carries its patch, not the word of its placeholder.
    assert mine.token_ids.tolist() == [-1 if (t := theirs.input_ids[i]) in visual else t for i in kept]
    states = torch.nn.functional.normalize(theirs.states[kept], dim=-1)
    np.testing.assert_allclose(mine.token_vectors, states.numpy(), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", FAMILIES)
def test_grids_are_the_pictures_in_merged_patches(name, encoded):
    for mine, theirs, _ in encoded(name, "document").values():
        expected = [("video", t, h // 2, w // 2) for t, h, w in theirs.video_grids]
        expected += [("image", t, h // 2, w // 2) for t, h, w in theirs.image_grids]
        assert [tuple(grid) for grid in mine.grids[0]] == expected
        seen = np.isin(mine.roles, [TokenRole.IMAGE, TokenRole.VIDEO]).sum()
        assert seen == sum(grid.tokens for grid in mine.grids[0])


@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("name", FAMILIES)
def test_batches_do_not_matter(name, batch_size, opened, encoded):
    model, _ = opened(name)
    found = encoded(name, "document")
    again = model.encode_document([given(item) for _, _, item in found.values()], batch_size=batch_size)
    for index, (mine, _, _) in enumerate(found.values()):
        np.testing.assert_allclose(again.anchors[index], mine.anchors[0], rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(again[index].token_vectors, mine.token_vectors, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_order_of_items_does_not_matter(name, opened, encoded):
    """Pictures stay with their item wherever it stands among texts, pictures and films."""
    model, _ = opened(name)
    found = encoded(name, "query")
    order = np.random.default_rng(1).permutation(len(found))
    items = list(found.values())
    again = model.encode_query([given(items[i][2]) for i in order])
    for place, index in enumerate(order):
        np.testing.assert_allclose(again.anchors[place], items[index][0].anchors[0], rtol=0, atol=TOLERANCE)
        assert again[place].token_ids.tolist() == items[index][0].token_ids.tolist()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_order_of_an_items_pictures_matters(name, opened):
    model, reference = opened(name)
    first, second = picture(96, 160, 4), picture(224, 112, 5)
    one, other = model.encode_document([{"image": [first, second]}, {"image": [second, first]}]).anchors
    assert np.abs(one - other).max() > 1e-3
    np.testing.assert_allclose(other, reference.encode(Input(images=(second, first))).anchor, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_item_of_a_batch_has_its_own_instruction(name, opened):
    model, reference = opened(name)
    page = picture(160, 96, 1)
    items = [
        Input("The sun.", instruction="Find the page.", query=True),
        Input("The moon.", query=True),
        Input("The sun.", images=(page,), instruction="Which river is it?", query=True),
        Input("The sun.", instruction="Find an otter", query=True),
    ]
    mine = model.encode_query([given(item) for item in items]).anchors
    theirs = np.stack([reference.encode(item).anchor.numpy() for item in items])
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_side_of_the_padding_does_not_matter(name, opened, encoded):
    """The same batch padded in front: every tensor with a place per token is turned, the media stay."""
    model, _ = opened(name)
    found = encoded(name, "document")
    items = [given(item) for _, _, item in found.values()]
    features = model.backbone.preprocess(items, prompt=None, task="document")
    lengths = features["attention_mask"].sum(dim=1)
    width = features["input_ids"].shape[1]
    assert len(set(lengths.tolist())) > 2

    def turned(rows):
        return torch.stack([row.roll(width - int(length)) for row, length in zip(rows, lengths, strict=True)])

    per_token = [k for k, v in features.items() if torch.is_tensor(v) and tuple(v.shape[:2]) == (len(items), width)]
    assert {"input_ids", "attention_mask", "mm_token_type_ids"} <= set(per_token)
    features |= {key: turned(features[key]) for key in per_token}
    if "anchor_positions" in features:
        features["anchor_positions"] = features["anchor_positions"] + width - lengths
    with torch.inference_mode():
        anchors = model.backbone.model(features, task="document")["sentence_embedding"].numpy()
    for anchor, (mine, _, _) in zip(anchors, found.values(), strict=True):
        np.testing.assert_allclose(anchor, mine.anchors[0], rtol=0, atol=TOLERANCE)


# -- that a loss inside the library would be noticed -------------------------------------------------------------


def test_losing_deepstack_inside_the_library_is_noticed(opened, encoded, monkeypatch):
    model, _ = opened("qwen3-vl-embedding")
    mine, theirs, item = encoded("qwen3-vl-embedding", "document")["image"]
    language = model.backbone.transformer.model.language_model
    monkeypatch.setattr(language, "_deepstack_process", lambda states, mask, features: states)
    without = model.encode_document(given(item)).anchors[0]
    assert np.abs(without - theirs.anchor.numpy()).max() > 1e-3
    assert np.abs(mine.anchors[0] - theirs.anchor.numpy()).max() < TOLERANCE


def test_losing_the_positions_inside_the_library_is_noticed(opened, encoded):
    model, _ = opened("qwen3-vl-embedding")
    _, theirs, item = encoded("qwen3-vl-embedding", "document")["image"]
    features = model.backbone.preprocess([given(item)], prompt=None, task="document")
    features["position_ids"] = torch.arange(features["input_ids"].shape[1])[None]
    with torch.inference_mode():
        flat = model.backbone.model(features, task="document")["sentence_embedding"][0].numpy()
    assert np.abs(flat - theirs.anchor.numpy()).max() > 1e-3
