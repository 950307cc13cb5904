"""The backbone: refusals, roles, and what it tells about itself."""

import json
import shutil
import string

import numpy as np
import pytest
import torch
from fixtures.tiny_models import HIDDEN, MAX_LENGTH, POOLINGS, TEXTS, bert
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Router, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling, WordEmbeddings

from smart_retrieval import Readout, SmartModel
from smart_retrieval.core.roles import CONTENT_ROLES, TokenRole
from smart_retrieval.errors import UnsupportedModelError
from smart_retrieval.inputs import Item

S, TPL, P, X = TokenRole.SPECIAL, TokenRole.TEMPLATE, TokenRole.PROMPT, TokenRole.TEXT
UNK, PUNCT = TokenRole.UNKNOWN, TokenRole.PUNCTUATION


def saved(folder, *modules):
    SentenceTransformer(modules=list(modules), device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder


# -- models it must not take ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("static", r"found StaticEmbedding.*expected a transformer: static word vectors"),
        ("clip", r"no hidden state for each token"),
        ("multi-vector", r"found a MultiVectorEncoder, expected a single-vector"),
    ],
)
def test_models_without_token_states_or_anchor(name, message, tiny):
    with pytest.raises(UnsupportedModelError, match=message) as caught:
        SmartModel(tiny(name), device="cpu")
    assert name in str(caught.value)


@pytest.fixture
def changed(tiny, tmp_path):
    """``changed(name, file, **values)``: a copy of a tiny checkpoint with other values in a file."""

    def change(name, file, **values):
        folder = shutil.copytree(tiny(name), tmp_path / "changed")
        old = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**old, **values}))
        return folder

    return change


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("XLMRobertaForSequenceClassification", "XLMRobertaForSequenceClassification without modules.json.*--rerank"),
        ("HF_ColBERT", "a ColBERT model has no pooled embedding"),
    ],
)
def test_bare_rerankers_and_multi_vector_models(architecture, message, changed):
    folder = changed("mean", "config.json", architectures=[architecture])
    assert SmartModel(folder, device="cpu").anchor_dim == HIDDEN, "modules.json says that it is an embedding model"
    (folder / "modules.json").unlink()
    with pytest.raises(UnsupportedModelError, match=message):
        SmartModel(folder, device="cpu")
    assert SmartModel(folder, device="cpu", pooling="cls").backbone.pooling == "cls"


def test_a_folder_without_its_tokenizer(changed):
    folder = changed("mean", "config.json")
    for file in (*folder.glob("*token*"), *folder.glob("vocab*")):
        file.unlink()
    with pytest.raises(UnsupportedModelError, match=r"a tokenizer that knows no words.*tokenizer\.json"):
        SmartModel(folder, device="cpu")


def test_a_model_that_pools_nothing(tmp_path):
    with pytest.raises(UnsupportedModelError, match="no pooled embedding"):
        SmartModel(saved(tmp_path / "st", bert(tmp_path / "plain")), device="cpu")


def test_code_from_a_hub_is_never_run(tiny):
    with pytest.raises(UnsupportedModelError, match="trust_remote_code"):
        SmartModel(tiny("mean"), device="cpu", trust_remote_code=True)
    assert SmartModel(tiny("mean"), device="cpu", trust_remote_code=False).anchor_dim == HIDDEN


def test_a_module_class_from_the_checkpoint_is_not_imported(tiny, tmp_path):
    folder = shutil.copytree(tiny("mean"), tmp_path / "m")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Evil: pass\n")
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "evil.Evil"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UnsupportedModelError, match="needs code that stands in its repository"):
        SmartModel(folder, device="cpu")
    assert not (tmp_path / "ran").exists()


def test_word_vectors_are_refused(tmp_path):
    from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer

    words = WhitespaceTokenizer(vocab=["alpha", "one", "zebra", "two", "probe"], stop_words=[])
    glove = WordEmbeddings(words, np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32))
    with pytest.raises(UnsupportedModelError):
        SmartModel(saved(tmp_path / "st", glove, Pooling(8)), device="cpu")


def test_a_router_is_refused_or_works(tmp_path):
    one = bert(tmp_path / "plain")
    router = Router.for_query_document(query_modules=[one, Pooling(HIDDEN)], document_modules=[one, Pooling(HIDDEN)])
    folder = saved(tmp_path / "st", router)
    try:
        model = SmartModel(folder, device="cpu")
    except UnsupportedModelError:
        return
    assert len(model.encode_query(TEXTS)) == len(TEXTS)


def test_token_dim_is_the_width_handed_out(tmp_path):
    narrow = Dense(HIDDEN, 16, module_input_name="token_embeddings", module_output_name="token_embeddings")
    folder = saved(tmp_path / "st", bert(tmp_path / "plain"), narrow, Pooling(16))
    model = SmartModel(folder, device="cpu", readout=Readout())
    assert model.token_dim == model.encode_query("sea").token_dim


# -- what it says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", POOLINGS)
def test_the_pooling_is_named(mode, smart):
    assert smart(mode).backbone.pooling == mode


def test_two_poolings_side_by_side(tmp_path):
    folder = saved(tmp_path / "st", bert(tmp_path / "plain"), Pooling(HIDDEN, pooling_mode=("cls", "mean")))
    model = SmartModel(folder, device="cpu")
    stock = SentenceTransformer(str(folder), device="cpu")
    encoded = model.encode_document(TEXTS)
    assert model.backbone.pooling == "cls+mean"
    assert (model.anchor_dim, encoded.token_dim) == (2 * HIDDEN, HIDDEN)
    assert np.abs(encoded.anchors - stock.encode(TEXTS)).max() <= 1e-6


def test_the_unknown_token_is_not_special(smart):
    backbone = smart("mean").backbone
    ids = backbone.tokenizer.convert_tokens_to_ids(["[PAD]", "[CLS]", "[SEP]", "[MASK]"])
    assert backbone.special_ids == set(ids)
    assert backbone.tokenizer.unk_token_id not in backbone.special_ids


def test_the_fingerprint_sees_every_tensor(tiny):
    backbone = SmartModel(tiny("dense-wide"), device="cpu").backbone
    seen = {backbone.fingerprint}
    for parameter in backbone.model.parameters():
        with torch.no_grad():
            parameter.view(-1)[0] += 1
        del backbone.__dict__["fingerprint"]
        seen.add(backbone.fingerprint)
    assert len(seen) == 1 + len(list(backbone.model.parameters()))
    assert all(len(digest) == 16 and set(digest) <= set(string.hexdigits) for digest in seen)


def test_token_count_counts_what_is_cut_off(smart):
    backbone = smart("prompts").backbone
    assert backbone.token_count("sea", prompt=None) == 3
    assert backbone.token_count("sea", prompt="query: ") == 5
    assert backbone.token_count("sea " * 100, prompt=None) == 102


# -- roles ---------------------------------------------------------------------------------------------------------


def test_roles_of_word_pieces(smart):
    backbone = smart("prompts").backbone
    assert backbone.rendered("otters ☃", prompt="query: ", task="query") == [
        ("[CLS]", S),
        ("query", P),
        (":", P),
        ("otter", X),
        ("##s", TokenRole.CONTINUATION),
        ("[UNK]", UNK),
        ("[SEP]", S),
    ]
    assert [role for _, role in backbone.rendered("", prompt="query: ", task="query")] == [S, P, P, S]
    assert [role for _, role in backbone.rendered("", prompt=None, task="query")] == [S, S]


def test_roles_of_a_decoder(smart):
    rendered = smart("decoder-prompts").backbone.rendered("the sea", prompt="query: ", task="query")
    assert rendered == [("query", P), (":", P), ("Ġthe", X), ("Ġsea", X), ("<|endoftext|>", S)]


def test_roles_behind_a_chat_template(smart):
    rendered = smart("chat").backbone.rendered("tax", prompt=None, task="document")
    assert "".join(token for token, _ in rendered) == "<|im_start|>userĊtax<|im_end|>Ċ"
    assert "".join(token for token, role in rendered if role == TPL) == "userĊĊ"
    assert "".join(token for token, role in rendered if role == X) == "tax"
    with_prompt = smart("chat").backbone.rendered("tax", prompt="find", task="document")
    assert "find" in "".join(token for token, role in with_prompt if role == P)
    assert [token for token, role in with_prompt if role == X] == ["tax"]


@pytest.mark.parametrize("prompt", [None, "find", "the moon:"])
def test_a_template_that_says_something_in_a_prompts_place(tiny, prompt):
    backbone = SmartModel(tiny("chat-system"), device="cpu", max_length=48).backbone
    text = "the otter swims in the sea"
    tokens = backbone.rendered(text, prompt=prompt, task="query")
    whole = "".join(token for token, _ in tokens)
    assert ("people" in whole) == (prompt is None)
    words = [token for token, role in tokens if role in (X, TokenRole.CONTINUATION)]
    assert "".join(words).replace("Ġ", " ") == text
    assert tokens[-1][1] == TPL


def test_the_start_of_a_chat_is_known_without_the_prompt_it_was_made_with(tiny):
    prompts = {"query": "find", "other": "find the"}
    backbone = SmartModel(tiny("chat-system"), device="cpu", prompts=prompts, max_length=48).backbone
    for prompt in (None, "find", "find the"):
        features = backbone.preprocess([*TEXTS, "find"], prompt=prompt, task="query")
        exact, found = (
            np.isin(roles, [int(role) for role in CONTENT_ROLES])
            for roles in (features["token_roles"], backbone.roles_without_prompt(features))
        )
        assert np.array_equal(found, exact)


def test_text_that_repeats_the_prompt_is_text(smart):
    backbone = smart("prompts").backbone
    roles = [role for _, role in backbone.rendered("query: query:", prompt="query: ", task="query")]
    assert roles == [S, P, P, X, PUNCT, X, PUNCT, S]
    # A text that begins like the probes which found the prompt's length.
    assert [role for _, role in backbone.rendered("alpha one", prompt="query: ", task=None)] == [S, P, P, X, X, S]


@pytest.mark.parametrize("name", ["prompts", "decoder-prompts", "chat"])
def test_padding_is_special_on_either_side(name, smart):
    backbone = smart(name).backbone
    prompt = None if name == "chat" else "query: "
    features = backbone.preprocess(["sea", "the sea otter swims"], prompt=prompt, task="query")
    attended = features["attention_mask"].bool()
    assert not attended.all()
    assert (features["token_roles"][~attended] == int(S)).all()
    alone = [role for _, role in backbone.rendered("sea", prompt=prompt, task="query")]
    assert features["token_roles"][0][attended[0]].tolist() == alone


def test_roles_without_prompt_agree_for_word_pieces(smart):
    backbone = smart("prompts").backbone
    features = backbone.preprocess(TEXTS, prompt="query: ", task="query")
    assert torch.equal(backbone.roles_without_prompt(features), features["token_roles"])
    # In training, the collator hands the prompt's length on as a tensor.
    features["prompt_length"] = torch.full((len(TEXTS),), int(features["prompt_length"]))
    assert torch.equal(backbone.roles_without_prompt(features), features["token_roles"])


def test_a_vocabulary_without_latin_letters(tmp_path):
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = [chr(code) for code in range(0x430, 0x450)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{x}" for x in letters)]
    BertTokenizerFast(vocab={token: i for i, token in enumerate(tokens)}, model_max_length=MAX_LENGTH).save_pretrained(
        tmp_path / "plain"
    )
    config = BertConfig(
        vocab_size=len(tokens), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(tmp_path / "plain")
    folder = saved(tmp_path / "st", Transformer(str(tmp_path / "plain")), Pooling(32))
    model = SmartModel(folder, device="cpu", readout=Readout(token_filter="content"))
    assert len(model.encode_document("вода река").token_strings(0)) == 8


@pytest.mark.parametrize("name", ["mean", "prompts", "decoder", "decoder-prompts", "chat"])
def test_cut_tokens_are_those_beyond_the_limit_without_counting_again(name, smart, monkeypatch):
    backbone = smart(name).backbone
    limit = backbone.max_length
    texts = [" ".join(["otters", "[SEP]", "xylophone", "☃"] * n) for n in (0, 1, 3, 9, 40)]
    items, prompt = [Item(text) for text in texts], backbone.prompt_for("document", None, None)
    wanted = [max(0, backbone.token_count(text, prompt=prompt, task="document") - limit) for text in texts]
    assert wanted[-1] > 0
    if name != "chat":  # a rendered chat is counted again
        monkeypatch.setattr(backbone, "_token_counts", None)
    features = backbone.preprocess(items, prompt=prompt, task="document")
    assert backbone.cut_tokens(items, features, prompt=prompt, task="document") == wanted
