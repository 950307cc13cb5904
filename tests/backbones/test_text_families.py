"""Current text families on tiny checkpoints of their real architectures, laid out as their repositories are."""

import json
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from fixtures.tiny_models import TEXTS
from fixtures.tiny_text_families import FAMILIES, HIDDEN, families_table, save_family
from sentence_transformers import SentenceTransformer

from smart_retrieval import Readout, SmartIndex, SmartModel
from smart_retrieval.backbones.text_families import text_families, text_family_of
from smart_retrieval.core.roles import WORD_ROLES, TokenRole
from smart_retrieval.errors import ReadoutError, SmartWarning, UnsupportedModelError
from smart_retrieval.model.describe import describe_model

NAMES = list(FAMILIES)
SHORT = [text for text in TEXTS if len(text) < 40 and text.isascii()]

pytestmark = pytest.mark.filterwarnings("ignore:.*longer than the model:smart_retrieval.errors.SmartWarning")


@pytest.fixture(scope="session")
def family(tmp_path_factory):
    """``family(name)``: the folder of a family's checkpoint. Read-only."""
    return cache(lambda name: save_family(tmp_path_factory.mktemp(name), name))


@pytest.fixture(scope="session")
def opened(family):
    return cache(lambda name, **kwargs: SmartModel(family(name), device="cpu", readout=Readout(), **kwargs))


def effective(name):
    prompts = FAMILIES[name].effective
    return FAMILIES[name].prompts if prompts is None else prompts


def spelled(model, pairs, *roles):
    tokens = [token for token, its in pairs if its in roles]
    return model.tokenizer.convert_tokens_to_string(tokens).replace(" ##", "").replace("##", "")


def letters(text):
    return "".join(character for character in text.casefold() if character.isalnum())


@pytest.mark.parametrize("task", ["query", "document"])
@pytest.mark.parametrize("name", NAMES)
def test_the_anchor_is_that_of_sentence_transformers_with_the_published_prompt(name, task, family, opened):
    model, stock = opened(name), SentenceTransformer(str(family(name)), device="cpu")
    prompt = effective(name).get(task) or None
    assert model.backbone.prompt_for(task, None, None) == prompt
    expected = stock.encode(TEXTS, prompt=prompt)
    encoded = getattr(model, f"encode_{task}")(TEXTS)
    assert encoded.anchor_dim == HIDDEN
    assert np.abs(encoded.anchors - expected).max() <= 1e-6
    assert np.abs(expected[:, None] - expected[None]).max() > 0.05  # weights that tell texts apart
    assert (np.abs(np.linalg.norm(expected, axis=1) - 1).max() < 1e-5) == FAMILIES[name].normalized


@pytest.mark.parametrize("name", NAMES)
def test_pooling_and_modules_are_the_checkpoints_own(name, opened):
    about = FAMILIES[name]
    backbone = opened(name).backbone
    assert backbone.pooling == about.pooling
    assert type(backbone.transformer.model).__name__ == about.architecture
    kinds = [type(module).__name__ for module in backbone.model]
    assert kinds == ["Transformer", "Pooling", *["Dense"] * len(about.dense), *["Normalize"] * about.normalized]


@pytest.mark.parametrize("task", ["query", "document"])
@pytest.mark.parametrize("name", NAMES)
def test_prompt_words_text_and_special_tokens_have_their_roles(name, task, opened):
    model, about = opened(name), FAMILIES[name]
    prompt = effective(name).get(task) or None
    for text in (*SHORT, "the sea: a river, ?", ""):
        pairs = model.backbone.rendered(text, prompt=prompt, task=task)
        assert letters(spelled(model, pairs, *WORD_ROLES)) == letters(text)
        assert letters(spelled(model, pairs, TokenRole.PROMPT)) == letters(prompt or "")
        assert {role for _, role in pairs} <= {*TokenRole} - {TokenRole.TEMPLATE, TokenRole.IMAGE, TokenRole.UNKNOWN}
        specials = [token for token, role in pairs if role == TokenRole.SPECIAL]
        assert specials == [token for token in (about.starts, about.ends) if token is not None]
        assert about.starts is None or pairs[0][0] == about.starts
        assert about.ends is None or pairs[-1][0] == about.ends


@pytest.mark.parametrize("name", NAMES)
def test_the_end_token_stays_behind_a_text_that_is_cut_off(name, family):
    model = SmartModel(family(name), device="cpu", readout=Readout(), max_length=20)
    about = FAMILIES[name]
    features = model.backbone.preprocess(["the otter swims " * 40], prompt="Query: ", task="query")
    tokens = model.tokenizer.convert_ids_to_tokens(features["input_ids"][0].tolist())
    assert len(tokens) == 20
    assert about.starts is None or tokens[0] == about.starts
    assert about.ends is None or tokens[-1] == about.ends
    assert model.encode_document("the otter swims " * 40).report.truncated == 1


@pytest.mark.parametrize("name", NAMES)
def test_padding_on_either_side_and_any_batch_give_the_same(name, family, opened):
    right = opened(name)
    padded = {"padding_side": "left"}
    left = SmartModel(family(name), device="cpu", readout=Readout(), processor_kwargs=padded)
    assert (right.tokenizer.padding_side, left.tokenizer.padding_side) == ("right", "left")
    alone = [right.encode_query(text) for text in SHORT]
    for model in (right, left):
        together = model.encode_query(SHORT)
        assert np.abs(together.anchors - np.concatenate([one.anchors for one in alone])).max() <= 5e-6
        for one, encoded in zip(alone, together, strict=True):
            assert one.token_ids.tolist() == encoded.token_ids.tolist()
            assert one.roles.tolist() == encoded.roles.tolist()
            assert np.abs(one.token_vectors - encoded.token_vectors).max() <= 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_inspect_tells_what_is_right(name, family):
    found = describe_model(family(name))
    about = FAMILIES[name]
    assert found["smart"]["applies"]
    assert (found["pooling"], found["architecture"], found["anchor_dim"]) == (about.pooling, about.architecture, HIDDEN)
    for task in ("query", "document"):
        assert found["prompts"].get(task, "") == effective(name).get(task, "")
    assert {about.starts, about.ends} - {None} <= set(found["special_tokens"])
    assert (found["recipe"] is not None) == (text_family_of([about.repository]) is not None)
    json.dumps(found)


@pytest.mark.parametrize("name", NAMES)
def test_an_index_opens_with_the_limit_that_the_checkpoint_has(name, family, tmp_path):
    """Some repositories name more tokens than the config has positions."""
    with SmartIndex.create(tmp_path / "i.smart", SmartModel(family(name), device="cpu"), codec="float16") as index:
        index.add(["the otter swims", "tax is due"], ids=["a", "b"])
        wanted = index.search("otter")[0]
    with SmartIndex.open(tmp_path / "i.smart", device="cpu") as index:
        found = index.search("otter")[0]
        assert (found.id, index.model.max_length) == (wanted.id, SmartModel(family(name), device="cpu").max_length)
        assert found.score == pytest.approx(wanted.score, abs=1e-6)


def test_the_documented_table_is_what_was_checked(family):
    page = (Path(__file__).parents[2] / "docs" / "guides" / "models.md").read_text(encoding="utf-8")
    assert families_table() in page, "run dev/models_table.py"
    for recipe in text_families().values():
        assert f"`{recipe.name}`" in page


# -- recipes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("intfloat/e5-base-v2", "e5"),
        ("intfloat/multilingual-e5-small", "e5"),
        ("intfloat/multilingual-e5-large-instruct", "e5-instruct"),
        ("BAAI/bge-large-en-v1.5", "bge-en"),
        ("BAAI/bge-base-zh-v1.5", "bge-zh"),
        ("nomic-ai/nomic-embed-text-v1.5", "nomic"),
        ("HIT-TMG/KaLM-embedding-multilingual-mini-instruct-v2.5", "kalm"),
        ("Qwen/Qwen3-Embedding-8B", "qwen3-embedding"),
        ("me/e5-base-v2-finetuned", None),
        ("BAAI/bge-reranker-base", None),
        ("sentence-transformers/all-mpnet-base-v2", None),
        ("BAAI/bge-m3-unsupervised", None),
    ],
)
def test_which_names_tell_a_family(name, recipe):
    found = text_family_of([name])
    assert (found.name if found else None) == recipe


def renamed(tiny, folder, name):
    import shutil

    return shutil.copytree(tiny("mean-normalized"), folder / name)


def test_a_recipe_fills_in_only_what_is_missing(tiny, tmp_path):
    folder = renamed(tiny, tmp_path, "e5-base-v2")
    assert SmartModel(folder, device="cpu").prompts == {"query": "query: ", "document": "passage: "}
    assert SmartModel(folder, device="cpu", prompts={"query": ""}).prompts == {"document": "passage: "}
    assert SmartModel(folder, device="cpu", family="sentence-transformers").prompts == {}
    other = renamed(tiny, tmp_path, "other")
    assert SmartModel(other, device="cpu").prompts == {}
    assert SmartModel(other, device="cpu", family="e5").prompts == {"query": "query: ", "document": "passage: "}
    config = json.loads((folder / "config_sentence_transformers.json").read_text())
    config["prompts"] = {"query": "word: "}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
    assert SmartModel(folder, device="cpu").prompts == {"query": "word: ", "document": "passage: "}


def test_a_saved_model_keeps_its_prompts_and_gets_no_others(tiny, tmp_path):
    with_recipe = SmartModel(renamed(tiny, tmp_path, "e5-base-v2"), device="cpu")
    with_recipe.save_pretrained(tmp_path / "kept")
    again = SmartModel(tmp_path / "kept", device="cpu")
    assert again.prompts == with_recipe.prompts
    assert again.backbone.identity()["recipe"] == "e5"
    # One that was saved without, in a folder whose name would tell a family today.
    SmartModel(tiny("mean"), device="cpu").save_pretrained(tmp_path / "bge-base-en")
    assert SmartModel(tmp_path / "bge-base-en", device="cpu").prompts == {}


def test_an_index_opens_with_the_recipe_it_was_made_with(tiny, tmp_path):
    from smart_retrieval import SmartIndex

    folder = renamed(tiny, tmp_path, "e5-base-v2")
    for name, family in (("with", None), ("without", "sentence-transformers")):
        model = SmartModel(folder, device="cpu", family=family)
        with SmartIndex.create(tmp_path / name, model) as index:
            index.add(TEXTS)
            hits = [hit.id for hit in index.search("the cold river")]
        with SmartIndex.open(tmp_path / name) as index:
            assert [hit.id for hit in index.search("the cold river")] == hits
            assert index.model.prompts == model.prompts


@pytest.mark.parametrize(("name", "mode"), [("qwen3-embedding", "lasttoken"), ("bge-m3", "cls"), ("kalm", "mean")])
def test_a_checkpoint_without_modules_is_pooled_as_its_family(name, mode, family, tmp_path):
    import shutil

    folder = shutil.copytree(family(name), tmp_path / FAMILIES[name].repository)
    (folder / "modules.json").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error", SmartWarning)
        model = SmartModel(folder, device="cpu", readout=Readout())
    assert model.backbone.pooling == mode
    # A chat template that came with the base model is none of the embedding model's.
    whole = SmartModel(family(name), device="cpu", readout=Readout())
    ours, theirs = (one.encode_query(SHORT, prompt="Query: ") for one in (model, whole))
    assert np.abs(ours.anchors - theirs.anchors).max() <= 1e-6
    assert ours.roles.tolist() == theirs.roles.tolist()


def test_a_checkpoint_that_does_not_say_how_it_is_pooled_warns_and_can_be_told(tiny, tmp_path):
    from smart_retrieval import SmartIndex

    plain = tiny("mean").parent / "plain"
    with pytest.warns(SmartWarning, match=r"no modules\.json.*takes mean.*pooling="):
        SmartModel(plain, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error", SmartWarning)
        model = SmartModel(plain, device="cpu", pooling="cls")
        assert model.backbone.pooling == "cls"
        with SmartIndex.create(tmp_path / "index", model) as index:
            index.add(TEXTS)
        with SmartIndex.open(tmp_path / "index") as index:
            assert index.model.backbone.pooling == "cls"
    for folder, pooling in ((plain, "max"), (tiny("mean"), "mean")):
        with pytest.raises(UnsupportedModelError, match=r"without modules\.json"):
            SmartModel(folder, device="cpu", pooling=pooling)


# -- warnings and refusals -------------------------------------------------------------------------------------------


def with_prompts(tiny, folder, prompts, default=None):
    copy = renamed(tiny, folder, "model")
    config = json.loads((copy / "config_sentence_transformers.json").read_text())
    (copy / "config_sentence_transformers.json").write_text(
        json.dumps({**config, "prompts": prompts, "default_prompt_name": default})
    )
    return copy


def test_a_model_whose_prompts_go_by_other_names_warns_once(tiny, tmp_path):
    folder = with_prompts(tiny, tmp_path, {"web_search_query": "word: ", "sts_query": "a: ", "passage": "the: "})
    model = SmartModel(folder, device="cpu")
    with pytest.warns(SmartWarning, match=r"queries are encoded without a prompt.*sts_query, web_search_query"):
        model.encode_query("sea")
    with pytest.warns(SmartWarning, match=r"documents are encoded without a prompt.*has passage"):
        model.encode_document("sea")
    with warnings.catch_warnings():
        warnings.simplefilter("error", SmartWarning)
        model.encode_query("moon")
        chosen = SmartModel(folder, device="cpu", prompts={"query": "word: ", "document": ""})
        chosen.encode_query("sea")
        chosen.encode_document("sea")
        fresh = SmartModel(folder, device="cpu")
        fresh.encode_query("sea", prompt_name="sts_query")
        fresh.encode_document("sea", prompt="")


def test_no_warning_where_there_is_nothing_to_choose(tiny, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", SmartWarning)
        for prompts, default in (({}, None), ({"sts": "a: "}, None), ({"s2p_query": "a: "}, "s2p_query")):
            model = SmartModel(with_prompts(tiny, tmp_path / f"{prompts}{default}"[:9], prompts, default), device="cpu")
            for encode in (model.encode_query, model.encode_document):
                encode("sea", prompt_name=default)


def configured(family, tmp_path, **changes):
    import shutil

    folder = shutil.copytree(family("qwen3-embedding"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


def test_an_architecture_that_is_code_in_its_repository_is_refused(family, tmp_path):
    code = {"AutoConfig": "m.Config", "AutoModel": "m.LlamaBidirectionalModel"}
    folder = configured(family, tmp_path, model_type="llama_bidirec", auto_map=code)
    with pytest.raises(UnsupportedModelError, match=r"'llama_bidirec', which exists only as code"):
        SmartModel(folder, device="cpu")
    assert not describe_model(folder)["smart"]["applies"]


def test_code_for_an_architecture_that_is_known_is_not_run_and_said_so(family, tmp_path):
    folder = configured(family, tmp_path, auto_map={"AutoModel": "modeling_qwen.Qwen2Model"})
    with pytest.warns(SmartWarning, match="brings code of its own.*'qwen3'"):
        SmartModel(folder, device="cpu")


def test_code_that_transformers_took_over_is_not_missed(family, tmp_path):
    import shutil

    folder = shutil.copytree(family("nomic-bert"), tmp_path / "nomic-embed-text-v1.5")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "m.NomicBertModel"}}))
    with warnings.catch_warnings():
        warnings.simplefilter("error", SmartWarning)
        SmartModel(folder, device="cpu")


def test_positions_of_roberta_begin_behind_the_paddings(family, tmp_path):
    import shutil

    folder = shutil.copytree(family("bge-m3"), tmp_path / "bge-m3")
    with pytest.raises(ReadoutError, match="at most the model's 128 positions"):
        SmartModel(folder, device="cpu", max_length=129)
    (folder / "sentence_bert_config.json").unlink()
    model = SmartModel(folder, device="cpu")
    assert model.max_length == 128
    assert model.encode_document("otter " * 300).report.truncated == 1


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_text_alone_is_what_it_is_among_others(name, opened):
    model = opened(name)
    alone, among = model.encode_document(["", ""]), model.encode_document(["", "a word", ""])
    np.testing.assert_allclose(alone.anchors, among.anchors[[0, 2]], atol=1e-6)
    assert alone.lengths.tolist() == among.lengths[[0, 2]].tolist()
