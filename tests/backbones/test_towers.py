"""CLIP, SigLIP and SigLIP 2: anchors as published, words and patches in the same space, late scores off by default."""

from functools import cache

import numpy as np
import pytest
import torch
from fixtures.tiny_towers import ARCH, DIM, save_towers
from PIL import Image

from smart_retrieval import Readout, SmartIndex, SmartModel, anchor_scores
from smart_retrieval.core.roles import WORD_ROLES, TokenRole
from smart_retrieval.errors import ModelNotFoundError, ReadoutError, UnsupportedModelError
from smart_retrieval.inputs import Frames
from smart_retrieval.model.describe import describe_model

TEXTS = ["the otter swims", "a", "tax is due in the cold, now!", ""]

pytestmark = pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")


def picture(height, width, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


PICTURES = [picture(40, 60), picture(64, 32, 1)]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return cache(lambda name: save_towers(tmp_path_factory.mktemp(name) / name, name))


@pytest.fixture(scope="session")
def opened(folder):
    return cache(lambda name: SmartModel(folder(name), device="cpu", readout=Readout()))


def features_of(name, model, texts=None, images=None):
    """What transformers itself gives, called as its documentation says: SigLIP's texts have one length, and no mask."""
    first = model.backbone.transformer
    with torch.no_grad():
        if texts is not None:
            kind = {"padding": True} if name == "clip" else {"padding": "max_length", "max_length": 24}
            given = first.tokenizer(texts, truncation=True, return_tensors="pt", **kind)
            return given, first.model.get_text_features(**given)
        given = first.pictures(images, return_tensors="pt")
        return given, first.model.get_image_features(**given, output_hidden_states=True)


@pytest.mark.parametrize("name", ARCH)
def test_anchors_are_those_of_transformers(name, opened):
    model = opened(name)
    texts, pictures = model.encode_query(TEXTS), model.encode_document(PICTURES)
    assert (model.anchor_dim, model.token_dim) == (DIM, DIM)
    assert np.abs(texts.anchors - features_of(name, model, TEXTS)[1].pooler_output.numpy()).max() <= 5e-6
    assert np.abs(pictures.anchors - features_of(name, model, None, PICTURES)[1].pooler_output.numpy()).max() <= 5e-6
    assert np.abs(texts.anchors[0] - texts.anchors[1]).max() > 0.1


def test_anchors_of_clip_are_those_of_sentence_transformers(folder, opened):
    from sentence_transformers import SentenceTransformer

    stock = SentenceTransformer(str(folder("clip")), device="cpu")
    assert np.abs(stock.encode(TEXTS) - opened("clip").encode_query(TEXTS).anchors).max() <= 5e-6
    assert np.abs(stock.encode(PICTURES) - opened("clip").encode_document(PICTURES).anchors).max() <= 5e-6


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("name", ARCH)
def test_words_are_projected_as_the_pooled_position_is(name, opened):
    model = opened(name)
    towers = model.backbone.transformer.model
    project = towers.text_projection if name == "clip" else towers.text_model.head
    given, found = features_of(name, model, TEXTS)
    states = project(found.last_hidden_state).detach().numpy()
    for row, one in enumerate(model.encode_query(TEXTS[:3])):
        places = [i for i, token in enumerate(given["input_ids"][row].tolist()) if token in set(one.token_ids.tolist())]
        assert len(places) == one.lengths.sum() > 0
        assert np.abs(unit(states[row, places]) - one.token_vectors).max() <= 1e-5
    # The pooled position itself, read as a token, is the anchor: the first end token, or the last position.
    pooled = given["input_ids"][0].tolist().index(0) if name == "clip" else -1
    assert np.abs(states[0, pooled] - found.pooler_output[0].detach().numpy()).max() <= 1e-5


@pytest.mark.parametrize("name", ARCH)
def test_patches_are_what_the_pooling_would_give_of_one_alone(name, opened):
    model = opened(name)
    vision = model.backbone.transformer.model.vision_model
    _, found = features_of(name, model, None, PICTURES)
    with torch.no_grad():
        for row, one in enumerate(model.encode_document(PICTURES)):
            (grid,) = one.grids[0]
            assert one.lengths.sum() == grid.tokens
            if name == "clip":
                below = vision.post_layernorm(found.hidden_states[-2][row, 1:])
                expected = model.backbone.transformer.model.visual_projection(below)
            else:
                # Attention over a single patch has all its weight there.
                expected = vision.head(found.last_hidden_state[row, : grid.tokens].unsqueeze(1))
            assert np.abs(unit(expected.numpy()) - one.token_vectors).max() <= 1e-5
            assert set(one.roles.tolist()) == {TokenRole.IMAGE}


@pytest.mark.parametrize("name", ARCH)
def test_texts_and_pictures_mix_in_a_batch(name, opened):
    model = opened(name)
    items = [TEXTS[0], PICTURES[0], TEXTS[2], PICTURES[1]]
    mixed = model.encode_document(items)
    for together, item in zip(mixed, items, strict=True):
        alone = model.encode_document(item)
        assert np.abs(alone.anchors - together.anchors).max() <= 1e-5
        assert np.abs(alone.token_vectors - together.token_vectors).max() <= 1e-5
        assert (alone.roles.tolist(), alone.grids) == (together.roles.tolist(), together.grids)


@pytest.mark.parametrize("name", ARCH)
def test_roles_and_limits_of_a_text(name, folder, opened):
    model = opened(name)
    pairs = model.backbone.rendered("the otter, swims", prompt="a picture of ", task="query")
    own = model.tokenizer.convert_tokens_to_string([token for token, role in pairs if role in WORD_ROLES])
    prompt = model.tokenizer.convert_tokens_to_string([token for token, role in pairs if role == TokenRole.PROMPT])
    assert (own.split(), prompt.strip()) == (["the", "otter", "swims"], "a picture of")
    assert model.encode_query("the otter " * 30).report.truncated_tokens > 10
    assert SmartModel(folder(name), device="cpu", max_length=8).encode_query(TEXTS[2]).report.truncated == 1
    with pytest.raises(ReadoutError, match="expected 3 to 24 tokens"):
        SmartModel(folder(name), device="cpu", max_length=25)


def test_late_scores_are_off_until_they_are_asked_for(folder):
    model = SmartModel(folder("clip"), device="cpu")
    queries, documents = model.encode_query(TEXTS[:3]), model.encode_document([*PICTURES, "the cold river"])
    assert np.allclose(model.similarity(queries, documents), anchor_scores(queries, documents), atol=1e-6)
    on = model.similarity(queries, documents, lambda_late="calibrated")
    assert np.isfinite(on).all()
    assert np.abs(on - anchor_scores(queries, documents)).max() > 1e-3
    assert SmartModel(folder("clip"), device="cpu", preset="paper").preset.scoring.lambda_late == 1.0


def test_an_index_of_pictures_is_searched_with_words_and_pictures(folder, tmp_path):
    for number, image in enumerate(PICTURES):
        image.save(tmp_path / f"{number}.png")
    model = SmartModel(folder("siglip"), device="cpu")
    with SmartIndex.create(tmp_path / "index", model) as index:
        index.add([tmp_path / "0.png", tmp_path / "1.png"])
    with SmartIndex.open(tmp_path / "index") as index:
        assert len(index.search("the otter")) == 2
        hit = index.search({"image": PICTURES[1]})[0]
        assert hit.score == pytest.approx(1, abs=1e-3)  # the anchor's cosine alone


@pytest.mark.parametrize("name", ARCH)
def test_a_saved_model_gives_the_same(name, opened, tmp_path):
    model = opened(name)
    model.save_pretrained(tmp_path / "saved")
    again = SmartModel(tmp_path / "saved", device="cpu")
    items = [TEXTS[0], PICTURES[0]]
    assert np.array_equal(again.encode_document(items).anchors, model.encode_document(items).anchors)


def test_what_it_refuses_and_says(folder, opened, tmp_path):
    model = opened("clip")
    for item in ({"text": "a", "image": PICTURES[0]}, {"image": PICTURES}):
        with pytest.raises(UnsupportedModelError, match="one text or one picture"):
            model.encode_document(item)
    with pytest.raises(UnsupportedModelError, match="video"):
        model.encode_document({"video": Frames([PICTURES[0]] * 2, [0.0, 1.0])})
    with pytest.raises(ReadoutError):
        SmartModel(folder("clip"), device="cpu", readout=Readout(layers=(-2,)))
    found = describe_model(folder("clip"))
    assert (found["family"], found["modalities"]) == ("two-towers", ["image", "text"])
    assert "late scores are off" in found["smart"]["reason"]
    import shutil

    broken = shutil.copytree(folder("clip"), tmp_path / "broken")
    (broken / "preprocessor_config.json").unlink()
    with pytest.raises(ModelNotFoundError, match="two towers"):
        SmartModel(broken, device="cpu")
