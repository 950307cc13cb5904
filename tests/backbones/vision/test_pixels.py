"""Pictures to patches: against the image processor of transformers, and the size rule's own promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from smart_retrieval.backbones.vision.pixels import PatchSettings, fitting_size, patches, resized
from smart_retrieval.errors import MediaError, ModelNotFoundError

SETTINGS = [
    PatchSettings(16, 2, 2, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    PatchSettings(14, 2, 2, (0.481, 0.457, 0.408), (0.268, 0.261, 0.275)),
]


def noise(height, width, frames=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


@pytest.mark.parametrize("settings", SETTINGS, ids=["16", "14"])
@pytest.mark.parametrize(("high", "wide"), [(2, 2), (3, 5), (1, 7)])
def test_a_picture_is_cut_as_transformers_cuts_it(settings, high, wide):
    from transformers import Qwen2VLImageProcessorPil

    frames = noise(high * settings.factor, wide * settings.factor)
    processor = Qwen2VLImageProcessorPil(
        patch_size=settings.patch, merge_size=2, temporal_patch_size=2, do_resize=False,
        image_mean=list(settings.mean), image_std=list(settings.std),
    )  # fmt: skip
    expected = processor([Image.fromarray(frames[0])], return_tensors="np")
    values, grid = patches(frames, settings)
    assert list(grid) == expected["image_grid_thw"][0].tolist()
    np.testing.assert_allclose(values, expected["pixel_values"], atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_step_of_a_video_is_two_frames_the_last_repeated(count):
    settings = SETTINGS[0]
    frames = noise(64, 32, count)
    values, grid = patches(frames, settings)
    assert grid == (-(-count // 2), 4, 2)
    rows = values.reshape(grid[0], 8, 3, 2, 16, 16)
    for step in range(grid[0]):
        for half in range(2):
            frame = frames[min(2 * step + half, count - 1)]
            # The first patch of a step is the upper left corner of its frames.
            corner = (frame[:16, :16].astype(np.float32) / 255 - 0.5) / 0.5
            np.testing.assert_allclose(rows[step, 0, :, half], corner.transpose(2, 0, 1), atol=1e-6)


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([28, 32]), st.integers(1, 10), st.integers(40, 2000))
def test_sizes_are_multiples_within_the_limits(height, width, factor, fewest, most):
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(MediaError, match="200 : 1"):
            fitting_size(height, width, factor, fewest, most)
        return
    tall, wide = fitting_size(height, width, factor, fewest, most)
    assert tall % factor == wide % factor == 0
    assert min(tall, wide) >= factor
    tokens = tall * wide // factor**2
    # A strip thinner than one token cannot be reduced further than one token's width.
    thin = min(tall, wide) == factor
    assert fewest <= tokens <= most or thin
    again = fitting_size(tall, wide, factor, fewest, most)
    assert again == (tall, wide) or thin


@pytest.mark.parametrize(("height", "width"), [(480, 640), (1000, 37), (33, 900), (4000, 3000), (20, 20)])
@pytest.mark.parametrize("factor", [28, 32])
def test_sizes_are_those_of_transformers(height, width, factor):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    expected = smart_resize(height, width, factor, 4 * factor**2, 1280 * factor**2)
    if min(height, width) >= factor / 2:  # below, theirs rounds a side to nothing before it enlarges
        assert fitting_size(height, width, factor, 4, 1280) == expected


def test_resizing_is_bicubic_and_leaves_a_fitting_picture_alone():
    image = Image.fromarray(noise(40, 60)[0])
    assert resized(image, (40, 60)) is image
    expected = image.resize((32, 64), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(resized(image, (64, 32))), np.asarray(expected))


@pytest.mark.parametrize("missing", ["patch_size", "image_mean", "temporal_patch_size"])
def test_a_preprocessor_config_without_a_number(missing):
    config = {
        "patch_size": 16,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    assert PatchSettings.read(config, "x").factor == 32
    del config[missing]
    with pytest.raises(ModelNotFoundError, match=missing):
        PatchSettings.read(config, "x")
