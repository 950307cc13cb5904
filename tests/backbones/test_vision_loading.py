"""Opening visual checkpoints: which family, what is refused, what is saved, and the role of every token."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from reference_recipes import Input, JinaV4, Recipe
from safetensors.torch import load_file, save_file
from test_reference_recipes import processors_say
from test_vision_parity import TOLERANCE, given
from vlm_items import film, inputs, picture, times

from smart_retrieval import Readout, SmartModel
from smart_retrieval.core.roles import TokenRole
from smart_retrieval.errors import ModelNotFoundError, UnsupportedModelError
from smart_retrieval.inputs import Frames

S, TPL, P, X = TokenRole.SPECIAL, TokenRole.TEMPLATE, TokenRole.PROMPT, TokenRole.TEXT
IMG, VID, PUNCT = TokenRole.IMAGE, TokenRole.VIDEO, TokenRole.PUNCTUATION


def opened(folder, **kwargs):
    return SmartModel(folder, device="cpu", **{"readout": Readout(), **kwargs})


@pytest.fixture
def copy(tiny_vlm, tmp_path):
    """``copy(name)``: a checkpoint of one's own, in a folder of the same name."""

    def copied(name):
        source = tiny_vlm(name)
        return shutil.copytree(source, tmp_path / source.name)

    return copied


# -- which family ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("qwen3-vl-embedding", "qwen3-vl-embedding"),
        ("qwen3-vl-embedding-plain", "qwen3-vl-embedding"),
        ("gme", "gme"),
        ("gme-custom-code", "gme"),
        ("lamra", "lamra"),
        ("lamra-emb", "lamra"),
        ("lamra-qwen25", "lamra"),
        ("lamra-qwen3", "lamra-smart"),
        ("vlm2vec-v2", "vlm2vec-v2"),
        ("jina-v4-merged", "jina-v4"),
    ],
)
def test_family_is_known_by_the_published_name(name, family, tiny_vlm):
    assert opened(tiny_vlm(name)).backbone.family == family


def test_a_renamed_qwen3_embedding_is_known_by_its_sentence_transformers_files(tiny_vlm, tmp_path):
    folder = shutil.copytree(tiny_vlm("qwen3-vl-embedding"), tmp_path / "our-model")
    assert opened(folder).backbone.family == "qwen3-vl-embedding"


def test_a_family_can_be_named(tiny_vlm, tmp_path):
    folder = shutil.copytree(tiny_vlm("gme"), tmp_path / "our-model")
    item = picture(96, 96)
    mine = opened(folder, family="gme").encode_document(item).anchors
    np.testing.assert_array_equal(mine, opened(tiny_vlm("gme")).encode_document(item).anchors)
    with pytest.raises(UnsupportedModelError, match="found the architecture 'qwen2_vl', expected qwen3_vl"):
        opened(folder, family="qwen3-vl-embedding")
    with pytest.raises(UnsupportedModelError, match="expected one of"):
        opened(folder, family="clip")


# -- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bare-qwen2", "bare-qwen25", "bare-qwen3"])
def test_a_bare_model_is_refused_until_its_pooling_is_chosen(name, tiny_vlm):
    with pytest.raises(UnsupportedModelError, match=r"no sign that it was trained to embed.*pooling= one of lasttoken"):
        opened(tiny_vlm(name))
    with pytest.raises(UnsupportedModelError, match="pooling"):
        opened(tiny_vlm(name), pooling="max")


class Bare(Recipe):
    """A user's turn and the generation prompt, pooled as asked."""

    mean_pooled = False

    def render(self, item):
        opening = "" if self.deep else "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        return f"{opening}<|im_start|>user\n{self._blocks(item)}{item.text or ''}<|im_end|>\n<|im_start|>assistant\n"

    def pool(self, states, ids):
        return states.mean(dim=0) if self.mean_pooled else states[-1]


@pytest.mark.parametrize("pooling", ["lasttoken", "mean"])
@pytest.mark.parametrize("name", ["bare-qwen2", "bare-qwen25", "bare-qwen3"])
def test_a_bare_model_with_its_pooling(name, pooling, tiny_vlm):
    model, reference = opened(tiny_vlm(name), pooling=pooling), Bare(tiny_vlm(name))
    reference.mean_pooled = pooling == "mean"
    items = [item for kind, item in inputs(reference.patch).items() if kind != "odd-image"]
    mine = model.encode_document([given(item) for item in items]).anchors
    theirs = np.stack([reference.encode(item).anchor.numpy() for item in items])
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=TOLERANCE)


def test_pooling_is_not_for_a_model_that_has_one(tiny_vlm):
    with pytest.raises(UnsupportedModelError, match="family 'gme' says how it is pooled"):
        opened(tiny_vlm("gme"), pooling="mean")


def test_the_published_lamra_whose_tokenizer_has_no_emb(tiny_vlm):
    """Added on loading, as its own scripts do: the anchor stands before it and cannot tell."""
    items = ["The sun.", {"text": "The sun.", "image": picture(96, 128)}, Frames(film(392), times(4))]
    added = opened(tiny_vlm("lamra")).encode_document(items)
    within = opened(tiny_vlm("lamra-emb")).encode_document(items)
    np.testing.assert_array_equal(added.anchors, within.anchors)
    assert added.token_ids.tolist() == within.token_ids.tolist()


def test_lamra_without_emb_nor_room_for_it_is_refused(copy):
    """``argmax`` over no match would silently give the last token."""
    folder = copy("lamra")
    weights = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    rows = len(json.loads((folder / "vocab.json").read_text())) + 14
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[key] = weights[key][:rows].contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": rows}))
    with pytest.raises(UnsupportedModelError, match=r"found no token '<emb>' in its tokenizer and no free row"):
        opened(folder)


def test_jina_with_its_adapters_apart_is_refused(tiny_vlm):
    with pytest.raises(UnsupportedModelError, match=r"task adapters apart, expected one of its merged"):
        opened(tiny_vlm("jina-v4"))


def test_jina_merged(tiny_vlm):
    """A mean over the words, or over the picture's span, the two control tokens around it included."""
    model, reference = opened(tiny_vlm("jina-v4-merged")), JinaV4(tiny_vlm("jina-v4-merged"))
    items = [Input("the otter"), Input(images=(picture(301, 203),)), Input("a longer text, with words", query=True)]
    items += [Input(images=(picture(1200, 1000),), query=True)]
    for side in (False, True):
        own = [replace(item, query=side) for item in items]
        encode = model.encode_query if side else model.encode_document
        encoded = encode([given(item) for item in own])
        theirs = [reference.encode(item) for item in own]
        np.testing.assert_allclose(encoded.anchors, np.stack([one.anchor for one in theirs]), rtol=0, atol=TOLERANCE)
        for index, one in enumerate(theirs):
            pads = one.input_ids.count(reference.model.config.image_token_id)
            assert int((encoded[index].roles == IMG).sum()) == pads


@pytest.mark.parametrize("name", ["gme", "qwen3-vl-embedding"])
@pytest.mark.parametrize("damage", ["missing", "unknown", "shape"])
def test_missing_unknown_and_misshapen_weights_are_refused(name, damage, copy):
    folder = copy(name)
    weights = load_file(folder / "model.safetensors")
    layer = next(key for key in weights if key.endswith("layers.1.mlp.up_proj.weight"))
    if damage == "missing":
        del weights[layer]
    elif damage == "unknown":
        weights[layer.replace("up_proj", "side_proj")] = torch.zeros(2, 2)
    else:
        weights[layer] = torch.zeros(3, 3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelNotFoundError, match=r"up_proj|side_proj|size mismatch|shape"):
        opened(folder)


def test_a_missing_head_that_predicts_words_is_no_loss(copy):
    folder = copy("gme")
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    item = picture(96, 96)
    before = opened(folder).encode_document(item).anchors
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    np.testing.assert_array_equal(opened(folder).encode_document(item).anchors, before)


def test_pickled_weights_are_not_read(copy, tmp_path):
    folder = copy("gme")

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "pickle-ran"), "w"))

    (folder / "model.safetensors").unlink()
    torch.save({"trap": Trap()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelNotFoundError, match="safetensors"):
        opened(folder)
    assert not (tmp_path / "pickle-ran").exists()


def test_code_that_comes_with_a_model_never_runs(tiny_vlm):
    folder = tiny_vlm("gme-custom-code")
    assert opened(folder).encode_query("the sun").anchors.shape == (1, 64)
    with pytest.raises(UnsupportedModelError, match="code from a hub is never run"):
        opened(folder, trust_remote_code=True)
    assert not (folder / "remote-code-ran").exists()


@pytest.mark.parametrize("gone", ["preprocessor_config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(gone, copy):
    folder = copy("vlm2vec-v2")
    (folder / gone).unlink()
    for rest in ("vocab.json", "merges.txt") if gone == "tokenizer.json" else ():
        (folder / rest).unlink()
    with pytest.raises((ModelNotFoundError, UnsupportedModelError)) as caught:
        opened(folder)
    assert folder.name in str(caught.value)


# -- saved and opened again --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qwen3-vl-embedding", "gme", "lamra-emb", "lamra-qwen3", "vlm2vec-v2"])
def test_saved_and_opened_again(name, tiny_vlm, tmp_path):
    model = opened(tiny_vlm(name), max_visual_tokens=300)
    items = ["the otter swims", picture(160, 96), {"text": "The sun.", "image": picture(96, 128)}]
    model.save_pretrained(tmp_path / "ours")
    again = SmartModel(tmp_path / "ours", device="cpu", max_visual_tokens=300)
    before, after = model.encode_document(items), again.encode_document(items)
    np.testing.assert_array_equal(after.anchors, before.anchors)
    np.testing.assert_array_equal(after.token_vectors, before.token_vectors)
    assert again.backbone.family == model.backbone.family
    assert again.backbone.fingerprint == model.backbone.fingerprint
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert not config.get("output_hidden_states", False)


def test_a_saved_qwen3_embedding_opens_in_sentence_transformers_with_the_same_anchors(tiny_vlm, tmp_path):
    """In a process of its own, since Sentence Transformers cannot open any Qwen-VL without torchvision."""
    model = opened(tiny_vlm("qwen3-vl-embedding"))
    model.save_pretrained(tmp_path / "Qwen3-VL-Embedding-2B")
    found = processors_say(tmp_path, **{"qwen3-vl-embedding": tmp_path / "Qwen3-VL-Embedding-2B"})["qwen3-vl-embedding"]
    items = inputs(16)
    for kind in ("text", "image", "image-text"):
        mine = model.encode_document(given(items[kind])).anchors[0]
        np.testing.assert_allclose(found[f"{kind}/sentence-transformer"], mine, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("layers", [(-1, -2), (0,), (2, 3)])
def test_other_layers_do_not_change_the_anchor(layers, tiny_vlm):
    items = ["the sun", picture(96, 96)]
    plain = opened(tiny_vlm("qwen3-vl-embedding")).encode_document(items)
    deep = opened(tiny_vlm("qwen3-vl-embedding"), readout=Readout(layers=layers)).encode_document(items)
    np.testing.assert_array_equal(deep.anchors, plain.anchors)
    assert deep.lengths.tolist() == plain.lengths.tolist()
    assert np.abs(deep.token_vectors - plain.token_vectors).max() > 1e-2


# -- roles -------------------------------------------------------------------------------------------------------


def spans(model, item, task="document", prompt=None):
    """Runs of one role with their text, visual ones with their number."""
    runs = []
    for token, role in model.backbone.rendered(item, prompt=prompt, task=task):
        if runs and runs[-1][0] == role:
            runs[-1][1].append(token)
        else:
            runs.append((role, [token]))
    join = model.tokenizer.convert_tokens_to_string
    return [(role, len(tokens) if role in (IMG, VID) else join(tokens)) for role, tokens in runs]


START, END = "<|vision_start|>", "<|vision_end|>"


def test_roles_of_qwen3_embedding(tiny_vlm):
    model = opened(tiny_vlm("qwen3-vl-embedding"))
    front = [(S, "<|im_start|>"), (TPL, "system\n"), (P, "Represent the user's input."), (S, "<|im_end|>"), (TPL, "\n")]
    front += [(S, "<|im_start|>"), (TPL, "user\n")]
    back = [(TPL, "\n"), (S, "<|im_start|>"), (TPL, "assistant\n")]
    assert spans(model, "the sun") == [*front, (X, "the sun"), (S, "<|im_end|>"), *back]
    both = spans(model, {"text": "the sun", "image": picture(96, 128)})
    assert both == [*front, (S, START), (IMG, 12), (S, END), (X, "the sun"), (S, "<|im_end|>"), *back]
    several = spans(model, {"image": [picture(96, 128), picture(64, 64)]})
    assert several == [*front, (S, START), (IMG, 12), (S, END + START), (IMG, 4), (S, END + "<|im_end|>"), *back]
    moving = spans(model, Frames(film(384), times(4)))
    dated = [(TPL, "<0.2 seconds>"), (S, START), (VID, 144), (S, END), (TPL, "<1.2 seconds>"), (S, START), (VID, 144)]
    assert moving == [*front[:-1], (TPL, "user\n" + dated[0][1]), *dated[1:], (S, END + "<|im_end|>"), *back]


def test_roles_of_gme(tiny_vlm):
    model = opened(tiny_vlm("gme"))
    found = spans(model, {"text": "the sun", "image": picture(448, 448)}, "query", "Find an image.")
    assert found == [
        (S, "<|im_start|>"), (TPL, "system\n"), (P, "Find an image."), (S, "<|im_end|>"), (TPL, "\n"),
        (S, "<|im_start|>"), (TPL, "user\n"), (S, START), (IMG, 256), (S, END), (X, "the sun"), (S, "<|im_end|>"),
        (TPL, "\n"), (S, "<|im_start|>"), (TPL, "assistant\n"), (S, "<|endoftext|>"),
    ]  # fmt: skip


def test_roles_of_the_papers_lamra(tiny_vlm):
    model = opened(tiny_vlm("lamra-qwen3"))
    found = spans(model, {"text": "the sun", "image": picture(96, 128)}, "query", "find an image")
    assert found == [
        (S, "<|im_start|>"), (TPL, "user\n"), (S, START), (IMG, 12), (S, END), (P, " find an image.\n"), (X, "the sun"),
        (TPL, "\nSummarize above sentence in one word: "), (S, "<|im_end|>"), (TPL, "\n"),
        (S, "<|im_start|>"), (TPL, "assistant\n<emb>."), (S, "<|im_end|>"), (TPL, "\n"), (S, "<|im_start|>"),
        (TPL, "assistant\n"),
    ]  # fmt: skip


def test_roles_of_lamra(tiny_vlm):
    model = opened(tiny_vlm("lamra-qwen3"), family="lamra")
    found = spans(model, {"text": "the sun", "image": picture(96, 128)}, "query", "find an image")
    assert found == [
        (S, "<|im_start|>"), (TPL, "user\n"), (S, START), (IMG, 12), (S, END), (P, "Find an image."), (X, " the sun"),
        (PUNCT, "."), (TPL, "\nSummarize above image and sentence in one word: "), (S, "<|im_end|>"), (TPL, "\n"),
        (S, "<|im_start|>"), (TPL, "assistant\n<emb>."), (S, "<|im_end|>"), (TPL, "\n"), (S, "<|im_start|>"),
        (TPL, "assistant\n"),
    ]  # fmt: skip


def test_roles_of_vlm2vec(tiny_vlm):
    model = opened(tiny_vlm("vlm2vec-v2"))
    found = spans(model, {"text": "the sun", "image": picture(112, 84)}, "query", "Find an image:")
    assert found == [(IMG, 12), (P, " Find an image:"), (X, " the sun")]
    assert spans(model, "the sun") == [(X, "the sun")]


def test_content_filter_keeps_the_users_own(tiny_vlm):
    model = opened(tiny_vlm("qwen3-vl-embedding"), readout=Readout(token_filter="content"))
    encoded = model.encode_document({"text": "the sun", "image": picture(96, 128)})
    assert encoded.roles.tolist() == [IMG] * 12 + [X] * 2


def test_gme_queries_lose_their_pictures_under_the_papers_filter_only(tiny_vlm):
    query = {"text": "the sun", "image": picture(448, 448)}
    paper = opened(tiny_vlm("gme"))
    assert not (paper.encode_query(query).roles == IMG).any()
    assert (paper.encode_document(query).roles == IMG).sum() == 256
    content = opened(tiny_vlm("gme"), readout=Readout(token_filter="content"))
    assert (content.encode_query(query).roles == IMG).sum() == 256
