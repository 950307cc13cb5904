"""Recordings in files, whole or in pieces that a model hears at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MediaError
from ..extras import require
from ..files import UnreadableFileError, settled
from ..types import Array
from .decoding import decode_recording, recording_seconds
from .sources import Sound, SoundSource

#: Larger files are not read; a WAV file cannot be larger.
MAX_SOUND_BYTES = 2**32
#: Longer recordings are not read.
MAX_SOUND_SECONDS = 24 * 3600.0
# What is shorter has no token.
_SHORTEST = 0.1


@dataclass(frozen=True)
class SoundFile:
    """A recording or a part of one, decoded only when it is needed: a :class:`~smart_retrieval.sound.SoundSource`.

    Args:
        path: The file: WAV, FLAC, MP3, Ogg (Vorbis, Opus), AAC and what else FFmpeg reads.
        start: Second it begins at; the beginning when None.
        end: Second it ends at; the end of the recording when None.

    Example:
        >>> SoundFile(Path("talk.mp3"), start=60, end=90).sound(16_000, 30).seconds  # doctest: +SKIP
        30.0
    """

    path: Path
    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", settled(self.path))
        low, high = self.start or 0.0, math.inf if self.end is None else self.end
        if not 0 <= low < high or math.isinf(low):
            raise UnreadableFileError(
                self.path, "not a part", f"{self.start} to {self.end} s, expected 0 <= start < end"
            )

    def sound(self, rate: int, most_seconds: float) -> Sound:
        """At most so many seconds, at a sampling rate, channels averaged.

        Raises:
            UnreadableFileError: No recording, damaged, longer than a day, or nothing in this part of it.
            MissingExtraError: PyAV is not installed.
        """
        start = self.start or 0.0
        end = min(self.seconds() if self.end is None else self.end, MAX_SOUND_SECONDS)
        wanted = min(end - start, most_seconds)
        data = decode_recording(self.path, start, max(0.0, wanted), rate)
        samples = np.frombuffer(data, np.float32)
        if len(samples) < _SHORTEST * rate:
            found = f"{len(samples) / rate:.2f} s from {start:g} s on"
            raise UnreadableFileError(self.path, f"shorter than {_SHORTEST:g} s", found)
        try:
            return Sound(samples, rate, start, max(0.0, end - start - wanted))
        except MediaError as error:
            raise UnreadableFileError(self.path, "a damaged recording", str(error)) from error

    def seconds(self) -> float:
        """How long the whole recording is.

        Raises:
            UnreadableFileError: No recording, or longer than a day.
        """
        found = recording_seconds(self.path, MAX_SOUND_SECONDS)
        if found > MAX_SOUND_SECONDS:
            raise UnreadableFileError(self.path, f"longer than {MAX_SOUND_SECONDS / 3600:g} hours")
        return found


def sound_pieces(path: str | Path, most_seconds: float) -> list[SoundFile]:
    """The pieces of equal length, as few as possible, that a model hears a recording in.

    Args:
        path: The file.
        most_seconds: Longest piece.

    Raises:
        UnreadableFileError: No recording, or longer than a day.
        MissingExtraError: PyAV is not installed.
    """
    path = Path(path)
    seconds = SoundFile(path).seconds()
    if seconds < _SHORTEST:
        raise UnreadableFileError(path, f"shorter than {_SHORTEST:g} s", f"{seconds:.2f} s")
    # Packets are whole, and a few samples more are no piece of their own.
    count = max(1, math.ceil((seconds - _SHORTEST) / most_seconds))
    bounds = [round(number * seconds / count, 2) for number in range(count)]
    return [SoundFile(path, start, end) for start, end in zip(bounds, [*bounds[1:], round(seconds, 2)], strict=True)]


def opened_sound(source: Path | Sound | SoundSource, rate: int, most_seconds: float) -> Sound:
    """At most so many seconds of any sound, at a sampling rate.

    Args:
        source: A file's path, sound in memory, or what gives some.
        rate: Samples a second.
        most_seconds: What is beyond is cut off, and counted in :attr:`Sound.left_out`.

    Raises:
        MediaError: It cannot be read, or is shorter than 0.1 s.
        MissingExtraError: PyAV, which decodes and resamples, is not installed.
    """
    if isinstance(source, Path):
        source = SoundFile(source)
    if not isinstance(source, Sound):
        return source.sound(rate, most_seconds)
    if source.seconds < _SHORTEST:
        raise MediaError(f"found sound of {source.seconds:.3f} s, expected at least {_SHORTEST:g} s")
    cut = source.cut(most_seconds)
    if cut.rate == rate:
        return cut
    return Sound(_resampled(cut.samples, cut.rate, rate), rate, cut.start, cut.left_out).cut(most_seconds)


def _resampled(samples: Array, rate: int, wanted: int) -> Array:
    av: Any = require("av", "audio")
    frame = av.AudioFrame.from_ndarray(samples[None, :], format="fltp", layout="mono")
    frame.rate = rate
    resampler = av.AudioResampler(format="fltp", rate=wanted)
    found: Array = np.concatenate(
        [part.to_ndarray()[0] for given in (frame, None) for part in resampler.resample(given)]
    )
    return found
