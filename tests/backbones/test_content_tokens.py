"""Under the filter "content" token vectors are the user's own words and pictures, in every family."""

from functools import cache

import numpy as np
import pytest
from fixtures.tiny_models import TEXTS
from fixtures.tiny_vlm import TinyVisionModels
from hypothesis import given, settings
from hypothesis import strategies as st
from vlm_items import film, picture, times

from smart_retrieval import Readout, SmartModel
from smart_retrieval.core.roles import CONTENT_ROLES, WORD_ROLES, TokenRole
from smart_retrieval.inputs import Frames

CONTENT = Readout(token_filter="content")
TEXT_FAMILIES = ("mean", "cls-normalized", "prompts", "decoder", "decoder-prompts", "decoder-eos-is-unk", "chat")
VISION_FAMILIES = (
    "qwen3-vl-embedding", "gme", "lamra-emb", "lamra-qwen25", "lamra-qwen3", "vlm2vec-v2", "jina-v4-merged",
    "bare-qwen3",
)  # fmt: skip
INSTRUCT = "Instruct: find what the people write about the cold river and its animals when asked\nQuery: "
PROMPTS = (None, "", "query: ", "word:", "the first of all, and then the text!\n", INSTRUCT)

pytestmark = pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")

# Every vocabulary spells these, a digit only by itself; blanks and punctuation merge with the prompt's end.
written = st.lists(
    st.sampled_from([*" \n.,:!?'-", *"abz", " 7 ", "the", " sea", "otters", "query: ", "ing", "TAX", "...", "word"]),
    max_size=7,
).map("".join)


@pytest.fixture(scope="session")
def opened(tiny, tiny_vlm):
    """``opened(name)``: the checkpoint, reading content only; with room for long prompts."""

    @cache
    def of(name):
        if isinstance(name, str) and name in VISION_FAMILIES:
            kwargs = {"pooling": "lasttoken"} if name.startswith("bare") else {}
            return SmartModel(tiny_vlm(name), device="cpu", readout=CONTENT, **kwargs)
        return SmartModel(tiny(name), device="cpu", readout=CONTENT, max_length=64)

    return of


def letters(text):
    return "".join(character for character in text.casefold() if character.isalnum())


def spelled(model, encoded):
    """The words of all token vectors."""
    tokenizer = model.tokenizer
    ids = encoded.token_ids[encoded.token_ids >= 0].tolist()
    return tokenizer.convert_tokens_to_string(tokenizer.convert_ids_to_tokens(ids)).replace("##", "")


@pytest.mark.parametrize("name", TEXT_FAMILIES)
@pytest.mark.parametrize("task", ["query", "document"])
@settings(max_examples=25)
@given(text=written, prompt=st.sampled_from(PROMPTS))
def test_the_words_of_a_text_are_kept_and_no_others(name, task, text, prompt, opened):
    model = opened(name)
    encoded = getattr(model, f"encode_{task}")(text, prompt=prompt)
    found = letters(spelled(model, encoded))
    # What is longer than the model's limit is cut off.
    assert found == letters(text) or (encoded.report.truncated and letters(text).startswith(found))
    assert set(encoded.roles.tolist()) <= WORD_ROLES
    assert (encoded.lengths > 0) == bool(letters(text))


@pytest.mark.parametrize("name", VISION_FAMILIES)
@settings(max_examples=15)
@given(text=written, instruction=st.sampled_from([None, "Find it", "Find an image that matches.", INSTRUCT]))
def test_the_words_beside_an_instruction_are_kept_and_no_others(name, text, instruction, opened):
    model = opened(name)
    for encode in (model.encode_query, model.encode_document):
        encoded = encode({"text": text, "instruction": instruction})
        assert letters(spelled(model, encoded)) == letters(text)
        assert set(encoded.roles.tolist()) <= WORD_ROLES


@pytest.mark.parametrize("name", VISION_FAMILIES)
@pytest.mark.parametrize("task", ["query", "document"])
@pytest.mark.parametrize("text", ["", "the sun, and the moon.", "?!"])
def test_of_pictures_and_videos_the_visual_positions_are_kept(name, task, text, opened):
    model = opened(name)
    encode = getattr(model, f"encode_{task}")
    items = [{"text": text, "image": [picture(96, 128), picture(160, 96)], "instruction": "Find it."}]
    if "video" in model.modalities:
        items.append({"text": text, "video": Frames(film(384), times(4)), "instruction": "Find it."})
    encoded = encode(items)
    for one, grids in zip(encoded, encoded.grids, strict=True):
        visual = np.isin(one.roles, (TokenRole.IMAGE, TokenRole.VIDEO))
        assert visual.sum() == sum(grid.tokens for grid in grids) > 0
        assert set(one.roles[~visual].tolist()) <= WORD_ROLES
        assert letters(spelled(model, one)) == letters(text)


@pytest.mark.parametrize("name", TEXT_FAMILIES)
def test_prompts_by_name_and_by_default(name, tiny):
    prompts = {"query": INSTRUCT, "document": "passage: ", "other": "word of the people: "}
    model = SmartModel(tiny(name), device="cpu", readout=CONTENT, max_length=64, prompts=prompts)
    for encoded in (
        model.encode_query(TEXTS[:4]), model.encode_query(TEXTS[:4], prompt_name="other"),
        model.encode_document(TEXTS[:4]),
    ):  # fmt: skip
        assert [letters(spelled(model, one)) for one in encoded] == [letters(text) for text in TEXTS[:4]]
    model.backbone.model.prompts = {"usual": "word of the people: "}
    model.backbone.model.default_prompt_name = "usual"
    assert model.backbone.prompt_for("query", None, None) == "word of the people: "
    assert letters(spelled(model, model.encode_query("sea, otter"))) == "seaotter"


@pytest.mark.parametrize(("prompt", "text"), [("query", "ing"), ("word:", ":"), ("swim", "mingly"), ("the ", "m")])
@pytest.mark.parametrize("name", ["mean", "decoder", "decoder-prompts"])
def test_a_token_across_the_end_of_the_prompt_belongs_to_the_text(prompt, text, name, opened):
    model = opened(name)
    whole = model.tokenizer(prompt + text, add_special_tokens=False, return_offsets_mapping=True)
    own = [
        token
        for token, (_, stop) in zip(whole["input_ids"], whole["offset_mapping"], strict=True)
        if stop > len(prompt)
    ]
    roles = model.backbone.rendered(text, prompt=prompt, task="query")
    kinds = (*WORD_ROLES, TokenRole.PUNCTUATION)
    assert [token for token, role in roles if role in kinds] == model.tokenizer.convert_ids_to_tokens(own)


@pytest.mark.parametrize("name", [*TEXT_FAMILIES, *VISION_FAMILIES])
def test_the_encoder_for_training_marks_the_same(name, opened):
    """Its features hold an inexact length of the prompt at best; the roles are marked where the prompt is known."""
    model = opened(name)
    texts = ["sea", "otters, and the moon!", "?", "", "123"]
    for prompt in ("query: ", "word of the people:", INSTRUCT):
        features = model.encoder.preprocess(texts, prompt=prompt, task="query")
        expected = model.backbone.preprocess(texts, prompt=prompt, task="query")
        assert (features["token_roles"] == expected["token_roles"]).all()


@pytest.mark.parametrize("name", ["prompts", "decoder-prompts"])
@pytest.mark.parametrize("prompt", ["query: ", "word:", INSTRUCT])
def test_an_inexact_length_lets_no_prompt_through(name, prompt, opened):
    """Sentence Transformers' own features, as its modules pass them on."""
    model = opened(name)
    texts = ["sea", "otters, and the moon!", "?", "", "123", "!sea", "\nsea"]
    features = model.backbone.model.preprocess(texts, prompt=prompt, task="query")
    exact = model.backbone.roles(features, prompt=prompt, task="query")
    content = np.array([int(role) for role in CONTENT_ROLES])
    guessed = model.backbone.roles_without_prompt({**features})
    assert not (np.isin(guessed, content) & ~np.isin(exact, content)).any()


def test_families_are_all_of_them():
    named = {name.split("-")[0] for name in VISION_FAMILIES}
    assert {name.split("-")[0] for name in TinyVisionModels.builders} == named
