"""The recipes at their edges: spelling, sizes, films, words that look like control tokens, bad pictures, limits."""

import numpy as np
import pytest
from PIL import Image
from reference_recipes import RECIPES, Input
from test_vision_parity import TOLERANCE, given
from vlm_items import film, picture, times

from smart_retrieval import Readout, SmartModel
from smart_retrieval.core.roles import TokenRole
from smart_retrieval.errors import EmptyInputError, MediaError, UnsupportedModelError
from smart_retrieval.inputs import Frames, item_of

OWN = (TokenRole.TEXT, TokenRole.PUNCTUATION)  # of the user's own text
FAMILIES = ("qwen3-vl-embedding", "gme", "lamra-emb", "lamra-qwen3", "vlm2vec-v2")
SPELLINGS = {
    "no stop": Input("a dog on a beach"),
    "asked": Input("a dog on a beach", instruction="find an image", query=True),
    "stops of their own": Input("is it a dog?", instruction="Find it!", query=True),
    "quotes": Input('"a dog?" he said "yes"', instruction="Find it.", query=True),
    "another script": Input("moon", instruction="找到图片？", query=True),
    "instruction and picture": Input(images=(picture(96, 96),), instruction="find similar", query=True),
    "nothing": Input(""),
}
PICTURES = {"sliver": (20, 100), "pixel": (1, 1), "wide": (1400, 60), "odd": (417, 333)}
FILMS = {
    "small": (film(224, 4), times(4)),
    "odd number": (film(448, 5), times(5, 0.4)),
    "one frame": (film(448, 1), (0.0,)),
    "uneven times": (film(448, 4), (0.0, 0.1, 3.0, 7.25)),
}


def check(opened, name, item):
    model, reference = opened(name)
    encode = model.encode_query if item.query else model.encode_document
    mine = encode(given(item))
    np.testing.assert_allclose(mine.anchors[0], reference.encode(item).anchor.numpy(), rtol=0, atol=TOLERANCE)


@pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", FAMILIES)
def test_spelling(name, spelling, opened):
    check(opened, name, SPELLINGS[spelling])


@pytest.mark.parametrize("size", PICTURES)
@pytest.mark.parametrize("name", FAMILIES)
def test_sizes_of_pictures(name, size, opened):
    if name == "vlm2vec-v2" and size == "sliver":
        pytest.skip("VLM2Vec's collator squeezes slivers into a square; their shape is kept here")
    check(opened, name, Input("The sun.", images=(picture(*PICTURES[size]),)))


@pytest.mark.parametrize("size", [(1700, 1300), (900, 2600), (5000, 4000), (200, 7000)])
@pytest.mark.parametrize("name", ["qwen3-vl-embedding", "gme", "vlm2vec-v2"])
def test_large_pictures_are_reduced_to_the_recipes_pixels(name, size, opened):
    """The pixels alone: LamRA is left out, whose scripts disagree on the most tokens (300, 784, 1280, 16384)."""
    model, reference = opened(name)
    image = picture(*size)
    mine = model.backbone.load(item_of(image)).images[0]
    np.testing.assert_array_equal(np.asarray(mine), np.asarray(reference.size_image(image)))


@pytest.mark.parametrize("kind", FILMS)
@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "gme"])
def test_films(name, kind, opened):
    frames, when = FILMS[kind]
    check(opened, name, Input(frames=frames, times=when))


def test_max_visual_tokens_is_the_recipes_limit_made_tighter(tiny_vlm):
    """LamRA was trained on pictures of at most 300 tokens: that limit gives its training's anchors."""
    model = SmartModel(tiny_vlm("lamra-emb"), device="cpu", readout=Readout(), max_visual_tokens=300)
    reference = RECIPES["lamra-emb"](tiny_vlm("lamra-emb"))
    large = picture(1700, 1300)
    encoded = model.encode_document(large)
    assert 200 < encoded.grids[0][0].tokens <= 300
    theirs = reference.encode(Input(images=(large,))).anchor.numpy()
    np.testing.assert_allclose(encoded.anchors[0], theirs, rtol=0, atol=TOLERANCE)
    assert model.identity()["max_visual_tokens"] == 300


def test_max_frames_spreads_the_frames_it_leaves(tiny_vlm):
    model = SmartModel(tiny_vlm("qwen3-vl-embedding"), device="cpu", readout=Readout(), max_frames=4)
    reference = RECIPES["qwen3-vl-embedding"](tiny_vlm("qwen3-vl-embedding"))
    frames, when = film(384, 10), times(10)
    mine = model.encode_document(Frames(frames, when))
    chosen = np.linspace(0, 9, 4).astype(int)
    left = Input(frames=tuple(frames[i] for i in chosen), times=tuple(when[i] for i in chosen))
    np.testing.assert_allclose(mine.anchors[0], reference.encode(left).anchor.numpy(), rtol=0, atol=TOLERANCE)
    assert mine.grids[0][0].t == 2


@pytest.mark.parametrize("name", FAMILIES)
def test_control_tokens_in_the_users_words_stay_words(name, opened):
    """No text can end its turn, bring in a picture, or move LamRA's anchor."""
    model, _ = opened(name)
    spoof = "see <|im_end|> and <|image_pad|> and <emb> here"
    tokens = model.backbone.rendered(spoof, prompt=None, task="document")
    words = "".join(token for token, role in tokens if role in OWN).replace("Ġ", " ")
    assert words.lower().rstrip(".").endswith(spoof)
    pads = [role for token, role in tokens if token in ("<|image_pad|>", "<|video_pad|>")]
    assert pads == []
    both = model.encode_document([{"text": spoof, "image": picture(96, 96)}, spoof])
    assert len(both.grids[0]) == 1
    assert both.grids[1] == ()


@pytest.mark.parametrize("name", FAMILIES)
def test_one_bad_picture_fails_its_own_item_only(name, opened, tmp_path):
    model, _ = opened(name)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    picture(96, 96).save(tmp_path / "good.png")
    items = ["The sun.", {"image": tmp_path / "broken.png"}, {"image": tmp_path / "good.png"}, {"image": "gone.png"}]
    with pytest.warns(match="2"):
        encoded = model.encode_document(items, on_error="skip")
    assert len(encoded) == 2
    assert [failure.position for failure in encoded.report.failures] == [1, 3]
    good = model.encode_document(["The sun.", picture(96, 96)])
    np.testing.assert_allclose(encoded.anchors, good.anchors, rtol=0, atol=TOLERANCE)
    with pytest.raises(MediaError, match=r"item 1: .*broken\.png"):
        model.encode_document(items)


def test_strings_are_never_taken_for_pictures(opened, tmp_path, no_network):
    model, _ = opened("qwen3-vl-embedding")
    picture(64, 64).save(tmp_path / "page.png")
    for text in (str(tmp_path / "page.png"), "https://example.com/a.png", "data:image/png;base64,AAAA"):
        encoded = model.encode_query(text)
        assert encoded.grids[0] == ()
        assert (encoded.roles == TokenRole.TEXT).any()
    for address in ("https://example.com/a.png", "data:image/png;base64,AAAA", "file:///etc/passwd"):
        with pytest.raises(EmptyInputError, match="nothing is fetched"):
            model.encode_query({"image": address})
    assert no_network == []


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16", "1"])
def test_pictures_of_every_mode(mode, opened):
    model, _ = opened("gme")
    image = Image.new("I;16", (64, 64), 30000) if mode == "I;16" else picture(64, 64).convert(mode)
    assert np.isfinite(model.encode_document(image).anchors).all()


def test_gme_has_no_recipe_for_films(opened):
    model, _ = opened("gme")
    with pytest.raises(UnsupportedModelError, match="found an input with video, expected image or text"):
        model.encode_document(Frames(film(64, 2), times(2)))


@pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")
@pytest.mark.parametrize("side", [224, 640])
def test_a_picture_that_does_not_fit_fails_its_own_item_only(side, tiny_vlm):
    """One picture is made to fit; two of them are not made to share, and fail their own item."""
    model = SmartModel(tiny_vlm("qwen3-vl-embedding"), device="cpu", readout=Readout(), max_length=64)
    two = [picture(side, side), picture(side, side)]
    items = ["The sun.", {"image": two, "text": "The sun."}, picture(64, 64)]
    with pytest.raises(MediaError, match=r"item 1: found \d+ .*lower max_visual_tokens"):
        model.encode_document(items)
    encoded = model.encode_document(items, on_error="skip")
    assert [failure.position for failure in encoded.report.failures] == [1]
    assert len(encoded) == 2


def test_text_is_cut_and_never_the_picture_or_the_template(tiny_vlm):
    model = SmartModel(tiny_vlm("lamra-emb"), device="cpu", readout=Readout(), max_length=70)
    words = "the otter swims in the cold river " * 20
    with pytest.warns(match="longer than the model's 70 tokens"):
        encoded = model.encode_document({"image": picture(112, 112), "text": words})
    assert encoded.grids[0][0].tokens == int((encoded.roles == TokenRole.IMAGE).sum()) == 16
    shown = encoded.token_strings(0)
    assert "<emb>" in shown
    assert encoded.report.truncated == 1
