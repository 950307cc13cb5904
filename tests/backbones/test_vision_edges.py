"""The recipes at their edges: spelling, sizes, films, words that look like control tokens, bad pictures, limits."""

import numpy as np
import pytest
import torch
from PIL import Image
from reference_recipes import RECIPES, Input, resized
from test_vision_parity import TOLERANCE, given
from vlm_items import film, picture, times

from smart_retrieval import Readout, Scoring, SmartModel
from smart_retrieval.core.roles import WORD_ROLES, TokenRole
from smart_retrieval.errors import EmptyInputError, MediaError, ReadoutError, UnsupportedModelError
from smart_retrieval.inputs import Frames, item_of

OWN = (*WORD_ROLES, TokenRole.PUNCTUATION)  # of the user's own text
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
@pytest.mark.parametrize("name", FAMILIES)
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


def test_gme_takes_the_middle_frame_of_the_frames_it_would_be_shown(tiny_vlm):
    model = SmartModel(tiny_vlm("gme"), device="cpu", readout=Readout(), max_frames=5)
    frames = film(224, 9)  # of which 0, 2, 4, 6, 8 are taken
    encoded = model.encode_document([Frames(frames, times(9)), frames[4], {"video": Frames(frames[:1], (0.0,))}])
    np.testing.assert_array_equal(encoded.anchors[0], encoded.anchors[1])
    assert [grid.kind for grid in encoded.grids[0]] == ["image"]
    assert SmartModel(tiny_vlm("gme"), device="cpu").max_frames == 64
    with pytest.raises(MediaError, match="without frames"):
        model.encode_document(Frames((), ()))


def test_jina_has_no_recipe_for_films(tiny_vlm):
    model = SmartModel(tiny_vlm("jina-v4-merged"), device="cpu")
    with pytest.raises(UnsupportedModelError, match="found an input with video, expected image or text"):
        model.encode_document(Frames(film(64, 2), times(2)))


def test_the_papers_lamra_sees_768_tokens_of_a_page(opened):
    model, reference = opened("lamra-qwen3")
    page = picture(1200, 1600)
    encoded = model.encode_document(page)
    assert encoded.grids[0][0].tokens == 768
    np.testing.assert_allclose(
        encoded.anchors[0], reference.encode(Input(images=(page,))).anchor, rtol=0, atol=TOLERANCE
    )


@pytest.mark.parametrize("name", ["lamra-qwen3", "lamra-qwen3-upstream"])
def test_hybrid_scores_of_lamra_are_those_of_its_recipe(name, opened):
    """Both forms of the text queries, against pages: anchors and MaxSim over what the official evaluation keeps."""
    model, reference = opened(name)
    pages = [picture(160, 96, seed) for seed in range(3)]
    asked = [Input(text, instruction="Find a page", query=True) for text in ("two otters", "tax, is due")]
    found = model.similarity(
        model.encode_query([given(item) for item in asked]), model.encode_document(pages), scoring=Scoring()
    )
    control = ("im_start", "im_end", "vision_start", "vision_end", "endoftext")
    special = set(reference.tokenizer.convert_tokens_to_ids([f"<|{name}|>" for name in control]))

    def official(item):
        one = reference.encode(item)
        kept = [place for place, token in enumerate(one.input_ids) if token not in special]
        return one.anchor, torch.nn.functional.normalize(one.states[kept], dim=-1)

    theirs = [official(Input(images=(page,))) for page in pages]
    expected = [[float(a @ b + (q @ d.T).max(dim=1).values.mean()) for b, d in theirs] for a, q in map(official, asked)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


OFFICIAL_FILMS = {
    "two": (384, 2),
    "odd": (384, 5),
    "one": (416, 1),
    "shared": (448, 48),
    "odd sizes": (387, 4),
    "exact": (1000, 22),
}


@pytest.mark.parametrize("kind", OFFICIAL_FILMS)
def test_the_official_video_budget(kind, tiny_vlm):
    """All frames share 7.86 megapixels, each brought to multiples of 32 first; a last frame alone is shown twice."""
    side, count = OFFICIAL_FILMS[kind]
    model = SmartModel(tiny_vlm("qwen3-vl-embedding"), device="cpu", readout=Readout(), video_budget="official")
    frames = tuple(picture(side + 16, side, 5) for _ in range(count))
    mine = model.backbone.load(item_of(Frames(frames, times(count)))).video
    pairs = -(-count // 2)
    most = max(min(768 * 1024, 10 * 768 * 1024 / (2 * pairs) * 2), int(128 * 1024 * 1.05))
    expected = resized(resized(frames[0], 32, 4 * 1024, 16384 * 1024), 32, 128 * 1024, most)
    np.testing.assert_array_equal(np.asarray(mine.images[0]), np.asarray(expected))
    shown = model.backbone.rendered(Frames(frames, times(count)), prompt=None, task="document")
    text = "".join(token for token, role in shown if role == TokenRole.TEMPLATE).replace("Ġ", " ")
    assert f"<{(pairs - 1) + 0.25:.1f} seconds>" in text
    assert model.identity()["video_budget"] == "official"


def test_which_video_budget_is_taken(tiny_vlm, tmp_path):
    folder = tiny_vlm("qwen3-vl-embedding")
    usual, paper = SmartModel(folder, device="cpu"), SmartModel(folder, device="cpu", preset="paper")
    assert "video_budget" not in usual.identity()
    assert paper.identity()["video_budget"] == "official"
    assert SmartModel(folder, device="cpu", preset="paper", video_budget="usual").identity() == usual.identity() | {
        "readout": paper.readout.to_dict()
    }
    for model, kept in ((usual, None), (paper, "official")):
        model.save_pretrained(tmp_path / str(kept))
        for preset in ("default", "paper"):
            again = SmartModel(tmp_path / str(kept), device="cpu", preset=preset)
            assert again.identity().get("video_budget") == kept
    assert "video_budget" not in SmartModel(tiny_vlm("gme"), device="cpu", preset="paper").identity()
    with pytest.raises(ReadoutError, match="found 'official', expected 'usual'"):
        SmartModel(tiny_vlm("gme"), device="cpu", video_budget="official")
    with pytest.raises(ReadoutError, match="video_budget: found 'small'"):
        SmartModel(folder, device="cpu", video_budget="small")


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
