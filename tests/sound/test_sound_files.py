"""Recordings: what is decoded is what was written, in pieces as well as whole; what is none is named."""

import numpy as np
import pytest
from fixtures.tiny_sound import tones, write_encoded, write_wav

from smart_retrieval.files import UnreadableFileError
from smart_retrieval.sound import SoundFile, opened_sound, sound_pieces


def test_samples_of_a_wav_file_come_through_unchanged(tmp_path):
    path = write_wav(tmp_path / "a.wav", tones(440, 880))
    sound = opened_sound(path, 16_000, 30)
    assert sound.samples == pytest.approx(tones(440, 880), abs=2 / 32768)
    assert (sound.seconds, sound.left_out) == (2.0, 0.0)


def test_stereo_is_averaged_and_resampled(tmp_path):
    both = np.stack([tones(440, rate=44_100), tones(440, rate=44_100)], axis=1)
    sound = opened_sound(write_wav(tmp_path / "a.wav", both, 44_100), 16_000, 30)
    assert np.abs(sound.samples - tones(440))[100:-100].max() < 1e-3, "no louder than each channel"


@pytest.mark.parametrize(
    ("name", "codec", "tolerance"), [("a.flac", "flac", 1e-3), ("a.mp3", "libmp3lame", 0.1), ("a.m4a", "aac", None)]
)
def test_other_formats(tmp_path, name, codec, tolerance):
    path = write_encoded(tmp_path / name, tones(440, 880), codec)
    sound = opened_sound(path, 16_000, 30)
    assert sound.seconds == pytest.approx(2.0, abs=0.15)
    if tolerance is not None:  # AAC begins with a frame of silence
        assert np.abs(sound.samples[:30_000] - tones(440, 880)[:30_000])[500:15_000].max() < tolerance
    loudest = np.abs(np.fft.rfft(sound.samples[4_000:12_000])).argmax() * 2
    assert loudest == pytest.approx(440, abs=4)


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.flac", "flac")])
def test_pieces_lie_one_behind_the_other(tmp_path, name, codec):
    path = write_encoded(tmp_path / name, tones(300, 500, 700, 900, 1100), codec)
    whole = opened_sound(path, 16_000, 30).samples
    pieces = sound_pieces(path, 2)
    assert len(pieces) == 3
    assert [piece.end for piece in pieces[:-1]] == [piece.start for piece in pieces[1:]]
    assert max(piece.end - piece.start for piece in pieces) <= 2
    found = [piece.sound(16_000, 2) for piece in pieces]
    together = np.concatenate([sound.samples for sound in found])
    assert np.array_equal(together, whole[: len(together)])
    assert len(whole) - len(together) < 1_600
    # In another order, which needs what was read before once more.
    for piece, sound in [*zip(pieces, found, strict=True)][::-1]:
        again = piece.sound(16_000, 2)
        assert np.array_equal(again.samples, sound.samples)
        assert (again.start, again.left_out) == (piece.start, 0.0)


def test_no_piece_is_a_tail_of_nothing(tmp_path):
    path = write_wav(tmp_path / "a.wav", np.zeros(16_000 * 3 + 8, np.float32))
    assert [(piece.start, piece.end) for piece in sound_pieces(path, 3)] == [(0.0, 3.0)]
    assert len(sound_pieces(path, 2)) == 2


def test_what_a_model_does_not_hear_is_counted(tmp_path):
    sound = opened_sound(write_wav(tmp_path / "a.wav", tones(440, 880, 990)), 16_000, 1.25)
    assert (sound.seconds, sound.left_out) == (1.25, 1.75)
    part = SoundFile(tmp_path / "a.wav", 1, 2).sound(16_000, 30)
    assert part.samples == pytest.approx(tones(880), abs=2 / 32768)
    assert (part.start, part.end, part.left_out) == (1.0, 2.0, 0.0)


def test_a_file_that_changed_is_read_anew(tmp_path):
    path = write_wav(tmp_path / "a.wav", tones(440))
    SoundFile(path, 0, 0.5).sound(16_000, 30)
    write_wav(path, tones(880, 990))
    assert SoundFile(path, 0.5, 1).sound(16_000, 30).samples == pytest.approx(tones(880)[8_000:], abs=2 / 32768)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("empty.wav", b"", "empty, expected a recording"),
        ("noise.mp3", bytes(range(1, 250)) * 40, "not a readable recording"),
        ("list.wav", b"#EXTM3U\nhttp://example.org/a.mp3\n", "not a readable recording"),
        ("cut.wav", b"RIFF\0\0\0\0WAVEfmt ", "not a readable recording"),
    ],
)
def test_what_is_no_recording_is_named(tmp_path, name, data, reason):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UnreadableFileError, match=f"{name}: {reason}"):
        opened_sound(tmp_path / name, 16_000, 30)
    with pytest.raises(UnreadableFileError, match=f"{name}: {reason}"):
        sound_pieces(tmp_path / name, 30)


def test_parts_that_cannot_be(tmp_path):
    path = write_wav(tmp_path / "a.wav", tones(440))
    with pytest.raises(UnreadableFileError, match=r"shorter than 0\.1 s"):
        SoundFile(path, 5, 6).sound(16_000, 30)
    with pytest.raises(UnreadableFileError, match=r"shorter than 0\.1 s"):
        sound_pieces(write_wav(tmp_path / "b.wav", tones(440)[:100]), 30)
    for start, end in ((2, 1), (-1, 1), (1, 1)):
        with pytest.raises(UnreadableFileError, match="not a part"):
            SoundFile(path, start, end)


def test_a_video_without_sound_is_named(tmp_path):
    from fixtures.tiny_video import tiny_video

    with pytest.raises(UnreadableFileError, match="no sound in it"):
        opened_sound(tiny_video(tmp_path / "clip.mp4", 3), 16_000, 30)
