"""Sound in memory is kept as one channel of floats, and what cannot be is refused."""

import numpy as np
import pytest
from fixtures.tiny_sound import tones
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.errors import MediaError
from smart_retrieval.sound import Sound, opened_sound


@pytest.mark.parametrize("axis", [0, 1])
def test_channels_are_averaged_whichever_way_they_lie(axis):
    left, right = tones(440), tones(880)
    sound = Sound(np.stack([left, right], axis=axis), 16_000)
    assert sound.samples == pytest.approx((left + right) / 2, abs=1e-7)
    assert (sound.seconds, sound.end) == (1.0, 1.0)


def test_whole_numbers_are_brought_to_a_full_scale_of_one():
    assert Sound(np.array([-32768, 16384], np.int16), 8_000).samples.tolist() == [-1.0, 0.5]
    assert Sound(np.array([-(2**31), 2**30], np.int32), 8_000).samples.tolist() == [-1.0, 0.5]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(0), "found samples of type"),
        (np.zeros(4, np.uint8), "found samples of type uint8"),
        (np.zeros((2, 2, 2)), "shape"),
        (np.zeros(4, complex), "complex"),
        (np.array([0.0, np.nan]), "NaN"),
        (np.zeros((100, 100)), "at most 64 channels"),
    ],
)
def test_other_samples_are_refused(samples, message):
    with pytest.raises(MediaError, match=message):
        Sound(samples, 16_000)


@pytest.mark.parametrize("rate", [0, 999, 1e4, "16000", True, 10**6])
def test_an_implausible_rate_is_refused(rate):
    with pytest.raises(MediaError, match="sampling rate"):
        Sound(np.zeros(8), rate)


@given(st.integers(1_000, 4_000), st.floats(0.2, 2), st.floats(0.1, 3))
def test_what_is_cut_off_is_counted(rate, seconds, most):
    whole = Sound(np.zeros(max(1, round(rate * seconds)), np.float32), rate)
    cut = whole.cut(most)
    assert cut.seconds <= most or cut is whole
    assert cut.seconds + cut.left_out == pytest.approx(whole.seconds)


def test_resampled_tones_keep_their_pitch():
    sound = opened_sound(Sound(tones(440, rate=44_100), 44_100), 16_000, 30)
    assert (sound.rate, len(sound.samples)) == (16_000, 16_000)
    assert np.abs(sound.samples - tones(440))[100:-100].max() < 1e-3
    same = Sound(tones(440), 16_000)
    assert opened_sound(same, 16_000, 30) is same


def test_sound_too_short_for_a_token_is_refused():
    with pytest.raises(MediaError, match=r"0\.050 s, expected at least 0\.1 s"):
        opened_sound(Sound(np.zeros(800), 16_000), 16_000, 30)
