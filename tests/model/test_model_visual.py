"""SmartModel over pictures and video: one bad item, batches, slices, files, and saving."""

import warnings

import numpy as np
import pytest
from PIL import Image

from smart_retrieval import SmartEmbeddings, SmartModel
from smart_retrieval.core.roles import TokenRole
from smart_retrieval.embeddings import Grid
from smart_retrieval.errors import MediaError, ModelNotFoundError, ReadoutError, SmartWarning, UnsupportedModelError
from smart_retrieval.inputs import Frames


@pytest.fixture(scope="module")
def model(tiny_vlm):
    return SmartModel(tiny_vlm("qwen3-vl-embedding"), device="cpu")


def picture(height=64, width=96, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def clip(frames=3, seed=5):
    return Frames(tuple(picture(64, 64, seed + i) for i in range(frames)), tuple(0.5 * i for i in range(frames)))


def items():
    return [
        "a red circle",
        picture(64, 96, 1),
        {"text": "which of them", "image": [picture(64, 64, 2), picture(96, 64, 3)]},
        {"video": clip()},
        {"text": "", "image": picture(32, 320, 4), "instruction": "Find the page."},
        "",
    ]


def test_grids_cover_the_visual_tokens(model):
    encoded = model.encode_document(items())
    assert encoded.grids == [
        (),
        (Grid("image", 1, 2, 3),),
        (Grid("image", 1, 2, 2), Grid("image", 1, 3, 2)),
        (Grid("video", 2, 12, 12),),
        (Grid("image", 1, 1, 10),),
        (),
    ]
    for one in encoded:
        visual = np.isin(one.roles, [int(TokenRole.IMAGE), int(TokenRole.VIDEO)])
        assert visual.sum() == sum(grid.tokens for grid in one.grids[0])
        assert (one.token_ids[visual] == -1).all()
        assert (one.token_ids[~visual] >= 0).all()
    assert encoded.report.items == 6


def test_an_empty_item_is_counted_as_empty(model):
    with pytest.warns(SmartWarning, match="1 of 6 documents have no content"):
        assert model.encode_document(items()).report.empty == 1


@pytest.mark.parametrize("batch_size", [1, 2, 6])
def test_the_batch_changes_nothing(model, batch_size):
    together = model.encode_document(items())
    parts = model.encode_document(items(), batch_size=batch_size)
    np.testing.assert_allclose(parts.anchors, together.anchors, atol=1e-5)
    np.testing.assert_allclose(parts.token_vectors, together.token_vectors, atol=1e-5)
    assert parts.grids == together.grids


def test_slices_and_joins_keep_the_grids(model):
    encoded = model.encode_document(items())
    assert encoded[2].grids == [encoded.grids[2]]
    assert encoded[[3, 1]].grids == [encoded.grids[3], encoded.grids[1]]
    assert encoded[1:4].grids == encoded.grids[1:4]
    assert SmartEmbeddings.concatenate([encoded[:2], encoded[2:]]).grids == encoded.grids
    assert encoded.astype("float16").grids == encoded.grids


@pytest.mark.parametrize("name", ["x.safetensors", "folder"])
def test_files_keep_the_grids(model, tmp_path, name):
    encoded = model.encode_document(items())
    encoded.save(tmp_path / name)
    assert SmartEmbeddings.load(tmp_path / name, mmap=name == "folder").grids == encoded.grids


def test_streaming_to_disk_equals_memory(model, tmp_path):
    streamed = model.encode_document(iter(items()), out=tmp_path / "out")
    encoded = model.encode_document(items())
    assert streamed.grids == encoded.grids
    np.testing.assert_array_equal(streamed.anchors, encoded.anchors)


# -- one bad item --------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "broken.png"
    picture().save(path)
    path.write_bytes(path.read_bytes()[:100])
    return path


def test_the_error_of_a_bad_picture_names_its_item(model, broken):
    with pytest.raises(MediaError, match=r"item 1: .*broken\.png"):
        model.encode_document(["fine", broken, picture()])


def test_a_bad_picture_fails_its_own_item_only(model, broken, tmp_path):
    good = [item for item in items() if item != ""]
    mixed = [good[0], broken, *good[1:], tmp_path / "missing.png"]
    with pytest.warns(SmartWarning, match="2 documents were skipped.*item 1: .*broken"):
        skipped = model.encode_document(mixed, on_error="skip")
    assert [failure.position for failure in skipped.report.failures] == [1, len(mixed) - 1]
    assert "missing.png" in skipped.report.failures[1].reason
    alone = model.encode_document(good)
    np.testing.assert_allclose(skipped.anchors, alone.anchors, atol=1e-5)
    assert skipped.report.items == len(good)


def test_nothing_but_bad_pictures(model, broken, tmp_path):
    for out in (None, tmp_path / "out"):
        with pytest.warns(SmartWarning, match="1 documents were skipped"):
            nothing = model.encode_document([broken], on_error="skip", out=out)
        assert (len(nothing), nothing.anchor_dim, len(nothing.report.failures)) == (0, model.anchor_dim, 1)


def test_pictures_and_videos_are_made_to_fit_the_longest_input(tiny_vlm):
    small = SmartModel(tiny_vlm("qwen3-vl-embedding"), device="cpu", max_length=600)
    long = Frames(tuple(picture(64, 64, i) for i in range(40)), tuple(0.5 * i for i in range(40)))
    encoded = small.encode_document([picture(2000, 2000), {"video": long}])
    assert (encoded.lengths <= 600).all()
    assert encoded.grids[0][0].tokens <= 450
    assert encoded.grids[1][0].tokens <= 450
    assert small.max_frames == 6


def test_an_item_too_large_for_the_limit_fails_alone(tiny_vlm):
    small = SmartModel(tiny_vlm("qwen3-vl-embedding"), device="cpu", max_length=64)
    several = {"image": [picture(640, 640), picture(640, 640)]}
    with pytest.warns(SmartWarning, match="visual tokens, expected at most .* beside the template"):
        done = small.encode_document([several, "fine"], on_error="skip")
    assert (len(done), done.report.failures[0].position) == (1, 0)


def test_failures_survive_files(model, broken, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmartWarning)
        skipped = model.encode_document(["fine", broken], on_error="skip")
    skipped.save(tmp_path / "x.safetensors")
    assert SmartEmbeddings.load(tmp_path / "x.safetensors").report == skipped.report


# -- limits, saving, refusing --------------------------------------------------------------------------------------


def test_visual_tokens_and_frames_are_limited(tiny_vlm):
    tight = SmartModel(tiny_vlm("qwen3-vl-embedding"), device="cpu", max_visual_tokens=6, max_frames=2)
    encoded = tight.encode_document([picture(640, 640), {"video": clip(9)}])
    assert encoded.grids[0][0].tokens <= 6
    # Small frames are not enlarged to the publisher's 128 tokens where that is above the limit.
    assert encoded.grids[1] == (Grid("video", 1, 2, 2),)
    assert (tight.max_visual_tokens, tight.max_frames) == (6, 2)
    assert {key: tight.identity()[key] for key in ("max_visual_tokens", "max_frames")} == {
        "max_visual_tokens": 6,
        "max_frames": 2,
    }


@pytest.mark.parametrize("limits", [{"max_visual_tokens": 0}, {"max_frames": -1}])
def test_limits_below_one(tiny_vlm, limits):
    with pytest.raises(ReadoutError, match="expected at least 1"):
        SmartModel(tiny_vlm("qwen3-vl-embedding"), device="cpu", **limits)


@pytest.mark.parametrize("name", ["qwen3-vl-embedding", "gme", "lamra-emb", "vlm2vec-v2"])
def test_saving_keeps_family_limits_and_vectors(tiny_vlm, name, tmp_path):
    model = SmartModel(tiny_vlm(name), device="cpu", max_visual_tokens=300)
    folder = tmp_path / "saved-under-another-name"
    model.save_pretrained(folder)
    again = SmartModel(folder, device="cpu")
    assert (again.backbone.family, again.max_visual_tokens) == (model.backbone.family, 300)
    assert again.identity()["fingerprint"] == model.identity()["fingerprint"]
    ours, theirs = (m.encode_document(["text", picture()]) for m in (model, again))
    np.testing.assert_array_equal(ours.anchors, theirs.anchors)
    np.testing.assert_array_equal(ours.token_vectors, theirs.token_vectors)


def test_a_bare_model_saves_the_pooling_that_was_chosen(tiny_vlm, tmp_path):
    model = SmartModel(tiny_vlm("bare-qwen3"), device="cpu", pooling="mean")
    model.save_pretrained(tmp_path / "m")
    assert SmartModel(tmp_path / "m", device="cpu").backbone.pooling == "mean"


def test_a_text_model_takes_no_pictures(tiny):
    with pytest.raises(UnsupportedModelError, match="found an input with image, expected text"):
        SmartModel(tiny("mean"), device="cpu").encode_document([picture()])


@pytest.mark.parametrize("what", ["missing", "unknown", "shape"])
def test_weights_that_do_not_fit_are_refused(tiny_vlm, tmp_path, what):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "Qwen3-VL-Embedding-2B"
    shutil.copytree(tiny_vlm("qwen3-vl-embedding"), folder)
    weights = load_file(folder / "model.safetensors")
    name = next(key for key in weights if "layers.1.mlp.down_proj" in key)
    if what == "missing":
        del weights[name]
    elif what == "unknown":
        weights[name.replace("down_proj", "sideways")] = weights[name].clone()
    else:
        weights[name] = weights[name][:-1].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelNotFoundError, match=f"found weights 1 {'of another shape' if what == 'shape' else what}"):
        SmartModel(folder, device="cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "gme"}, "architecture 'qwen3_vl', expected qwen2_vl"),
        ({"family": "clip"}, "family: found 'clip'"),
        ({"pooling": "mean"}, "says how it is pooled"),
        ({"trust_remote_code": True}, "never run"),
        ({"config_kwargs": {}}, r"arguments \['config_kwargs'\]"),
    ],
)
def test_arguments_that_do_not_apply_are_refused(tiny_vlm, arguments, message):
    with pytest.raises(UnsupportedModelError, match=message):
        SmartModel(tiny_vlm("qwen3-vl-embedding"), device="cpu", **arguments)
